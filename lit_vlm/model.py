"""The vision-language model: the one place that names all four parts."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from lit_vlm.connectors import Connector, MLPConnector
from lit_vlm.conversation import Conversation
from lit_vlm.data.collation import Batch, Collator, Example, Reference, TextInputs
from lit_vlm.encoders import VisionEncoder
from lit_vlm.evaluation import AnsweringModule
from lit_vlm.freezing import evaluating, trains
from lit_vlm.fusions import Fusion, PickLevel
from lit_vlm.generation import out_of_range
from lit_vlm.images import Resize
from lit_vlm.language_models import LanguageModel, TokenLoss
from lit_vlm.merging import merge_visual_tokens
from lit_vlm.optim import Schedule
from lit_vlm.processing import Processor
from lit_vlm.prompts import BoxFormat, ChatTemplate, PromptFormat, QwenBoxes
from lit_vlm.sharding import is_sharded


class VisionLanguageModel(AnsweringModule):
    """Answer questions about images: an encoder, a fusion, a connector and a language model.

    Visual tokens take the places kept for them among the text tokens; the language model learns
    the answers. Any encoder, fusion, connector and language model, of this library or a user's
    project, fit together: widths and token counts are derived.

    Args:
        encoder: images to maps of visual tokens.
        language_model: token embeddings to text.
        connector: made with the widths of the fused map and of the language model.
        fusion: made with the widths of the levels, encoder by encoder.
        prompt: how a dialogue is written; None for the language model's own chat template.
        resize: how a picture of another shape is brought to the encoder's size: ``pad`` (all of
            it, the rest filled with the encoder's mean colour), ``crop`` or ``stretch``.
        max_length: most tokens of a training sequence, visual ones included.
        boxes: how boxes are written in texts; None for Qwen-VL's form (``QwenBoxes``).
        learning_rate: peak learning rate of AdamW.
        weight_decay: AdamW's decay of matrices; biases, norms and positions never decay.
        betas: AdamW's averaging of gradients and of their squares.
        warmup: steps (an integer) or share of the run (a float below 1) of linear warm-up.
        schedule: ``cosine``, ``linear`` or ``constant`` after the warm-up.
        min_learning_rate: share of the peak that the schedule ends at.
        max_new_tokens: longest answer to generate, in tokens.
        temperature: 0 for greedy decoding, else the sampling temperature.
        top_p: share of probability that sampling draws from.
        generate_in_validation: also generate answers in validation, and log their accuracy.

    Raises:
        ValueError: if an argument is out of range.
    """

    evaluation_methods = ("evaluate", "generate", "logits")

    def __init__(
        self,
        encoder: VisionEncoder,
        language_model: LanguageModel,
        connector: Callable[[int, int], Connector] = MLPConnector,
        fusion: Callable[[Sequence[Sequence[int]]], Fusion] = PickLevel,
        prompt: PromptFormat | None = None,
        resize: Resize = "pad",
        max_length: int = 2048,
        boxes: BoxFormat | None = None,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.95),
        warmup: int | float = 0.03,
        schedule: Schedule = "cosine",
        min_learning_rate: float = 0.0,
        max_new_tokens: int = 32,
        temperature: float = 0.0,
        top_p: float = 1.0,
        generate_in_validation: bool = True,
    ) -> None:
        super().__init__(
            learning_rate,
            weight_decay,
            betas,
            warmup,
            schedule,
            min_learning_rate,
            generate_in_validation,
        )
        if max_length < 1:
            raise ValueError(
                f"VisionLanguageModel: max_length must be at least 1, got {max_length}."
            )
        values = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p}
        for name, value in values.items():
            if problem := out_of_range(name, value):
                raise ValueError(f"VisionLanguageModel: {problem}")
        self.encoder = encoder
        self.fusion = fusion(encoder.dims_by_encoder)
        self.connector = connector(self.fusion.out_dim, language_model.dim)
        # Asked for now, since a grid that the connector cannot take is no use to anybody.
        self.connector.num_tokens(self.fusion.num_tokens(encoder.num_tokens))
        self.language_model = language_model
        self.prompt = prompt or ChatTemplate()
        language_model.add_tokens(self.prompt.new_tokens)
        self.resize: Resize = resize
        self.max_length = max_length
        self.boxes = boxes or QwenBoxes()
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.top_p = top_p
        self._processor: Processor | None = None

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The four parts by name, from pixels to text."""
        names = ("encoder", "fusion", "connector", "language_model")
        return {name: getattr(self, name) for name in names}

    @property
    def image_size(self) -> int:
        """Side of the images that the encoder works at, in pixels."""
        return self.encoder.image_size[0]

    def set_image_size(self, side: int) -> None:
        """Let the encoder work at another size; data loaders must be made anew.

        Raises:
            ValueError: if the encoder or the connector cannot.
        """
        self.encoder.set_image_size(side)
        self.connector.num_tokens(self.fusion.num_tokens(self.encoder.num_tokens))
        self._processor = None

    @property
    def processor(self) -> Processor:
        """How this model reads its inputs, in training, evaluation, prediction and chat.

        Raises:
            ValueError: if the language model has no tokenizer yet.
        """
        tokenizer = self.language_model.tokenizer
        if tokenizer is None:
            raise ValueError(
                "VisionLanguageModel: the language model must have a tokenizer, got none yet. Name "
                "one, or train: fit makes one from the training texts and checkpoints keep it."
            )
        if self._processor is None or self._processor.tokenizer is not tokenizer:
            patches = self.fusion.num_tokens(self.encoder.num_tokens)
            self._processor = Processor(
                tokenizer,
                self.prompt,
                image_size=self.encoder.image_size,
                tokens_per_image=self.connector.num_tokens(patches),
                resize=self.resize,
                fill=self.encoder.fill,
                max_length=self.max_length,
                boxes=self.boxes,
            )
        return self._processor

    def see(self, images: UInt8[Tensor, "I 3 H W"]) -> Float[Tensor, "I M D"]:
        """Turn images into tokens of the language model."""
        return self.connector(self.fusion(self.encoder(images).levels))

    def forward(self, batch: Batch) -> TokenLoss:
        """Return the summed loss of whole dialogues and the number of supervised tokens."""
        inputs = _required(batch.inputs)
        return self._loss(inputs, self._embed(inputs, self._visual(batch.images)))

    def logits(self, batch: Batch) -> Float[Tensor, "B T V"]:
        """Return the logits at every place of whole dialogues."""
        inputs = _required(batch.inputs)
        embeddings = self._embed(inputs, self._visual(batch.images))
        return self.language_model.logits(embeddings, inputs.attention_mask, inputs.roles)

    @torch.no_grad()
    def generate(self, batch: Batch) -> list[str]:
        """Return the model's answer to each prompt of a batch."""
        return self._answer(_required(batch.prompts), self._visual(batch.images))

    def respond(self, dialogues: Sequence[Conversation]) -> list[str]:
        """Return the model's next turn in each dialogue; images may be paths or pictures.

        Raises:
            BadSampleError: if an image cannot be read or a dialogue is too long.
        """
        processor = self.processor
        examples = [
            Example(
                encoded=None,
                prompt=processor.encode_prompt(dialogue),
                pixels=processor.pixels(dialogue),
                reference=Reference(index, dialogue, "", repeated=False),
            )
            for index, dialogue in enumerate(dialogues)
        ]
        collate = Collator(processor.pad_id, processor.image_size)
        with evaluating(self):
            return self.generate(collate(examples).to(self.device))

    def on_fit_start(self) -> None:
        """Make a tokenizer from the training texts if there is none; the same on all ranks."""
        model = self.language_model
        if model.tokenizer is not None:
            return
        datamodule = getattr(self.trainer, "datamodule", None)
        texts = getattr(datamodule, "training_texts", None)
        if texts is None:
            raise ValueError(
                "VisionLanguageModel: a tokenizer must be named (language_model.tokenizer), or the "
                "data module must have training_texts() to train one on; got neither."
            )
        if self.trainer.is_global_zero:
            model.train_tokenizer(texts())
        model.load_checkpoint_state(self.trainer.strategy.broadcast(model.checkpoint_state()))

    def evaluate(
        self, batch: Batch, with_loss: bool, with_answers: bool
    ) -> tuple[TokenLoss | None, list[str]]:
        """Return loss and answers of a batch, whose images are encoded once."""
        visual = self._visual(batch.images)
        loss, answers = None, []
        if with_loss:
            inputs = _required(batch.inputs)
            loss = self._loss(inputs, self._embed(inputs, visual))
        if with_answers:
            answers = self._answer(_required(batch.prompts), visual)
        return loss, answers

    def _visual(self, images: Tensor) -> Tensor | None:
        if len(images):
            return self.see(images)
        visual_parts = (self.encoder, self.fusion, self.connector)
        learning = torch.is_grad_enabled() and any(trains(part) for part in visual_parts)
        if not learning and not is_sharded(self):
            return None
        # Every rank must touch every part that trains or that all of them hold together: one
        # blank image, of which nothing is used. Evaluation mode keeps it out of the statistics of
        # BatchNorm.
        with evaluating(*visual_parts):
            return self.see(images.new_zeros(1, 3, *self.encoder.image_size))[:, :0]

    def _embed(self, inputs: TextInputs, visual: Tensor | None) -> Tensor:
        embeddings = self.language_model.embed(inputs.input_ids)
        if visual is None:
            visual = embeddings.new_zeros(0, 1, embeddings.shape[-1])
        return merge_visual_tokens(embeddings, inputs.is_visual, visual) + 0.0 * visual.sum()

    def _loss(self, inputs: TextInputs, embeddings: Tensor) -> TokenLoss:
        return self.language_model(embeddings, inputs.attention_mask, inputs.labels, inputs.roles)

    def _answer(self, prompts: TextInputs, visual: Tensor | None) -> list[str]:
        new = self.language_model.generate(
            self._embed(prompts, visual),
            prompts.attention_mask,
            self.processor.stop_ids,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            roles=prompts.roles,
        )
        return [self.processor.decode(ids) for ids in new.tolist()]


def _required(inputs: TextInputs | None) -> TextInputs:
    if inputs is None:
        raise ValueError(
            "VisionLanguageModel: the batch must hold whole dialogues for a loss and prompts for "
            "generation, got none. Was its loader made for another stage?"
        )
    return inputs

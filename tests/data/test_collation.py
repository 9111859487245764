import torch

from lit_vlm.conversation import Conversation
from lit_vlm.data.collation import Batch, Collator, Example, Reference, Skipped
from lit_vlm.language_models.base import IGNORED
from lit_vlm.processing import Encoded

PAD = 9
COLLATE = Collator(pad_id=PAD, image_size=(2, 3))
REFERENCE = Reference(0, Conversation("0", ()), "", repeated=False)
IMAGE = torch.arange(18, dtype=torch.uint8).reshape(3, 2, 3)
LONG = Encoded([1, 0, 2], [IGNORED, IGNORED, 2], [False, True, False], truncated=4)
SHORT = Encoded([3, 4], [IGNORED, 4], [False, False])
NONE, YES = False, True


def _example(
    encoded: Encoded | None, prompt: Encoded | None, pixels: list[torch.Tensor] | None = None
) -> Example:
    return Example(encoded, prompt, pixels or [], REFERENCE)


def test_pads_whole_dialogues_on_the_right() -> None:
    batch = COLLATE([_example(LONG, None), _example(SHORT, None)])
    assert batch.prompts is None
    assert batch.inputs is not None
    assert batch.inputs.input_ids.tolist() == [[1, 0, 2], [3, 4, PAD]]
    assert batch.inputs.labels.tolist() == [[IGNORED, IGNORED, 2], [IGNORED, 4, IGNORED]]
    assert batch.inputs.attention_mask.tolist() == [[YES, YES, YES], [YES, YES, NONE]]
    assert batch.inputs.is_visual.tolist() == [[NONE, YES, NONE], [NONE, NONE, NONE]]
    assert batch.inputs.input_ids.dtype == batch.inputs.labels.dtype == torch.int64
    assert batch.inputs.attention_mask.dtype == batch.inputs.is_visual.dtype == torch.bool


def test_pads_prompts_on_the_left() -> None:
    batch = COLLATE([_example(None, LONG), _example(None, SHORT)])
    assert batch.inputs is None
    assert batch.prompts is not None
    assert batch.prompts.input_ids.tolist() == [[1, 0, 2], [PAD, 3, 4]]
    assert batch.prompts.attention_mask.tolist() == [[YES, YES, YES], [NONE, YES, YES]]
    assert batch.prompts.is_visual.tolist() == [[NONE, YES, NONE], [NONE, NONE, NONE]]


def test_stacks_images_by_sample_and_then_by_place() -> None:
    first, second, third = IMAGE, IMAGE + 1, IMAGE + 2
    rows = [_example(LONG, LONG, [first, second]), _example(SHORT, SHORT), _example(LONG, LONG)]
    rows[2] = _example(LONG, LONG, [third])
    assert torch.equal(COLLATE(rows).images, torch.stack([first, second, third]))


def test_a_batch_may_have_no_image() -> None:
    batch = COLLATE([_example(SHORT, None)])
    assert batch.images.shape == (0, 3, 2, 3)
    assert batch.images.dtype == torch.uint8


def test_a_row_may_have_no_token() -> None:
    empty = Encoded([], [], [])
    batch = COLLATE([_example(None, empty), _example(None, SHORT)])
    assert batch.prompts is not None
    assert batch.prompts.attention_mask.tolist() == [[NONE, NONE], [YES, YES]]


def test_counts_tokens_and_cut_rows() -> None:
    batch = COLLATE([_example(LONG, SHORT), _example(SHORT, SHORT)])
    assert (len(batch), batch.num_tokens, batch.num_truncated) == (2, 5, 1)
    assert COLLATE([_example(None, SHORT)]).num_tokens == 2


def test_keeps_references_and_skipped_samples() -> None:
    skipped = Skipped(3, 0, "gone")
    rows = [Example(SHORT, None, [], REFERENCE, (skipped,)), _example(SHORT, None)]
    batch = COLLATE(rows)
    assert batch.references == (REFERENCE, REFERENCE)
    assert batch.skipped == (skipped,)


def test_moves_every_tensor() -> None:
    batch = COLLATE([_example(LONG, SHORT, [IMAGE])])
    moved = batch.to("meta")
    assert isinstance(moved, Batch)
    assert moved.inputs is not None
    assert moved.prompts is not None
    tensors = [moved.images]
    for text in (moved.inputs, moved.prompts):
        tensors += [text.input_ids, text.attention_mask, text.is_visual, text.labels]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.references == batch.references
    assert batch.images.device.type == "cpu"
    assert COLLATE([_example(SHORT, None)]).to("meta").prompts is None

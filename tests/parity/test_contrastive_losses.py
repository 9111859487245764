"""The contrastive losses on one, two and three processes, against open_clip and transformers."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import start_processes
from torch.nn.functional import normalize
from torch.testing import assert_close
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from lit_vlm.pretraining import sigmoid_contrastive_loss, softmax_contrastive_loss

open_clip_losses: Any = pytest.importorskip(
    "open_clip.loss", reason="needs open_clip_torch to compare with"
)
Loss = Callable[..., Tensor]
Results = dict[str, list[Tensor]]

NUM_PAIRS = 12
TEXT_IDS = torch.tensor([0, 1, 2, 3, 0, 5, 6, 0, 8, 9, 10, 3])  # repeated near and far
SIGMOID_MODES = ["bidir", "shift", "reduce", "gather"]
TOLERANCES = {torch.float32: 1e-6, torch.float64: 1e-12}


class Towers(nn.Module):
    """Two small towers that share a layer, and what the losses learn."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image = nn.Linear(7, 6)
        self.text = nn.Linear(5, 6)
        self.shared = nn.Linear(6, 4)
        self.log_scale = nn.Parameter(torch.tensor(2.0))
        self.bias = nn.Parameter(torch.tensor(-3.0))
        self.to(dtype)

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        vectors = (self.shared(self.image(images).tanh()), self.shared(self.text(texts).tanh()))
        return normalize(vectors[0], dim=1), normalize(vectors[1], dim=1)


def softmax(ours: Towers, images: Tensor, texts: Tensor, ids: Tensor | None = None) -> Tensor:
    return softmax_contrastive_loss(images, texts, ours.log_scale.exp(), ids)


def sigmoid(
    ours: Towers,
    images: Tensor,
    texts: Tensor,
    ids: Tensor | None = None,
    chunk_size: int | None = None,
) -> Tensor:
    scale = ours.log_scale.exp()
    return sigmoid_contrastive_loss(images, texts, scale, ours.bias, ids, chunk_size)


def open_clip_loss(
    name: str, towers: Towers, images: Tensor, texts: Tensor, ids: Tensor, **mode: Any
) -> Tensor:
    where = {"rank": 0, "world_size": 1}
    if distributed.is_initialized():
        where = {"rank": distributed.get_rank(), "world_size": distributed.get_world_size()}
    bias = {"logit_bias": towers.bias} if name == "SigLipLoss" else {}
    loss = getattr(open_clip_losses, name)(**where, **mode)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it gathers by what later releases of torch deprecate
        return loss(images, texts, logit_scale=towers.log_scale.exp(), **bias)


def without_ids(loss: Loss, **options: Any) -> Loss:
    return lambda towers, images, texts, ids: loss(towers, images, texts, **options)


OURS: dict[str, Loss] = {
    "softmax": without_ids(softmax),
    "softmax with repeated texts": softmax,
    "sigmoid": without_ids(sigmoid),
    "sigmoid in chunks": without_ids(sigmoid, chunk_size=3),
    "sigmoid with repeated texts": sigmoid,
    "sigmoid with repeated texts in chunks": partial(sigmoid, chunk_size=3),
}
CLIP = {
    f"ClipLoss local_loss={local}": partial(
        open_clip_loss, "ClipLoss", local_loss=local, gather_with_grad=True
    )
    for local in (False, True)
}
SIGLIP = {
    f"SigLipLoss {mode}": partial(open_clip_loss, "SigLipLoss", dist_impl=mode)
    for mode in SIGMOID_MODES
}
WRONG = partial(open_clip_loss, "ClipLoss", local_loss=True, gather_with_grad=False)


def assert_equal(values: list[Tensor], expected: list[Tensor], message: str = "") -> None:
    """Compare within the tolerance of the type, relative to the greatest number of each tensor."""
    assert len(values) == len(expected)
    for value, wanted in zip(values, expected, strict=True):
        tolerance = TOLERANCES[wanted.dtype] * max(1.0, float(wanted.abs().max()))
        assert_close(value, wanted, rtol=0, atol=tolerance, msg=lambda text: f"{message}: {text}")


def averaged(value: Tensor) -> Tensor:
    """Average over processes, as data parallel training does."""
    if distributed.is_initialized():
        distributed.all_reduce(value)
        value /= distributed.get_world_size()
    return value


def gathered(value: Tensor) -> Tensor:
    if not distributed.is_initialized():
        return value
    parts = [torch.empty_like(value) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, value)
    return torch.cat(parts) / len(parts)


def loss_and_gradients(loss: Loss, dtype: torch.dtype) -> list[Tensor]:
    """Return the mean loss and the gradients of all weights, then those of all embeddings."""
    towers = Towers(dtype)
    pairs = [torch.randn(NUM_PAIRS, width, dtype=dtype) for width in (7, 5)]
    rank, world = 0, 1
    if distributed.is_initialized():
        rank, world = distributed.get_rank(), distributed.get_world_size()
    images, texts, ids = (value.chunk(world)[rank] for value in (*pairs, TEXT_IDS))
    embeddings = towers(images, texts)
    for embedding in embeddings:
        embedding.retain_grad()
    value: Any = loss(towers, *embeddings, ids)
    value.backward()
    weights = [weight.grad for weight in towers.parameters() if weight.grad is not None]
    of_embeddings = [embedding.grad for embedding in embeddings]
    return [
        averaged(value.detach()),
        *(averaged(gradient) for gradient in weights),
        *(gathered(gradient) for gradient in of_embeddings if gradient is not None),
    ]


def work(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    place = f"file://{folder / 'meeting'}"
    distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=world)
    for dtype in TOLERANCES:
        losses: dict[str, Loss] = {**OURS, **CLIP, **SIGLIP, "wrong": WRONG}
        results = {name: loss_and_gradients(loss, dtype) for name, loss in losses.items()}
        torch.save(results, folder / f"{dtype}-{rank}.pt")
    torch.save(refusals(rank), folder / f"refusals-{rank}.pt")
    distributed.destroy_process_group()


def refusals(rank: int) -> list[str]:
    """Return the messages on batches that are not alike on all processes."""
    one = torch.ones(())
    ids = torch.arange(3)
    cases: list[tuple[int, int, Tensor | None]] = [
        (3 if rank else 4, 2, None),  # pairs, width, numbers of texts
        (3, 4 if rank else 2, None),
        (3, 2, ids if rank else None),
        (3, 2, ids if rank else ids[1:]),
    ]
    messages = []
    for count, width, numbers in cases:
        vectors = torch.zeros(count, width)
        with pytest.raises(ValueError, match="softmax_contrastive_loss: ") as softmax_refusal:
            softmax_contrastive_loss(vectors, vectors, one, numbers)
        with pytest.raises(ValueError, match="sigmoid_contrastive_loss: ") as sigmoid_refusal:
            sigmoid_contrastive_loss(vectors, vectors, one, one, numbers)
        messages += [str(softmax_refusal.value), str(sigmoid_refusal.value)]
    return messages


@pytest.fixture(scope="module", params=[2, 3])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the processes of a group, two or three, have written."""
    folder = tmp_path_factory.mktemp(f"ranks{request.param}")
    start_processes(work, (request.param, folder), nprocs=request.param, start_method="fork")
    return folder


def results_of(folder: Path, dtype: torch.dtype) -> list[Results]:
    return [torch.load(path) for path in sorted(folder.glob(f"{dtype}-*.pt"))]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", OURS)
def test_several_processes_have_the_loss_and_gradients_of_one(
    folder: Path, name: str, dtype: torch.dtype
) -> None:
    expected = loss_and_gradients(OURS[name], dtype)
    for results in results_of(folder, dtype):
        assert_equal(results[name], expected)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(
    ("ours", "theirs"), [("softmax", CLIP), ("sigmoid", SIGLIP), ("sigmoid in chunks", SIGLIP)]
)
def test_several_processes_have_the_loss_and_gradients_of_open_clips(
    folder: Path, ours: str, theirs: dict[str, Loss], dtype: torch.dtype
) -> None:
    for results in results_of(folder, dtype):
        for mode in theirs:
            assert_equal(results[ours], results[mode], mode)


def test_the_comparison_sees_gradients_that_do_not_reach_other_processes(folder: Path) -> None:
    """This mode of open_clip's has the right loss and wrong gradients."""
    for results in results_of(folder, torch.float64):
        (loss, *_, wrong), (expected, *_, right) = results["wrong"], results["softmax"]
        assert_close(loss, expected)
        assert (wrong - right).norm() > 0.1 * right.norm()


def test_batches_that_differ_between_processes_are_refused_on_all(folder: Path) -> None:
    lists = [torch.load(path) for path in sorted(folder.glob("refusals-*.pt"))]
    assert all(messages == lists[0] for messages in lists)
    rest = len(lists) - 1
    expected = [
        f"got {[4] + [3] * rest} pairs of widths",
        f"pairs of widths {[2] + [4] * rest}.",
        f"got {[-1] + [3] * rest} of them",
        "got 2 text_ids for 3 texts",
    ]
    for i, part in enumerate(expected):
        assert part in lists[0][2 * i]
        assert part in lists[0][2 * i + 1]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_one_process_has_the_loss_and_gradients_of_open_clips(dtype: torch.dtype) -> None:
    for ours, theirs in (("softmax", CLIP), ("sigmoid", SIGLIP), ("sigmoid in chunks", SIGLIP)):
        expected = loss_and_gradients(next(iter(theirs.values())), dtype)
        assert_equal(loss_and_gradients(OURS[ours], dtype), expected)


TEXT: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
TEXT |= {"num_attention_heads": 2}
VISION: dict[str, Any] = {**TEXT, "image_size": 16, "patch_size": 8}
TEXT |= {"vocab_size": 50, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 2}


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_losses_and_gradients_are_those_of_transformers(family: str) -> None:
    torch.manual_seed(0)
    model: Any
    if family == "clip":
        model = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=12))
    else:
        model = SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION))
        with torch.no_grad():  # transformers starts both at zero
            model.logit_scale.fill_(2.3)
            model.logit_bias.fill_(-4.0)
    words = torch.randint(3, 50, (5, 8))
    words[:, -1] = 2
    outputs = model(input_ids=words, pixel_values=torch.randn(5, 3, 16, 16), return_loss=True)
    scale = model.logit_scale.exp()
    if family == "clip":
        ours = softmax_contrastive_loss(outputs.image_embeds, outputs.text_embeds, scale)
    else:
        vectors = (outputs.image_embeds, outputs.text_embeds)
        ours = sigmoid_contrastive_loss(*vectors, scale, model.logit_bias, chunk_size=2)
    assert_close(ours, outputs.loss, rtol=1e-6, atol=1e-6)
    gradients, expected = (
        torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True)
        for loss in (ours, outputs.loss)
    )
    assert all(gradient is not None for gradient in expected)
    assert_close(gradients, expected, rtol=1e-5, atol=1e-6)

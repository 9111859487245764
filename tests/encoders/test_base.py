import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.testing import assert_close

from lit_vlm.encoders import VisionEncoder, VisualFeatures
from lit_vlm.testing import check_encoder

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.25, 0.2)


class Pixels(VisionEncoder):
    """The smallest encoder: each 2 x 2 patch is a token, each token goes through one layer."""

    def __init__(self, side: int = 4, dim: int = 8) -> None:
        super().__init__((side, side), MEAN, STD)
        self.patches = nn.Conv2d(3, dim, kernel_size=2, stride=2)
        self.dims = (dim,)
        self.grid = (side // 2, side // 2)

    def encode(self, pixels: Float[Tensor, "B 3 H W"]) -> VisualFeatures:
        level = self.patches(pixels).flatten(2).transpose(1, 2)
        return VisualFeatures((level,), self.grid)


def test_a_users_encoder_passes_the_contract() -> None:
    check_encoder(Pixels())


def test_the_contract_finds_a_width_that_is_not_kept() -> None:
    encoder = Pixels()
    encoder.dims = (9,)
    with pytest.raises(AssertionError, match=r"expected shape \(2, 4, 9\), got \(2, 4, 8\)"):
        check_encoder(encoder)


def test_the_contract_finds_a_parameter_that_learns_nothing() -> None:
    encoder = Pixels()
    encoder.idle = nn.Linear(1, 1)
    with pytest.raises(AssertionError, match="no gradient reaches .*'idle.weight', 'idle.bias'"):
        check_encoder(encoder)


def test_normalises_uint8_and_floats_alike() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    expected = [(0.0 - 0.1) / 0.5, (0.2 - 0.2) / 0.25, (1.0 - 0.3) / 0.2]
    encoder = Pixels()
    for pixels in (encoder.preprocess(images), encoder.preprocess(images / 255)):
        assert pixels.shape == (1, 3, 4, 4)
        assert_close(pixels[0, :, 2, 1], torch.tensor(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(9, 9), (2, 6)], ids=["smaller", "of another shape"])
def test_resizes_by_antialiased_bicubic_and_stays_in_range(size: tuple[int, int]) -> None:
    images = torch.randint(0, 2, (2, 3, *size), dtype=torch.uint8) * 255
    plain = interpolate(images / 255, (4, 4), mode="bicubic", antialias=True)
    mean, std = torch.tensor([MEAN, STD]).reshape(2, 3, 1, 1)
    pixels = Pixels().preprocess(images)
    assert_close(pixels, (plain.clamp(0, 1) - mean) / std)


def test_normalises_in_full_precision_before_it_rounds() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    exact = Pixels()
    rough = Pixels().to(torch.bfloat16)
    for buffer in ("mean", "std"):  # of values that bfloat16 holds
        getattr(exact, buffer).copy_(getattr(rough, buffer))
    assert torch.equal(rough.preprocess(images), exact.preprocess(images).to(torch.bfloat16))


def test_keeps_no_graph_when_nothing_trains() -> None:
    encoder = Pixels()
    images = torch.rand(1, 3, 4, 4)
    assert encoder(images).levels[0].requires_grad
    encoder.freeze()
    assert not encoder(images).levels[0].requires_grad


def test_a_frozen_encoder_passes_gradients_to_its_images() -> None:
    images = torch.rand(1, 3, 4, 4, requires_grad=True)
    torch.autograd.backward(Pixels().freeze()(images).levels[0].sum())
    assert images.grad is not None
    assert images.grad.abs().max() > 0


def test_statistics_move_with_the_module() -> None:
    names = {name for name, _ in Pixels().named_buffers()}
    assert names == {"mean", "std"}
    assert Pixels(side=8).num_tokens == 16

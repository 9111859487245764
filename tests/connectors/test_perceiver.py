import torch
from torch import nn
from torch.testing import assert_close

from lit_vlm.connectors.perceiver import PerceiverLayer


def test_latents_read_the_context_and_themselves() -> None:
    layer = PerceiverLayer(dim=4, num_heads=1)
    with torch.no_grad():
        eye = torch.eye(4)
        layer.attention.in_proj_weight.copy_(torch.cat([0 * eye, eye, eye]))  # equal weights
        layer.attention.out_proj.weight.copy_(eye)
        layer.mlp = nn.Sequential(nn.Flatten(2), nn.Linear(4, 4, bias=False))
        for parameter in layer.mlp.parameters():
            parameter.zero_()
    context = torch.tensor([[[2.0, -2.0, 2.0, -2.0], [5.0, 5.0, -5.0, -5.0]]])
    latents = torch.tensor([[[3.0, -3.0, -3.0, 3.0]]])
    # Norms make each vector of +-1; the mean of the three is added to the latent.
    mean = torch.tensor([[[1 + 1 + 1, -1 + 1 - 1, 1 - 1 - 1, -1 - 1 + 1]]]) / 3
    assert_close(layer(latents, context), latents + mean, atol=1e-4, rtol=0)


def test_no_linear_layer_has_a_bias() -> None:
    names = {name for name, _ in PerceiverLayer(dim=4, num_heads=1).named_parameters()}
    norms = {f"{norm}.bias" for norm in ("norm_context", "norm_latents", "mlp.0")}
    assert {name for name in names if "bias" in name} == norms

"""Draw who sees whom, as the library's own masks say it: attention_masks.png, beside this file."""

import sys
from pathlib import Path

import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor
from transformers.masking_utils import sdpa_mask

from lit_vlm.language_models.multimodal_causal_attention import multimodal_causal_mask
from lit_vlm.language_models.prefix_attention import prefix_mask
from lit_vlm.language_models.token_roles import TokenRoles, roles_in_force

TOKENS = ["bos", "img 1", "img 1", "what", "img 2", "img 2", "?", "a", "cat"]
VISUAL = torch.tensor([[token.startswith("img") for token in TOKENS]])
PROMPT = torch.tensor([[True] * 7 + [False] * 2])
COLORS = ["#f4f4f4", "#4477aa", "#ee6677", "#ccbb44"]
MEANINGS = ["not seen", "seen by the first softmax", "by the second", "evenly, without scores"]


def main(out: Path) -> None:
    """Draw the masks side by side."""
    length = len(TOKENS)
    sizes = {"batch_size": 1, "q_length": length, "kv_length": length}
    with roles_in_force(TokenRoles(VISUAL, PROMPT)):
        masks = {
            "sdpa (causal)": sdpa_mask(**sizes, allow_is_causal_skip=False),
            "prefix": prefix_mask(**sizes),
            "multimodal_causal": multimodal_causal_mask(**sizes),
            "multimodal_causal_published": multimodal_causal_mask(**sizes, published=True),
        }
    figure = Figure(figsize=(16, 4.6), layout="constrained")
    panels = figure.subplots(1, 4)
    for panel, (name, mask) in zip(panels, masks.items(), strict=True):
        panel.imshow(codes(mask[0]).numpy(), cmap=ListedColormap(COLORS), vmin=0, vmax=3)
        panel.set_title(name)
        panel.set_xticks(range(length), TOKENS, rotation=90)
        panel.set_yticks(range(length), TOKENS)
        panel.set_xticks([i - 0.5 for i in range(length)], minor=True)
        panel.set_yticks([i - 0.5 for i in range(length)], minor=True)
        panel.grid(which="minor", color="white", linewidth=1)
        panel.tick_params(which="both", length=0)
    panels[0].set_ylabel("a token ... sees (columns)")
    patches = [Patch(color=c, label=m) for c, m in zip(COLORS, MEANINGS, strict=True)]
    figure.legend(handles=patches, loc="outside lower center", ncols=4)
    figure.savefig(out, dpi=110)


def codes(mask: Tensor) -> Tensor:
    """Return for each pair 0 (not seen), 1 or 2 (by which softmax), 3 (evenly)."""
    softmaxes = mask if mask.dtype == torch.bool else mask > -torch.inf
    code = torch.zeros(mask.shape[-2:], dtype=torch.long)
    for number, seen in enumerate(softmaxes, start=1):
        code[seen] = number
    if mask.dtype != torch.bool:
        code[torch.isfinite(mask[1]) & (mask[1] < 0)] = 3
    return code


if __name__ == "__main__":
    default = Path(__file__).with_suffix(".png")
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else default)

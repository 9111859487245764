"""Visual tokens into the places that were kept for them."""

from jaxtyping import Bool, Float
from torch import Tensor


def merge_visual_tokens(
    embeddings: Float[Tensor, "B T D"],
    is_visual: Bool[Tensor, "B T"],
    visual: Float[Tensor, "I M D"],
) -> Float[Tensor, "B T D"]:
    """Replace the embeddings at visual places by the visual tokens, in reading order.

    Args:
        embeddings: token embeddings of the texts, anything at the visual places.
        is_visual: where the visual tokens go, M places for each image.
        visual: the tokens of all images of the batch, ordered by sample, then by position.

    Returns:
        The merged sequences; gradients reach both the texts' and the images' embeddings.

    Raises:
        ValueError: if the numbers of places and of tokens differ.
    """
    places = int(is_visual.sum())
    tokens = visual.shape[0] * visual.shape[1]
    if places != tokens:
        raise ValueError(
            f"merge_visual_tokens: the batch keeps {places} places for visual tokens, got "
            f"{tokens} tokens ({visual.shape[0]} images of {visual.shape[1]}). Build the batch "
            f"with the processor of this very model."
        )
    return embeddings.masked_scatter(is_visual.unsqueeze(-1), visual.to(embeddings.dtype))

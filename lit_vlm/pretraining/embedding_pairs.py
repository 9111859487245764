"""What contrastive losses ask of the embeddings of pairs, and which pairs they leave out."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lit_vlm.pretraining.embedding_exchange import gather_ids


def full_precision(
    images: Float[Tensor, "B D"], texts: Float[Tensor, "C D"], scale: Float[Tensor, "..."]
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "C D"], Float[Tensor, ""]]:
    """Return the embeddings and the scale in one type, of 32 bits at least.

    Half precision has three digits: at a scale of 100 the logits would be wrong by tenths.
    """
    dtype = torch.promote_types(torch.promote_types(images.dtype, texts.dtype), torch.float32)
    return images.to(dtype), texts.to(dtype), scale.reshape(()).to(dtype)


def check_pairs(
    loss: str,
    images: Float[Tensor, "B D"],
    texts: Float[Tensor, "C E"],
    text_ids: Int[Tensor, "_"] | None,
) -> None:
    """Check that images and texts are pairs, as many on each process.

    Raises:
        ValueError: on every process alike, if they are not on any of them. Otherwise some would
            wait for others for ever.
    """
    num_ids = -1 if text_ids is None else len(text_ids)
    own = torch.tensor([*images.shape, *texts.shape, num_ids], dtype=torch.int64)
    # Their sizes must be known here before embeddings can be sent: a GPU is waited for.
    table = gather_ids(own.to(images.device)).view(-1, len(own)).tolist()
    for num_images, width, *rest in table:
        if rest[:2] != [num_images, width] or num_images < 1:
            raise ValueError(
                f"{loss}: every image must have one text, of the same width, got embeddings of "
                f"shapes {(num_images, width)} and {tuple(rest[:2])}. Give one caption a picture."
            )
        if rest[2] not in (-1, num_images):
            raise ValueError(
                f"{loss}: every text must have one number, got {rest[2]} text_ids for "
                f"{num_images} texts. Give them in the order of the texts."
            )
    _check_ranks(loss, table)


def repeats(
    ids: Int[Tensor, "B"], other_ids: Int[Tensor, "C"], diagonal: int | None
) -> Bool[Tensor, "B C"]:
    """Tell which texts repeat the text of a row, and so are no wrong answer to its picture.

    Args:
        ids: number of each row's text.
        other_ids: number of each column's text.
        diagonal: column of the first row's own text, which is no repetition; ``None`` if the
            columns are texts of other rows.
    """
    repeated = ids[:, None] == other_ids
    if diagonal is not None:
        repeated.diagonal(diagonal).fill_(False)
    return repeated


def _check_ranks(loss: str, table: list[list[int]]) -> None:
    num_pairs, widths, *_, num_ids = zip(*table, strict=True)
    if len(set(num_pairs)) > 1 or len(set(widths)) > 1:
        raise ValueError(
            f"{loss}: every process must have the same number of pairs, of the same width, got "
            f"{list(num_pairs)} pairs of widths {list(widths)}. Leave out incomplete batches "
            f"(drop_last)."
        )
    if len(set(num_ids)) > 1:
        raise ValueError(
            f"{loss}: either all processes must give text_ids or none, got {list(num_ids)} of "
            f"them (-1: none). Give them on every process."
        )

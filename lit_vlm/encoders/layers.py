"""How layers are counted: 0 is the embeddings, k the output of block k, -1 the last block."""

from collections.abc import Sequence


def resolve_layers(
    who: str, layers: Sequence[int], highest: int, lowest: int = 0, network: str = ""
) -> tuple[int, ...]:
    """Return layers as non-negative numbers, in the order asked for.

    Args:
        who: the encoder's class, for messages.
        layers: numbers as a user gives them; negative ones count from the last layer.
        highest: number of the last layer.
        lowest: number of the first that can be read.
        network: the network's name, for messages.

    Raises:
        ValueError: if there is no such layer, or none is asked for.

    Example:
        >>> resolve_layers("CLIPEncoder", [-2, 1], highest=24)
        (23, 1)
    """
    if not layers:
        raise ValueError(f"{who}: layers must name at least one layer, got none.")
    resolved = tuple(layer if layer >= 0 else highest + 1 + layer for layer in layers)
    of = f" of {network}" if network else ""
    for asked, layer in zip(layers, resolved, strict=True):
        if not lowest <= layer <= highest:
            raise ValueError(
                f"{who}: layers{of} must be {lowest} to {highest} (or -1 for {highest} and down), "
                f"got {asked}."
            )
    return resolved

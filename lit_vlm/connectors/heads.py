"""How many heads share a width."""


def resolve_heads(owner: str, dim: int, num_heads: int | None, head_dim: int) -> int:
    """Return the number of attention heads; None asks for heads of about ``head_dim`` channels.

    By default there are ``dim // head_dim`` heads, or the next smaller number that divides ``dim``.

    Args:
        owner: the connector's class, for the message.
        dim: the width that the heads share.
        num_heads: number of heads, or None.
        head_dim: channels of a head by default.

    Raises:
        ValueError: if ``num_heads`` does not divide ``dim``.
    """
    if num_heads is not None:
        if num_heads < 1 or dim % num_heads:
            usual = resolve_heads(owner, dim, None, head_dim)
            raise ValueError(
                f"{owner}: num_heads must divide the width {dim}, got {num_heads}. Leave it out "
                f"for {usual}."
            )
        return num_heads
    most = max(dim // head_dim, 1)
    return next(heads for heads in range(most, 0, -1) if dim % heads == 0)

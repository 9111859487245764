"""What each token of a batch is, for attention that treats images apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenRoles:
    """What each token is; both are False at padding.

    Attributes:
        is_visual: whether a token came from an image (B, T).
        is_prompt: whether a token stands before the first answer (B, T).
    """

    is_visual: Bool[Tensor, "B T"]
    is_prompt: Bool[Tensor, "B T"]


_IN_FORCE: ContextVar[TokenRoles | None] = ContextVar("token_roles", default=None)


@contextmanager
def roles_in_force(roles: TokenRoles | None) -> Iterator[None]:
    """Let the masks that transformers makes meanwhile know the roles."""
    token = _IN_FORCE.set(roles)
    try:
        yield
    finally:
        _IN_FORCE.reset(token)


def current_roles(length: int) -> TokenRoles | None:
    """Return the roles in force, for this many tokens: generated ones are text and no prompt."""
    roles = _IN_FORCE.get()
    if roles is None:
        return None
    return TokenRoles(_extended(roles.is_visual, length), _extended(roles.is_prompt, length))


def _extended(flags: Bool[Tensor, "B T"], length: int) -> Bool[Tensor, "B T_all"]:
    return torch.nn.functional.pad(flags, (0, length - flags.shape[1]))

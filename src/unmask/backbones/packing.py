"""Rows of different lengths without their padding: everything but attention runs on real tokens only."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from unmask.types import Lengths


class Packing:
    """Where the T real tokens of a padded batch are.

    Attributes:
        visible: (B, L), true at real tokens.
        owner: (T,), each token's row.
        place: (T,), its position in the row.
    """

    def __init__(self, lengths: Lengths, length: int) -> None:
        self.visible = torch.arange(length, device=lengths.device) < lengths[:, None]
        self.owner, self.place = self.visible.nonzero().unbind(-1)
        # on the CPU, where a kernel's launch costs little, rows of one length attend together and nothing is padded
        self.groups = _groups(lengths) if lengths.device.type == "cpu" else None

    def spread(self, x: Float[Tensor, "T *S"]) -> Float[Tensor, "B L *S"]:
        """Real tokens to rows; zeros at padding."""
        rows = x.new_zeros(*self.visible.shape, *x.shape[1:])
        rows[self.owner, self.place] = x
        return rows

    def gather(self, x: Shaped[Tensor, "B L *S"]) -> Shaped[Tensor, "T *S"]:
        """Rows to real tokens."""
        return x[self.owner, self.place]


def _groups(lengths: Lengths) -> list[Tensor]:
    """For each length the tokens of its rows, (rows, length) indices into the packed tokens."""
    ends = lengths.cumsum(0)
    by_length: dict[int, list[int]] = {}
    for end, size in zip(ends.tolist(), lengths.tolist(), strict=True):
        by_length.setdefault(size, []).append(end - size)
    return [torch.tensor(starts)[:, None] + torch.arange(size) for size, starts in by_length.items() if size]

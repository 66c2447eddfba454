"""Shapes and time: the conventions that every room shares.

Shapes, as they stand in signatures:

    B batch    L length    V vocabulary    D width    H heads    N selected positions of a batch, in row-major order

Time `t` lies in [0, 1]: t = 0 is clean text, t = 1 is all noise, and s < t is the next, cleaner time.
`alpha(t)` is the share of tokens that are still themselves at time t, so 1 - alpha(t) is the masked share.
"""

from typing import TypeAlias

from jaxtyping import Bool, Float, Int
from torch import Tensor

Tokens: TypeAlias = Int[Tensor, "B L"]
"""Token ids, one row a text."""
Positions: TypeAlias = Bool[Tensor, "B L"]
"""A choice of positions: true where something holds."""
Times: TypeAlias = Float[Tensor, " B"]
"""One time a row."""
Lengths: TypeAlias = Int[Tensor, " B"]
"""Real tokens in each row; what follows them is padding."""
Logits: TypeAlias = Float[Tensor, "N V"]
"""One row of logits a selected position."""

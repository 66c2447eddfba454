"""What text reads of a stack: encoded memory tokens."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Memory:
    """Encoded thoughts of each row.

    Attributes:
        tokens: (B, M, D).
        visible: (B, M), which of them are there; always at least one.
    """

    tokens: Float[Tensor, "B M D"]
    visible: Bool[Tensor, "B M"]

    def rows(self, index: Int[Tensor, " R"]) -> "Memory":
        """Those of some rows, in that order."""
        return Memory(self.tokens[index], self.visible[index])

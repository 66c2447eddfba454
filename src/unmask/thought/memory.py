"""What text reads of a stack: encoded memory tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Memory:
    """Encoded thoughts of each row.

    Attributes:
        tokens: (B, M, D).
        visible: (B, M), which of them are there; always at least one.
        places: (B, M), where in the text each stands, the text at hand beginning at 0 and the past below it; None: nowhere.
    """

    tokens: Float[Tensor, "B M D"]
    visible: Bool[Tensor, "B M"]
    places: Float[Tensor, "B M"] | None = None

    def rows(self, index: Int[Tensor, " R"]) -> "Memory":
        """Those of some rows, in that order."""
        return Memory(self.tokens[index], self.visible[index], None if self.places is None else self.places[index])

    @staticmethod
    def join(parts: "Sequence[Memory]") -> "Memory":
        """The rows of several memories of one model."""
        places = [part.places for part in parts if part.places is not None]
        return Memory(
            torch.cat([part.tokens for part in parts]),
            torch.cat([part.visible for part in parts]),
            torch.cat(places) if places else None,
        )

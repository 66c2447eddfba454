"""How a token is drawn from a distribution: temperature, top-k, top-p, each row with its own."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.sampling.draws import categorical
from unmask.types import Logits


@dataclass(frozen=True)
class Controls:
    """Settings, one a row.

    Attributes:
        temperature: 0 takes the likeliest token, 1 the model's own distribution.
        top_k: keep the k likeliest; 0 keeps all.
        top_p: keep the likeliest that together reach this probability; 1 keeps all.
    """

    temperature: Float[Tensor, " B"]
    top_k: Int[Tensor, " B"]
    top_p: Float[Tensor, " B"]

    @staticmethod
    def of(rows: int, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> "Controls":
        """The same settings in every row.

        Raises:
            ValueError: a value out of range.
        """
        if not 0 <= temperature < float("inf"):
            raise ValueError(f"temperature must be 0 or more, not {temperature}")
        if top_k < 0:
            raise ValueError(f"top_k must be 0 (off) or more, not {top_k}")
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], not {top_p}")
        return Controls(torch.full((rows,), temperature), torch.full((rows,), top_k), torch.full((rows,), top_p))

    def to(self, device: torch.device) -> "Controls":
        """The same on another device."""
        return Controls(self.temperature.to(device), self.top_k.to(device), self.top_p.to(device))

    def draw(self, log_probs: Logits, rows: Int[Tensor, " N"], u: Float[Tensor, " N"]) -> Int[Tensor, " N"]:
        """A token for each distribution; `rows` says whose settings hold, `u` is its uniform random number."""
        temperature = self.temperature[rows]
        scaled = truncate(log_probs / temperature.clamp(min=1e-6)[:, None], self.top_k[rows], self.top_p[rows])
        return torch.where(temperature == 0, log_probs.argmax(-1), categorical(scaled, u))


def truncate(log_probs: Logits, top_k: Int[Tensor, " N"], top_p: Float[Tensor, " N"]) -> Logits:
    """-inf outside the top k, and outside the smallest set of likeliest tokens that reaches top_p."""
    if not bool(((top_k > 0) | (top_p < 1)).any()):
        return log_probs
    ordered, order = log_probs.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(ordered.shape[-1], device=ordered.device)
    probs = ordered.double().softmax(-1)
    before = probs.cumsum(-1) - probs
    keep = (rank < torch.where(top_k > 0, top_k, len(rank))[:, None]) & (before < top_p[:, None])
    # rounding may never leave nothing: the likeliest always stays
    keep[:, 0] = True
    return torch.full_like(log_probs, -torch.inf).scatter(-1, order, ordered.masked_fill(~keep, -torch.inf))

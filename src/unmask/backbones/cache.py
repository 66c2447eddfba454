"""What a causal model has read, so that each new token costs one token's work."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Cache:
    """Keys and values of every layer; rows may have read different numbers of tokens.

    Attributes:
        read: (B,) tokens that each row has read.
        width: no row has read more than this.
        length: none may read more than this.
    """

    def __init__(self, layers: int, rows: int, length: int, heads: int, head_dim: int, device: torch.device) -> None:
        self.read: Int[Tensor, " B"] = torch.zeros(rows, dtype=torch.long, device=device)
        self.width, self.length = 0, length
        self.layers = [LayerCache(rows, length, heads, head_dim, device) for _ in range(layers)]

    def places(self, new: int) -> Int[Tensor, "B N"]:
        """The positions of the next `new` tokens of each row."""
        return self.read[:, None] + torch.arange(new, device=self.read.device)

    def advance(self, lengths: Int[Tensor, " B"], new: int) -> None:
        """Count `lengths` of the `new` tokens as read; the rest was padding, and is overwritten."""
        self.read = self.read + lengths
        self.width += new

    def keep(self, rows: Int[Tensor, " R"]) -> None:
        """Forget all rows but these."""
        self.read = self.read[rows]
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]


class LayerCache:
    """One layer's keys and values, (B, S, H, K)."""

    def __init__(self, rows: int, length: int, heads: int, head_dim: int, device: torch.device) -> None:
        self.keys, self.values = (torch.zeros(rows, length, heads, head_dim, device=device) for _ in range(2))


@dataclass(frozen=True)
class Reading:
    """One layer while it reads new tokens at `places`, no row beyond `width`."""

    layer: LayerCache
    places: Int[Tensor, "B N"]
    width: int

    def extend(
        self, key: Float[Tensor, "B N H K"], value: Float[Tensor, "B N H K"]
    ) -> tuple[Float[Tensor, "B S H K"], Float[Tensor, "B S H K"], Bool[Tensor, "B 1 N S"]]:
        """Remember the new keys and values; all of them, and which each new token may see."""
        layer, rows = self.layer, torch.arange(len(key), device=key.device)[:, None]
        layer.keys[rows, self.places], layer.values[rows, self.places] = key.to(layer.keys), value.to(layer.values)
        seen = torch.arange(self.width, device=key.device)[None, None] <= self.places[..., None]
        return layer.keys[:, : self.width].to(key), layer.values[:, : self.width].to(value), seen[:, None]

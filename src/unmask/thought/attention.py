"""The parts that read and write thoughts: attention over a few vectors, some of which may not be there."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unmask.thought.memory import Memory

BASE = 10_000.0


def turned(x: Float[Tensor, "B Q H K"], places: Float[Tensor, "#B Q"]) -> Float[Tensor, "B Q H K"]:
    """RoPE at any places (Su et al., 2021), so that a product knows how far apart they are."""
    half = x.shape[-1] // 2
    frequency = BASE ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = (places[..., None] * frequency)[:, :, None]
    first, second = x[..., :half], x[..., half : 2 * half]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin, x[..., 2 * half :]], -1)


class CrossAttention(nn.Module):
    """Queries read a memory; queries and keys are RMS-normalised with learned gains.

    Args:
        width: D, of queries, memory and result.
        heads: attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, width // heads
        self.query_norm, self.key_norm = nn.RMSNorm(self.head_dim), nn.RMSNorm(self.head_dim)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x: Float[Tensor, "B Q D"],
        memory: Float[Tensor, "B M D"],
        visible: Bool[Tensor, "B M"] | None = None,
        places: tuple[Float[Tensor, "#B Q"], Float[Tensor, "B M"]] | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """Attend to what is visible (at least one vector of each row); with `places` the distance counts too."""
        query = self.query(x).unflatten(-1, (self.heads, self.head_dim))
        key, value = self.key_value(memory).unflatten(-1, (2 * self.heads, self.head_dim)).chunk(2, -2)
        # norms and products in float32, as in the text's own attention
        low_precision = x.device.type == "cpu" and value.dtype == torch.bfloat16
        value = value.float() if low_precision else value
        query, key = (
            norm(part.float()).to(value.dtype) for norm, part in ((self.query_norm, query), (self.key_norm, key))
        )
        if places is not None:
            query, key = turned(query.float(), places[0]), turned(key.float(), places[1])
            query, key = query.to(value.dtype), key.to(value.dtype)
        mask = None if visible is None else visible[:, None, None]
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(-2))


class ThoughtMLP(nn.Module):
    """width -> 4 width -> width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Each vector on its own."""
        return self.down(F.gelu(self.up(x)))


class ThoughtBlock(nn.Module):
    """Memory tokens attend to each other, then each changes on its own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = CrossAttention(width, heads)
        self.mlp = ThoughtMLP(width)

    def forward(self, x: Float[Tensor, "B M D"], visible: Bool[Tensor, "B M"] | None = None) -> Float[Tensor, "B M D"]:
        """Those that are not visible change too, but nobody sees them."""
        h = self.attention_norm(x)
        x = x + self.attention(h, h, visible)
        return x + self.mlp(self.mlp_norm(x))


class Reader(nn.Module):
    """Text reads thoughts: x + attention, whose output projection is the gate, and shut (zero) at first.

    So a model whose thoughts were never trained is the plain model, exactly. A gate that is a vector of scalars before a random
    projection (Flamingo, Alayrac et al., 2022) opens too, but hundreds of steps later (docs/thoughts.md).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.attention = CrossAttention(width, heads)

    def forward(self, x: Float[Tensor, "B L D"], memory: Memory) -> Float[Tensor, "B L D"]:
        """What is added to x."""
        places = None
        if memory.places is not None:
            here = torch.arange(x.shape[1], device=x.device, dtype=torch.float32)[None]
            places = here, memory.places
        return self.attention(self.norm(x), memory.tokens, memory.visible, places)

"""The small parts of a transformer: norms, rotary positions, feed-forward, time conditioning."""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unmask.types import Times

Norm = Literal["rms", "layer"]
Activation = Literal["gelu", "gelu_tanh", "swiglu", "relu2"]


def build_norm(kind: Norm, width: int, eps: float, bias: bool) -> nn.Module:
    """RMSNorm (no bias) or LayerNorm."""
    if kind == "rms":
        return nn.RMSNorm(width, eps=eps)
    return nn.LayerNorm(width, eps=eps, bias=bias)


def relu_squared(x: Tensor) -> Tensor:
    """relu(x)^2 (Primer, So et al., 2021)."""
    return F.relu(x).square()


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by GPT-2's tanh formula."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "relu2": relu_squared,
    "swiglu": F.silu,
}


class FeedForward(nn.Module):
    """width -> hidden -> width; SwiGLU multiplies by a second, linear branch."""

    def __init__(self, width: int, hidden: int, activation: Activation, bias: bool) -> None:
        super().__init__()
        self.gated = activation == "swiglu"
        self.activation = ACTIVATIONS[activation]
        self.up = nn.Linear(width, 2 * hidden if self.gated else hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Each position on its own."""
        x = self.up(x)
        if self.gated:
            gate, x = x.chunk(2, -1)
            return self.down(self.activation(gate) * x)
        return self.down(self.activation(x))


def rotary_table(length: int, head_dim: int, theta: float, device: torch.device | None = None) -> Tensor:
    """Cos and sin of every position's angles, (2, length, head_dim), in the half-split layout of Llama."""
    frequency = theta ** (-torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim)
    angles = torch.arange(length, device=device, dtype=torch.float32)[:, None] * frequency
    angles = torch.cat([angles, angles], -1)
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Float[Tensor, "*B H K"], table: Tensor) -> Float[Tensor, "*B H K"]:
    """Turn each pair (x_i, x_{i + K/2}) by its position's angle (RoPE, Su et al., 2021)."""
    cos, sin = table.to(x.dtype)[..., None, :]
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


class Neighbours(nn.Module):
    """Each position's vector plus a learned mix of those around it: a depthwise convolution over the row.

    What stands next to what is known before the first attention; a network must otherwise learn that by attention first, which
    is what delays the binding of keys to values (docs/thoughts.md; "Canon layers", Allen-Zhu, 2025).

    Args:
        width: D.
        reach: positions on either side.
    """

    def __init__(self, width: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.weight = nn.Parameter(torch.zeros(2 * reach + 1, width))

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """Rows; beyond their ends there are zeros."""
        length = x.shape[1]
        padded = F.pad(x, (0, 0, self.reach, self.reach))
        # sums of shifted rows: the same numbers whatever the batch
        for shift, weight in enumerate(self.weight.to(x.dtype)):
            x = x + weight * padded[:, shift : shift + length]
        return x


class AdditiveTime(nn.Module):
    """One learned vector for each of `steps` equal parts of [0, 1], added to the token embeddings (seed 003: 300)."""

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(steps, width)

    def forward(self, t: Times) -> Float[Tensor, "B D"]:
        """T in [0, 1] -> (B, D)."""
        steps = self.embedding.num_embeddings
        return self.embedding((t * steps).long().clamp(max=steps - 1))


class FourierTime(nn.Module):
    """Sines and cosines of t through a small MLP: the conditioning vector of adaLN (DiT, Peebles & Xie, 2023)."""

    def __init__(self, width: int, frequencies: int = 128) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, t: Times) -> Float[Tensor, "B D"]:
        """T in [0, 1] -> (B, D)."""
        index = torch.arange(self.frequencies, device=t.device, dtype=torch.float32)
        angles = 1000 * t.float()[:, None] * torch.exp(-math.log(10000) / self.frequencies * index)
        return self.mlp(torch.cat([angles.cos(), angles.sin()], -1))

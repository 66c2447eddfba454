"""Random draws that depend on a row's seed, step and position alone, so that neighbours never matter.

A counter-based generator (splitmix64, Steele et al., 2014) on tensors: no state, and the same numbers on every device.
"""

from enum import IntEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.types import Logits


class Purpose(IntEnum):
    """Streams that never share numbers."""

    SCORE = 1
    TOKEN = 2
    ORDER = 3
    REMASK = 4
    REVIEW = 5
    TIME = 6
    PLACE = 7


def uniforms(seeds: Int[Tensor, " B"], step: int, length: int, purpose: Purpose) -> Float[Tensor, "B L"]:
    """float64 in (0, 1), one for each row and position."""
    position = torch.arange(length, device=seeds.device)
    key = _mix(seeds[:, None] + _wrap(0x9E3779B97F4A7C15 * (step * 8 + int(purpose))))
    bits = _mix(key + _mix(position + 1))
    # 52 bits and a half: neither 0 nor 1 can occur
    return (_shift(bits, 12).double() + 0.5) * 2.0**-52


def categorical(log_probs: Logits, u: Float[Tensor, " N"]) -> Int[Tensor, " N"]:
    """One draw a row by the inverse of the cumulative distribution, in float64.

    float32 Gumbel noise would never draw what is rarer than about 1e-7; this draws it at its rate.
    """
    if log_probs.device.type == "mps":  # which has no float64
        return categorical(log_probs.cpu(), u.cpu()).to(log_probs.device)
    cumulative = log_probs.double().softmax(-1).cumsum(-1)
    total = cumulative[:, -1]
    # below the total even after rounding, so that a token of probability 0 is never reached
    aim = torch.minimum(u.double() * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, aim[:, None], right=True)[:, 0]


def _mix(x: Int[Tensor, "*S"]) -> Int[Tensor, "*S"]:
    x = (x ^ _shift(x, 30)) * _wrap(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _wrap(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _shift(x: Int[Tensor, "*S"], bits: int) -> Int[Tensor, "*S"]:
    """Logical, not arithmetic, shift to the right."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _wrap(x: int) -> int:
    """An unsigned 64-bit number as the signed one of the same bits."""
    x &= (1 << 64) - 1
    return x - (1 << 64) if x >= 1 << 63 else x

"""Which number format a processor is fast in."""

from typing import Literal

import torch


def computes_bf16() -> bool:
    """Whether this machine multiplies bfloat16 matrices in hardware."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.backends.mps.is_available():
        return False
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)


def resolve_precision(asked: Literal["auto", "bf16", "fp32"]) -> Literal["bf16", "fp32"]:
    """bf16 or fp32; auto is bf16 where the hardware computes in it."""
    if asked == "auto":
        return "bf16" if computes_bf16() else "fp32"
    return asked

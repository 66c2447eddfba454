"""Attention that opens: on the way from a GPT to a diffusion model, each position sees more and more of what follows."""

import torch
from jaxtyping import Bool
from torch import Tensor


def opening(length: int, share: float, generator: torch.Generator, device: torch.device) -> Bool[Tensor, "L L"]:
    """Causal attention in which each later position is visible with probability `share` (Gong et al., 2024)."""
    everything = torch.ones(length, length, dtype=torch.bool, device=device)
    chance = torch.rand(length, length, generator=generator, device=device)
    return everything.tril() | (chance < share)

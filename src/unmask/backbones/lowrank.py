"""LoRA (Hu et al., 2021): a frozen model learns through a few matrices of low rank, which are kept apart from it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from unmask.backbones.transformer import Transformer

MATRICES = ("attention.qkv", "attention.out", "mlp.up", "mlp.down")


class LowRank(nn.Module):
    """W + up @ down; up starts at zero, so that nothing changes at first."""

    def __init__(self, weight: Float[Tensor, "O I"], rank: int, generator: torch.Generator) -> None:
        super().__init__()
        width = weight.shape[1]
        self.down = nn.Parameter(torch.randn(rank, width, generator=generator) * width**-0.5)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: Float[Tensor, "O I"]) -> Float[Tensor, "O I"]:
        """The matrix that is used."""
        return weight + self.up @ self.down


class OneRow(nn.Module):
    """One row of a table moves: that of the mask, which the base has never seen."""

    def __init__(self, weight: Float[Tensor, "V D"], row: int) -> None:
        super().__init__()
        self.row = row
        self.change = nn.Parameter(torch.zeros(1, weight.shape[1]))

    def forward(self, weight: Float[Tensor, "V D"]) -> Float[Tensor, "V D"]:
        """The table that is used."""
        return weight.index_add(0, torch.tensor([self.row], device=weight.device), self.change)


def add_low_rank(model: Transformer, rank: int, mask_id: int, generator: torch.Generator) -> None:
    """Freeze a model, and let every matrix of its blocks, and the mask's row, change by little.

    Raises:
        ValueError: the rank is larger than the width, which would be no saving.
    """
    if rank > model.config.width:
        raise ValueError(f"adapt.lora {rank} is more than the model's width of {model.config.width}")
    model.requires_grad_(False)
    for block in model.blocks:
        for name in MATRICES:
            matrix = block.get_submodule(name)
            weight = matrix.get_parameter("weight")
            parametrize.register_parametrization(matrix, "weight", LowRank(weight, rank, generator))
    row = OneRow(model.embedding.weight, mask_id)
    tables = [model.embedding, model.head] if model.config.tied else [model.embedding]
    for table in tables:  # one change for both where they are one
        parametrize.register_parametrization(table, "weight", row)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_adapter(name))


def is_adapter(name: str) -> bool:
    """Whether a parameter belongs to the adapters."""
    return name.endswith((".up", ".down", ".change")) and ".parametrizations." in name


def adapters(model: nn.Module) -> dict[str, Tensor]:
    """The adapters' weights, by name; empty when there are none."""
    return {name: parameter.detach() for name, parameter in model.named_parameters() if is_adapter(name)}


def merge(model: Transformer) -> None:
    """Make the adapters part of the weights: an ordinary model again."""
    if model.config.tied:  # or the mask's change would be added to the shared table twice
        parametrize.remove_parametrizations(model.head, "weight", leave_parametrized=False)
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    if model.config.tied:
        model.head.weight = model.embedding.weight
    model.requires_grad_(True)

"""Starting from another model: a GPT becomes a diffusion model."""

from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from unmask.config import RunConfig
from unmask.pretrained import Pretrained, load_base, read_model_config


def start_from(config: RunConfig) -> tuple[RunConfig, Pretrained | None]:
    """The run's settings with the shape of the model that it starts from, and that model at the run's length.

    Raises:
        ValueError: there is no such model, or its learned positions are too few.
    """
    if config.adapt.source is None:
        return config, None
    path = Path(config.adapt.source).expanduser()
    if path.exists():  # wherever the next command is started
        config = replace(config, adapt=replace(config.adapt, source=str(path.resolve())))
    loaded = load_base(config)
    return taking_over(config, loaded.config), loaded


def taking_over(config: RunConfig, source: RunConfig) -> RunConfig:
    """The run's settings with the source's shape and its token for the beginning."""
    shape = replace(
        source.model,
        attention=config.model.attention,
        length=config.model.length,
        dropout=config.model.dropout,
    )
    return replace(config, model=shape, diffusion=replace(config.diffusion, begin=source.diffusion.begin))


def as_saved(config: RunConfig, checkpoint: Path) -> RunConfig:
    """The settings of a run that started from a model, when it goes on: its checkpoint knows the shape."""
    if config.adapt.source is None:
        return config
    saved = read_model_config(checkpoint)[0]
    return replace(taking_over(config, saved), adapt=replace(config.adapt, source=saved.adapt.source))


def opening(length: int, share: float, generator: torch.Generator, device: torch.device) -> Bool[Tensor, "L L"]:
    """Causal attention in which each later position is visible with probability `share`."""
    everything = torch.ones(length, length, dtype=torch.bool, device=device)
    chance = torch.rand(length, length, generator=generator, device=device)
    return everything.tril() | (chance < share)

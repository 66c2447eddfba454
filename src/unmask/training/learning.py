"""What a step learns from: batch and noise as a function of (seed, step, rank), and the loss of the two."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unmask.config import (
    RunConfig,
    build_corruption,
    build_objective,
    build_times,
    build_training_denoiser,
)
from unmask.diffusion.objectives import Loss
from unmask.text.batches import Batches
from unmask.text.shards import TokenSplit
from unmask.text.tokenizer import Tokenizer
from unmask.types import Times


@dataclass(frozen=True)
class Place:
    """Where a process computes, among how many, and how precisely."""

    device: torch.device
    rank: int
    world: int
    autocast: Callable[[], AbstractContextManager[Any]]
    gather: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Lesson:
    """One batch's loss, and the time of each of its rows."""

    loss: Loss
    t: Times


class Learner(Protocol):
    """Batches to losses; the trainer knows no more."""

    tokens: int
    """Tokens of one batch of one process."""

    def network(self) -> nn.Module:
        """What is called in training, to be wrapped by whatever distributes it."""
        ...

    def connect(self, network: nn.Module) -> None:
        """Use the wrapped network."""
        ...

    def lesson(self, index: int, generator: torch.Generator, step: int) -> Lesson:
        """The loss of a batch."""
        ...

    def after(self, step: int, lesson: Lesson) -> None:
        """What is learned beside the weights, once an optimizer step is done."""
        ...

    def watch(self) -> dict[str, float]:
        """What is looked at when a line is logged."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """What an exact resume needs, of all processes."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take it back."""
        ...


class TextLearner:
    """Rows of text, on their own.

    Args:
        config: the run.
        model: the network.
        split: what is learned.
        tokenizer: its tokenizer.
        place: this process.
    """

    def __init__(
        self, config: RunConfig, model: nn.Module, split: TokenSplit, tokenizer: Tokenizer, place: Place
    ) -> None:
        self.config, self.model, self.tokenizer, self.place = config, model, tokenizer, place
        rows, length = config.train.batch_size, config.canvas
        self.tokens = rows * length
        self.batches = Batches(split, rows, length, seed=config.train.seed, rank=place.rank, world=place.world)
        self.times = build_times(config.diffusion)
        self.corruption = build_corruption(config.diffusion, tokenizer.vocab_size, tokenizer.mask_id)
        self.objective = build_objective(config.diffusion, tokenizer.mask_id)
        self.denoiser = build_training_denoiser(config, model, tokenizer)

    def network(self) -> nn.Module:
        """The model."""
        return self.model

    def connect(self, network: nn.Module) -> None:
        """Use the wrapped model."""
        self.denoiser = build_training_denoiser(self.config, network, self.tokenizer)

    def lesson(self, index: int, generator: torch.Generator, step: int) -> Lesson:
        """Corrupt a batch and ask the model."""
        x0 = self.batches.at(index).to(self.place.device, non_blocking=True)
        t, importance = self.times.sample(len(x0), generator)
        corrupted = self.corruption.corrupt(x0, t, generator, importance=importance)
        with self.place.autocast():
            denoised = self.denoiser(corrupted.xt, t, select=corrupted.scored)
        return Lesson(self.objective(denoised, corrupted), t)

    def after(self, step: int, lesson: Lesson) -> None:
        """Which times are hard."""
        self.times.update(self.place.gather(lesson.t), self.place.gather(lesson.loss.row.detach()))

    def watch(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """What is known of the times."""
        return {f"times.{name}": value for name, value in self.times.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Know it again."""
        self.times.load_state_dict(part(state, "times."))


def part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose names start so, without that."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}

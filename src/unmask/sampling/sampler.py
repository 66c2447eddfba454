"""A sampler: which positions are revealed when, and which are reopened."""

from dataclasses import dataclass, field
from typing import Literal

from unmask.diffusion.schedules import Schedule
from unmask.sampling.clocks import Clock, Even
from unmask.sampling.doubt import Doubt
from unmask.sampling.picking import Picker
from unmask.sampling.remasking import Remask
from unmask.sampling.review import Review
from unmask.sampling.rules import UnmaskRule
from unmask.sampling.scores import Score


@dataclass(frozen=True)
class Sampler:
    """Small parts that go together in any combination.

    Attributes:
        schedule: how much is masked at each time.
        score: how ready a position is.
        rule: which are revealed at each step.
        adaptive: whether the rule itself decides when to stop; then `steps` is only a cap.
        remask: how often settled positions are reopened while the canvas fills; None: never.
        review: what is looked at again; None: nothing.
        doubt: when tokens that the model itself calls wrong are reopened; None: never. Needs a model trained to repair.
        picker: draws the tokens; None: the row's own temperature and truncation do.
        hesitant: whether the score sees how likely such a model is to answer "not yet".
        block: positions that are filled before the next ones are begun, from left to right; None: all at once.
        clock: the times of the steps.
        window: predictions whose drift the rule wants to see.
        scores: what the score sees: the model's distribution, or that after temperature and truncation (as Dream's).
        drawn: whether the score sees the token that was drawn (as published by LLaDA and Dream; biased, see scores.py).
    """

    schedule: Schedule
    score: Score
    rule: UnmaskRule
    adaptive: bool = False
    remask: Remask | None = None
    review: Review | None = None
    doubt: Doubt | None = None
    picker: Picker | None = None
    hesitant: bool = False
    block: int | None = None
    clock: Clock = field(default_factory=Even)
    window: int = 0
    scores: Literal["model", "controlled"] = "model"
    drawn: bool = False

    @property
    def frank(self) -> bool:
        """Whether it needs a model that may answer with the mask."""
        return self.hesitant or self.doubt is not None

    def __post_init__(self) -> None:
        """Refuse a block of nothing."""
        if self.block is not None and self.block < 1:
            raise ValueError(f"block must be at least 1, not {self.block}")

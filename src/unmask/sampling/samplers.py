"""The samplers by name."""

from collections.abc import Callable

from unmask.diffusion.schedules import Schedule
from unmask.sampling.loop import Sampler
from unmask.sampling.rules import Ancestral, Threshold, TopK
from unmask.sampling.scores import SCORES

Builder = Callable[[Schedule, float], Sampler]

SAMPLERS: dict[str, tuple[Builder, str]] = {
    "ancestral": (
        lambda schedule, tau: Sampler(SCORES["random"], Ancestral(schedule)),
        "each position by chance, exactly as the noise came (exact in the limit of many steps)",
    ),
    "random": (
        lambda schedule, tau: Sampler(SCORES["random"], TopK(schedule)),
        "random positions, as many a step as the schedule asks (exact at one a step)",
    ),
    "confidence": (
        lambda schedule, tau: Sampler(SCORES["confidence"], TopK(schedule)),
        "the surest positions first, by the largest probability",
    ),
    "entropy": (
        lambda schedule, tau: Sampler(SCORES["entropy"], TopK(schedule)),
        "the surest positions first, by the smallest entropy",
    ),
    "margin": (
        lambda schedule, tau: Sampler(SCORES["margin"], TopK(schedule)),
        "the surest positions first, by the gap between first and second choice",
    ),
    "threshold": (
        lambda schedule, tau: Sampler(SCORES["confidence"], Threshold(tau), adaptive=True),
        "every position surer than tau, at least one a step: fast where the text is easy",
    ),
}

"""The samplers by name: functions of a schedule and a few numbers, written as `name` or `name:key=value,key=value`."""

from collections.abc import Callable

from unmask.diffusion.schedules import Schedule
from unmask.sampling.adaptive import ByChance, DynamicThreshold, EntropyBound, Factor, Stable, Threshold
from unmask.sampling.clocks import FirstHitting
from unmask.sampling.picking import Narrowing
from unmask.sampling.presets import dream, llada
from unmask.sampling.refining import Refine, Spaced
from unmask.sampling.rules import Ancestral, One, TopK
from unmask.sampling.sampler import Sampler
from unmask.sampling.scores import SCORES


def ancestral(schedule: Schedule) -> Sampler:
    """Each position by chance, exactly as the noise came (exact in the limit of many steps)."""
    return Sampler(schedule, SCORES["random"], Ancestral())


def first_hitting(schedule: Schedule) -> Sampler:
    """One token at each of the process's own random times (exact; one forward pass a token)."""
    return Sampler(schedule, SCORES["random"], One(), adaptive=True, clock=FirstHitting(schedule))


def random(schedule: Schedule) -> Sampler:
    """Random positions, as many a step as the schedule asks (exact at one a step)."""
    return Sampler(schedule, SCORES["random"], TopK())


def left_to_right(schedule: Schedule) -> Sampler:
    """From left to right, as many a step as the schedule asks (exact at one a step)."""
    return Sampler(schedule, SCORES["position"], TopK())


def confidence(schedule: Schedule, score_temperature: float = 0.0) -> Sampler:
    """The surest positions first, by the largest probability."""
    return Sampler(schedule, SCORES["confidence"], TopK(score_temperature))


def entropy(schedule: Schedule, score_temperature: float = 0.0) -> Sampler:
    """The surest positions first, by the smallest entropy."""
    return Sampler(schedule, SCORES["entropy"], TopK(score_temperature))


def margin(schedule: Schedule, score_temperature: float = 0.0) -> Sampler:
    """The surest positions first, by the gap between first and second choice."""
    return Sampler(schedule, SCORES["margin"], TopK(score_temperature))


def threshold(schedule: Schedule, tau: float = 0.9) -> Sampler:
    """Every position surer than tau, at least one a step: fast where the text is easy."""
    return Sampler(schedule, SCORES["confidence"], Threshold(tau), adaptive=True)


def dynamic_threshold(schedule: Schedule, high: float = 0.95, low: float = 0.6) -> Sampler:
    """A threshold that falls from high to low as the canvas fills."""
    return Sampler(schedule, SCORES["confidence"], DynamicThreshold(high, low), adaptive=True)


def factor(schedule: Schedule, factor: float = 1.0) -> Sampler:
    """The more positions are to be revealed together, the surer they must be (Fast-dLLM)."""
    return Sampler(schedule, SCORES["confidence"], Factor(factor), adaptive=True)


def entropy_bound(schedule: Schedule, gamma: float = 0.1) -> Sampler:
    """As many as fit into an error bound of gamma nats a step (EB-Sampler)."""
    return Sampler(schedule, SCORES["entropy"], EntropyBound(gamma), adaptive=True)


def klass(schedule: Schedule, tau: float = 0.9, drift: float = 0.01, window: int = 2) -> Sampler:
    """Every position that is sure and whose prediction has stopped moving (KLASS)."""
    return Sampler(schedule, SCORES["confidence"], Stable(tau, drift, window), adaptive=True, window=window)


def willing(schedule: Schedule) -> Sampler:
    """Every position for which a model trained to repair does not answer "not yet" (seed 001)."""
    return Sampler(schedule, SCORES["willing"], ByChance(), adaptive=True, hesitant=True, scores="controlled")


def qbert(
    schedule: Schedule,
    parallel_positions: int = 10,
    position_dropout: float = 0.2,
    diffusion_steps: int = 5,
    convergence_threshold: float = 0.01,
    top_k: int = 50,
    uncertain: bool = True,
    progressive: bool = True,
) -> Sampler:
    """Spaced positions first, then the surest; the unsure are drawn again, among fewer candidates at each step (seed 000)."""
    if top_k < 1:
        raise ValueError(f"top_k of qbert must be at least 1, not {top_k}")
    return Sampler(
        schedule,
        SCORES["entropy"],
        Spaced(parallel_positions),
        adaptive=True,
        review=Refine(position_dropout, diffusion_steps, convergence_threshold, uncertain),
        picker=Narrowing(top_k, diffusion_steps if progressive else 0, least=min(5, top_k)),
    )


SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "ancestral": ancestral,
    "first_hitting": first_hitting,
    "random": random,
    "left_to_right": left_to_right,
    "confidence": confidence,
    "entropy": entropy,
    "margin": margin,
    "threshold": threshold,
    "dynamic_threshold": dynamic_threshold,
    "factor": factor,
    "entropy_bound": entropy_bound,
    "klass": klass,
    "willing": willing,
    "llada": llada,
    "dream": dream,
    "qbert": qbert,
}

"""The revisions by name: each turns a sampler into one that mends its text."""

from collections.abc import Callable
from dataclasses import replace

from unmask.sampling.clocks import with_plateau
from unmask.sampling.doubt import Doubt
from unmask.sampling.remasking import Cap, Corrector, LeastSure, Plateau, Remask, Rescale
from unmask.sampling.review import Gibbs, Review, SelfCorrection, Verify
from unmask.sampling.sampler import Sampler


def remdm_cap(sampler: Sampler, eta: float = 0.02) -> Sampler:
    """Settled tokens are reopened with probability eta a step (ReMDM)."""
    return remasking(sampler, Cap(eta))


def remdm_rescale(sampler: Sampler, eta: float = 0.05) -> Sampler:
    """Settled tokens are reopened with the share eta of the largest possible probability (ReMDM)."""
    return remasking(sampler, Rescale(eta))


def remdm_conf(sampler: Sampler) -> Sampler:
    """About one token a step is reopened, the unsure ones more often (ReMDM)."""
    return remasking(sampler, LeastSure())


def remdm_loop(sampler: Sampler, eta: float = 0.02, on: float = 0.55, off: float = 0.05, alpha: float = 0.9) -> Sampler:
    """The canvas is filled to the share alpha, mended there between the times on and off, and completed (ReMDM)."""
    plateau = Plateau(eta, on, off)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha}")
    return replace(remasking(sampler, plateau), schedule=with_plateau(sampler.schedule, on, off, alpha))


def forward_backward(sampler: Sampler) -> Sampler:
    """As many tokens are reopened as the noise would mask in the step's time (Campbell et al., 2022)."""
    return remasking(sampler, Corrector())


def dfm(sampler: Sampler, scale: float = 10.0, exponent: float = 0.25) -> Sampler:
    """The corrector of discrete flow matching: scale (t (1 - t))^exponent times forward-backward (Gat et al., 2024)."""
    return remasking(sampler, Corrector(scale, exponent))


def gibbs(sampler: Sampler, sweeps: int = 1, sites: int = 1) -> Sampler:
    """The finished text is redrawn position by position: a forward pass for each `sites`; exact with many sweeps."""
    return reviewing(sampler, Gibbs(sweeps, sites))


def verify(sampler: Sampler, tau: float = 0.9) -> Sampler:
    """Unsure drafts of a step are looked at again in the next, given the others (WINO)."""
    return reviewing(sampler, Verify(tau))


def self_correct(sampler: Sampler, rounds: int = 4, share: float = 0.2, margin: float = 0.1) -> Sampler:
    """The least likely share of the finished text is masked; what the model now finds unlikely is redrawn."""
    return reviewing(sampler, SelfCorrection(rounds, share, margin))


def doubt(sampler: Sampler, threshold: float = 0.5, times: int = 2) -> Sampler:
    """Tokens that a model trained to repair calls wrong are masked again, each at most `times` times."""
    return replace(sampler, doubt=Doubt(threshold, times))


def remasking(sampler: Sampler, remask: Remask) -> Sampler:
    """The sampler with a way to reopen; two would undo each other's bookkeeping."""
    if sampler.remask is not None:
        raise ValueError("only one of the remdm_*, forward_backward and dfm revisions can be used at a time")
    return replace(sampler, remask=remask)


def reviewing(sampler: Sampler, review: Review) -> Sampler:
    """The sampler with a second look."""
    if sampler.review is not None:
        raise ValueError("only one of the gibbs, verify and self_correct revisions can be used at a time")
    return replace(sampler, review=review)


REVISIONS: dict[str, Callable[..., Sampler]] = {
    "remdm_cap": remdm_cap,
    "remdm_rescale": remdm_rescale,
    "remdm_conf": remdm_conf,
    "remdm_loop": remdm_loop,
    "forward_backward": forward_backward,
    "dfm": dfm,
    "gibbs": gibbs,
    "verify": verify,
    "self_correct": self_correct,
    "doubt": doubt,
}

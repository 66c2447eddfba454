"""The samplers of LLaDA and Dream under their own parameter names.

By default what is wrong in the published code is put right; `faithful` keeps it: the probability of the token that was
drawn decides the order, which biases the text, and in Dream one count serves all rows, which makes a row depend on its
neighbours, and is rounded down at every step, which leaves a burst for the last.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.diffusion.schedules import SCHEDULES, Schedule
from unmask.names import check_known
from unmask.sampling.clocks import Even
from unmask.sampling.rules import Ancestral, LinearQuota, Rate, TopK
from unmask.sampling.sampler import Sampler
from unmask.sampling.scores import SCORES
from unmask.sampling.step import Candidates


def llada(
    schedule: Schedule, remasking: str = "low_confidence", block_length: int = 0, faithful: bool = False
) -> Sampler:
    """LLaDA's `generate`: remasking is low_confidence or random; block_length 0 is one block (cfg_scale is guidance)."""
    check_known(remasking, ("low_confidence", "random"), "LLaDA remasking")
    sure = drawn_probability if faithful else SCORES["confidence"]
    return Sampler(
        SCHEDULES["linear"](),
        sure if remasking == "low_confidence" else SCORES["random"],
        LinearQuota(),
        block=block_length or None,
        drawn=faithful,
    )


def dream(
    schedule: Schedule, alg: str = "origin", alg_temp: float = 0.0, eps: float = 1e-3, faithful: bool = False
) -> Sampler:
    """Dream's `diffusion_generate`: alg is origin, maskgit_plus, topk_margin or entropy."""
    check_known(alg, ("origin", *DREAM), "Dream alg")
    if not 0 <= eps < 1:
        raise ValueError(f"eps must be in [0, 1), not {eps}")
    linear, clock = SCHEDULES["linear"](), Even(eps)
    if alg == "origin":
        return Sampler(linear, SCORES["random"], Ancestral(), clock=clock)
    right, published = DREAM[alg]
    return Sampler(
        linear,
        published if faithful else SCORES[right],
        Rate(alg_temp, shared=True) if faithful else TopK(alg_temp),
        clock=clock,
        scores="controlled",
        drawn=faithful,
    )


def drawn_probability(seen: Candidates) -> Float[Tensor, " N"]:
    """The probability of the token that was drawn."""
    assert seen.drawn is not None
    return rounded(seen.log_probs.double().softmax(-1).gather(-1, seen.drawn[:, None])[:, 0])


def published_margin(seen: Candidates) -> Float[Tensor, " N"]:
    """The first probability minus the second, in the model's own precision."""
    first, second = seen.log_probs.exp().topk(2, -1).values.unbind(-1)
    return rounded((first - second).double())


def published_entropy(seen: Candidates) -> Float[Tensor, " N"]:
    """Minus the entropy, with the published guard against log 0."""
    probs = seen.log_probs.exp()
    return rounded((probs * torch.log(probs + 1e-10)).sum(-1).double())


def rounded(score: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """To 2^-18, so that errors of the batch's shape choose nothing; ties go to the left."""
    return (score * 2.0**18).round() / 2.0**18


DREAM = {
    "maskgit_plus": ("confidence", drawn_probability),
    "topk_margin": ("margin", published_margin),
    "entropy": ("entropy", published_entropy),
}

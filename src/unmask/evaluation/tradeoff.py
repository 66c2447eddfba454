"""Samplers compared: what a number of forward passes buys."""

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from unmask.evaluation.generation import distinct_n, unigram_entropy
from unmask.evaluation.judge import Judge
from unmask.evaluation.likelihood import Estimate
from unmask.pipeline import Generation, Pipeline, Request, SamplingOptions
from unmask.pipeline.results import Layout

NFES = (8, 16, 32, 64, 128, 256)
HOLE = 8
ROWS = 16


@dataclass(frozen=True)
class Plan:
    """One line of the comparison.

    Attributes:
        sampler: a sampler's spec.
        revise: a revision's spec.
        steps: denoising steps; None lets an adaptive sampler stop by itself.
    """

    sampler: str
    revise: str = ""
    steps: int | None = None

    @property
    def name(self) -> str:
        """The curve it belongs to: an adaptive sampler's settings are what moves along its curve."""
        sampler = self.sampler if self.steps is not None else self.sampler.split(":")[0]
        return " + ".join(filter(None, [sampler, self.revise.split(":")[0]]))


@dataclass(frozen=True)
class Looks:
    """What texts are like; every mean with its 95 % interval over texts.

    Attributes:
        judged_nll: nats a token of the judge; None without one.
        unigram_entropy: of one text's tokens, nats.
        distinct_2: different word pairs over all word pairs, in one text.
        repetition: share of a text's 4-grams of tokens that it has had before.
    """

    judged_nll: Estimate | None
    unigram_entropy: Estimate
    distinct_2: Estimate
    repetition: Estimate


@dataclass(frozen=True)
class Point(Looks):
    """What a plan gave.

    Attributes:
        plan: the plan.
        nfe: forward passes a text.
        tokens_per_second: generated tokens a second of the whole batch, on this machine.
        infill_nfe: forward passes a block of held-out text.
        infill_accuracy: share of the hidden tokens of held-out text that are given back, at temperature 0.
    """

    plan: Plan
    nfe: Estimate
    tokens_per_second: float
    infill_nfe: Estimate
    infill_accuracy: Estimate


def default_plans(length: int, nfes: Sequence[int] = NFES) -> list[Plan]:
    """Every rule of the house at the given numbers of forward passes; adaptive rules at several settings.

    A rule without revision cannot use more passes than there are tokens.
    """
    counted = ["ancestral", "random", "confidence", "confidence:score_temperature=0.1", "entropy", "margin"]
    counted += ["left_to_right", "llada:faithful=yes", "dream:alg=entropy,faithful=yes"]
    plans = [Plan(name, steps=nfe) for name in counted for nfe in nfes if nfe <= length]
    plans += [Plan("random", revise, nfe) for revise in ("remdm_cap:eta=0.02", "remdm_conf") for nfe in nfes]
    plans += [Plan(f"threshold:tau={tau}") for tau in (0.1, 0.2, 0.3, 0.5, 0.9)]
    plans += [Plan("threshold:tau=0.1", "verify:tau=0.1"), Plan("threshold:tau=0.3", "verify:tau=0.3")]
    plans += [Plan("dynamic_threshold"), Plan("dynamic_threshold:high=0.5,low=0.1")]
    plans += [Plan(f"factor:factor={factor}") for factor in (1.0, 2.0, 4.0, 8.0)]
    plans += [Plan(f"entropy_bound:gamma={gamma}") for gamma in (0.5, 2.0, 4.0, 8.0, 16.0)]
    plans += [Plan("klass"), Plan("klass:tau=0.3,drift=0.1"), Plan("first_hitting")]
    plans += [Plan("confidence", "self_correct", 32), Plan("random", "self_correct", 32)]
    return [*plans, Plan("random", "gibbs:sites=8", 32)]


def measure(
    pipe: Pipeline,
    plan: Plan,
    blocks: Int[Tensor, "B L"],
    *,
    samples: int,
    temperature: float = 0.8,
    seed: int = 0,
    judge: Judge | None = None,
) -> Point:
    """Write samples and fill held-out blocks by a plan, and look at them.

    Args:
        pipe: the model.
        plan: how.
        blocks: held-out text; in each, every second run of 8 tokens is hidden.
        samples: texts on an empty canvas.
        temperature: of these.
        seed: of the first.
        judge: what says how likely they are.
    """
    free = SamplingOptions(sampler=plan.sampler, revise=plan.revise, steps=plan.steps, ignore_end=True)
    written = [
        pipe.request_generate(**free | SamplingOptions(temperature=temperature, seed=seed + i)) for i in range(samples)
    ]
    began = time.perf_counter()
    texts = in_batches(pipe, written)
    seconds = time.perf_counter() - began
    tokens = [item.tokens for item in texts]
    filled = in_batches(
        pipe, [hidden(pipe, row, free | SamplingOptions(temperature=0.0, seed=seed)) for row in blocks.tolist()]
    )
    right = [hits(row, item.tokens) for row, item in zip(blocks.tolist(), filled, strict=True)]
    return Point(
        plan=plan,
        nfe=over([item.nfe for item in texts]),
        tokens_per_second=sum(map(len, tokens)) / seconds,
        **vars(look_at([item.text for item in texts], tokens, judge)),
        infill_nfe=over([item.nfe for item in filled]),
        infill_accuracy=over(right),
    )


def look_at(texts: Sequence[str], tokens: Sequence[Sequence[int]], judge: Judge | None) -> Looks:
    """Texts and their tokens, generated or real."""
    return Looks(
        judged_nll=None if judge is None else over(judge(texts)),
        unigram_entropy=over([unigram_entropy([row]) for row in tokens]),
        distinct_2=over([distinct_n([text], 2) for text in texts]),
        repetition=over([repetition(row) for row in tokens]),
    )


def in_batches(pipe: Pipeline, requests: Sequence[Request]) -> list[Generation]:
    """One text a request."""
    found: list[Generation] = []
    for first in range(0, len(requests), ROWS):
        found += [results[0] for results in pipe.batch(requests[first : first + ROWS])]
    return found


def hidden(pipe: Pipeline, row: list[int], options: SamplingOptions) -> Request:
    """A block of text with every second run of 8 tokens masked."""
    canvas = [token if i // HOLE % 2 == 0 else pipe.tokenizer.mask_id for i, token in enumerate(row)]
    holes = [(i, min(HOLE, len(row) - i)) for i in range(HOLE, len(row), 2 * HOLE)]
    return Request(Layout([canvas], [holes]), options)


def hits(row: Sequence[int], filled: Sequence[int]) -> float:
    """The share of hidden tokens that came back."""
    places = [i for i in range(len(row)) if i // HOLE % 2]
    return sum(row[i] == filled[i] for i in places) / max(1, len(places))


def repetition(tokens: Sequence[int], n: int = 4) -> float:
    """The share of n-grams that have stood in the text before."""
    grams = Counter(zip(*(tokens[i:] for i in range(n)), strict=False))
    total = sum(grams.values())
    return 1 - len(grams) / total if total else 0.0


def over(values: Sequence[float | int]) -> Estimate:
    """The mean and its interval, of what is a number."""
    known = torch.tensor([value for value in values if not math.isnan(value)], dtype=torch.float64)
    return Estimate.over_rows(known)

"""Requests that start from a text with mistakes: what is wrong in it, and what may change."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from unmask.diffusion.schedules import SCHEDULES
from unmask.pipeline.layouts import Part, marked, parts, reopened
from unmask.pipeline.options import SamplingOptions, real
from unmask.pipeline.results import Generation, Layout, Repair, Request
from unmask.pipeline.rewriting import encoded
from unmask.pipeline.scoring import disagreement

if TYPE_CHECKING:
    from unmask.pipeline.pipeline import Pipeline

GROUPS = 8
NO_REPAIR = (
    "this model was not trained to repair and reads no masks, so it cannot say what is wrong: use one with "
    "diffusion.corruption repair or absorbing"
)
NOT_FOR_REPAIR = ("revise", "block", "forced", "stop", "best_of")


@dataclass(frozen=True)
class Plan:
    """A repair that is about to be asked.

    Attributes:
        request: what is asked.
        before: the given tokens.
        spans: the characters that each stands for.
        doubts: how wrong each looks, where that was found beforehand; else the request's own frames say it.
        spent: forward passes that finding them took.
    """

    request: Request
    before: list[int]
    spans: list[tuple[int, int]]
    doubts: list[float] | None = None
    spent: int = 0

    def repair(self, found: Generation) -> Repair:
        """The result."""
        doubts = found.doubts if self.doubts is None else self.doubts
        nfe = found.nfe + self.spent
        return Repair(found.text, self.before, found.tokens, doubts or [], self.spans, nfe, found.seed)


def repair_plan(
    pipe: "Pipeline", text: str, protect: Part | Sequence[Part], threshold: float, options: SamplingOptions
) -> Plan:
    """What `Pipeline.repair` asks: of a model trained to repair its doubts, of one that fills masks its disagreement."""
    if pipe.config.diffusion.corruption not in ("repair", "absorbing"):
        raise ValueError(NO_REPAIR)
    for name in NOT_FOR_REPAIR:
        if options.get(name):
            raise ValueError(
                f"{name} does not go with repair, which reopens what the model calls wrong, wherever it is"
            )
    if not 0 <= real(threshold, "threshold") <= 1:
        raise ValueError(f"threshold must be in [0, 1], not {threshold}")
    ids, spans = encoded(pipe, text)
    free = frozenset(range(len(ids))) - marked(text, parts(protect), spans, "protect")
    if not free:
        raise ValueError("there is nothing to repair: the text is empty, or all of it is protected")
    if pipe.tokenizer.mask_id in ids:
        raise ValueError("a text to repair has no masks")
    settings = SamplingOptions(steps=25, temperature=0.0, sampler="factor") | options
    if pipe.config.diffusion.corruption == "repair":
        asked = settings | SamplingOptions(revise=f"doubt:threshold={threshold}")
        return Plan(Request(Layout([ids], [[]], free), asked), ids, spans)
    tokens = torch.tensor([ids], device=pipe.device)
    scored = torch.zeros_like(tokens, dtype=torch.bool)
    # what the vocabulary does not know is not the model's to doubt
    free = frozenset(place for place in free if ids[place] not in pipe.tokenizer.special_ids)
    scored[0, sorted(free)] = True
    groups = max(1, min(GROUPS, len(free)))
    schedule = SCHEDULES[pipe.config.diffusion.schedule]()
    doubts: list[float] = disagreement(pipe.denoiser, schedule, tokens, scored, groups)[0].tolist()
    wrong = {place for place in free if doubts[place] > threshold}
    request = Request(reopened(ids, wrong, pipe.tokenizer.mask_id, None, text, spans), settings)
    return Plan(request, ids, spans, [round(doubt, 6) for doubt in doubts], groups)

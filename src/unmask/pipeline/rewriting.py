"""Requests that start from a text: what of it is written anew."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from unmask.diffusion.schedules import SCHEDULES
from unmask.pipeline.layouts import Part, marked, parts, reopened
from unmask.pipeline.options import SamplingOptions, real, whole
from unmask.pipeline.results import Request
from unmask.pipeline.scoring import token_nll

if TYPE_CHECKING:
    from unmask.pipeline.pipeline import Pipeline


def edit_request(
    pipe: "Pipeline",
    text: str,
    span: Part | Sequence[Part] | None,
    share: float | None,
    size: int | None,
    keep: Part | Sequence[Part],
    options: SamplingOptions,
) -> tuple[Request, int]:
    """What `Pipeline.edit` asks, and the forward passes that finding the tokens took."""
    if (span is None) == (share is None):
        raise ValueError("give either a span or a share to rewrite")
    if size is not None and (span is None or whole(size, "size") < 1):
        raise ValueError("size must be at least 1, and goes with a span only")
    ids, spans = encoded(pipe, text)
    kept = marked(text, parts(keep), spans, "keep")
    spent = 0
    if span is not None:
        chosen = marked(text, parts(span), spans, "span") - kept
    else:
        assert share is not None
        if pipe.config.diffusion.corruption in ("uniform", "none"):
            raise ValueError("the least likely tokens can be found by a model trained with masks only: give a span")
        if not 0 < real(share, "share") <= 1:
            raise ValueError(f"share must be in (0, 1], not {share}")
        chosen, spent = least_likely(pipe, ids, set(range(len(ids))) - kept, share)
    if not chosen:
        raise ValueError("there is nothing to rewrite: the text is empty, or all of it is kept")
    layout = reopened(ids, chosen, pipe.tokenizer.mask_id, size, text, spans)
    if size is not None and len(layout.holes[0]) > 1:
        raise ValueError("size goes with one span only")
    if len(layout.canvases[0]) > pipe.longest:
        raise ValueError(f"the new text has {len(layout.canvases[0])} tokens; the model's canvas has {pipe.longest}")
    return Request(layout, options), spent


def encoded(pipe: "Pipeline", text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """A text's tokens and their characters; one sentence when the text is too long."""
    ids, spans = pipe.tokenizer.encode_spans(text)
    if len(ids) > pipe.longest:
        raise ValueError(f"the text has {len(ids)} tokens; the model's canvas has {pipe.longest}")
    return ids, spans


def least_likely(pipe: "Pipeline", ids: list[int], free: set[int], share: float) -> tuple[set[int], int]:
    """The least likely share of the free tokens, and the forward passes that it took to find them."""
    if not free:
        return set(), 0
    tokens = torch.tensor([ids], device=pipe.device)
    scored = torch.zeros_like(tokens, dtype=torch.bool)
    scored[0, sorted(free)] = True
    groups = min(8, len(free))
    schedule = SCHEDULES[pipe.config.diffusion.schedule]()
    nll: list[float] = token_nll(pipe.denoiser, schedule, tokens, scored, groups)[0].tolist()
    count = max(1, round(share * len(free)))
    return set(sorted(free, key=lambda place: -nll[place])[:count]), groups

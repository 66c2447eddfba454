"""Requests of one kind on their way: frames first, texts when they are done."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unmask.backbones.transformer import Transformer
from unmask.config import CachedReader, begin_token, build_corruption, build_sampler
from unmask.diffusion.schedules import SCHEDULES
from unmask.pipeline.options import DEFAULT_STEPS, Settings
from unmask.pipeline.results import Generation, Request
from unmask.pipeline.scoring import fill_bound
from unmask.pipeline.stopping import Ending, Stopper, trimmed
from unmask.sampling.continuation import write_on
from unmask.sampling.controls import Controls
from unmask.sampling.frame import Frame, State
from unmask.sampling.loop import denoise
from unmask.sampling.placing import place_words, room_for
from unmask.sampling.redraw import redraw, self_correct
from unmask.sampling.review import SelfCorrection
from unmask.sampling.sampler import Sampler

if TYPE_CHECKING:
    from unmask.pipeline.pipeline import Pipeline

BOUND_DRAWS = 16
NOT_TRAINED_TO_REPAIR = (
    "this model was not trained to repair (diffusion.corruption repair), so it has no doubts to go by: revise by its "
    "confidence instead, with self_correct, verify or remdm_conf"
)


@dataclass(frozen=True)
class Row:
    """One canvas of a job."""

    request: int
    sample: int
    canvas: list[int]
    holes: list[tuple[int, int]]
    seed: int
    steps: int
    settings: Settings

    @property
    def ending(self) -> Ending:
        """Where its text may end early."""
        start, size = self.holes[-1] if self.holes else (0, 0)
        last = start + size == len(self.canvas) and size > 0
        return Ending(start if last else None, tuple(self.settings.stop), self.settings.end_id)


class Job:
    """Requests that share a sampler, filled together.

    Iterating yields the frames of all rows; `results` has the texts of each request once the frames are through. A `sampler`
    that is given is used instead of the one that the options name.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(self, pipe: "Pipeline", requests: Sequence[Request], sampler: Sampler | None = None) -> None:
        self.pipe, self.requests = pipe, requests
        self.settings = [Settings(request.options, pipe.tokenizer) for request in requests]
        name, revise, block, schedule, _ = self.settings[0].plan
        self.schedule = schedule or pipe.config.diffusion.schedule
        self.sampler = sampler or build_sampler(name, self.schedule, revise, block)
        self.noise = pipe.config.diffusion.corruption
        if self.noise in ("uniform", "none"):
            self._check_needs_no_masks()
        if self.sampler.frank and self.noise != "repair":
            raise ValueError(NOT_TRAINED_TO_REPAIR)
        if not self.sampler.adaptive and any(request.layout.draft for request in requests):
            raise ValueError(
                f"{name} follows a schedule from an empty canvas: repair with factor, threshold or the like"
            )
        self.rows = [row for number in range(len(requests)) for row in self._rows(number)]
        self.stopper = Stopper(pipe.tokenizer, [row.ending for row in self.rows])
        self.results: list[list[Generation]] = []
        self.first_doubts: Tensor | None = None

    def __iter__(self) -> Iterator[Frame]:
        self.stopper = Stopper(self.pipe.tokenizer, [row.ending for row in self.rows])
        self.first_doubts = None
        pipe, rows, device = self.pipe, self.rows, self.pipe.device
        lengths = torch.tensor([len(row.canvas) for row in rows], device=device)
        width = int(lengths.max())
        padding = pipe.tokenizer.mask_id
        canvas = torch.tensor([row.canvas + [padding] * (width - len(row.canvas)) for row in rows], device=device)
        seeds = torch.tensor([row.seed for row in rows], device=device)
        steps = torch.tensor([row.steps for row in rows], device=device)
        controls = Controls.join([row.settings.controls for row in rows]).to(device)
        words = [row.settings.forced for row in rows]
        placed = torch.zeros_like(seeds)
        if any(words):
            canvas, placed = place_words(pipe.denoiser, canvas, words, seeds=seeds, lengths=lengths)
        stop = self.stopper if any(row.ending.start is not None for row in rows) else None
        if self.noise == "uniform":
            frames = self._redraw(canvas, steps, seeds, controls, lengths)
        elif self.noise == "none":
            assert isinstance(pipe.model, Transformer)
            reader = CachedReader(pipe.model, len(rows), padding, width)
            begin = begin_token(pipe.config, pipe.tokenizer)
            frames = write_on(
                reader, canvas, padding, begin_id=begin, seeds=seeds, controls=controls, lengths=lengths, stop=stop
            )
        else:
            frames = denoise(
                pipe.frank if self.sampler.frank else pipe.denoiser,
                canvas,
                self.sampler,
                steps=steps,
                seeds=seeds,
                controls=controls,
                lengths=lengths,
                trained_with=SCHEDULES[pipe.config.diffusion.schedule](),
                stop=stop,
                free=self._drafts(canvas),
            )
        frame = None
        for frame in frames:
            if self.first_doubts is None and frame.doubt is not None and frame.step == 1:
                self.first_doubts = frame.doubt
            yield frame
        assert frame is not None
        self.results = self._finish(frame, placed.tolist())

    def _drafts(self, canvas: Tensor) -> Tensor | None:
        """The positions that a repair may change."""
        drafts = [self.requests[row.request].layout.draft for row in self.rows]
        if not any(drafts):
            return None
        free = torch.zeros_like(canvas, dtype=torch.bool)
        for index, draft in enumerate(drafts):
            free[index, sorted(draft)] = True
        return free

    def _redraw(
        self, canvas: Tensor, steps: Tensor, seeds: Tensor, controls: Controls, lengths: Tensor
    ) -> Iterator[Frame]:
        """The frames of a model that was trained with random tokens for noise."""
        pipe, review, frame = self.pipe, self.sampler.review, None
        corruption = build_corruption(pipe.config.diffusion, pipe.tokenizer.vocab_size, pipe.tokenizer.mask_id)
        for frame in redraw(
            pipe.denoiser, canvas, corruption, steps=steps, seeds=seeds, controls=controls, lengths=lengths
        ):
            yield frame
        if isinstance(review, SelfCorrection) and frame is not None:
            yield from self_correct(pipe.denoiser, frame, review, seeds=seeds, controls=controls)

    def _check_needs_no_masks(self) -> None:
        """Refuse what only a model trained with masks can do."""
        what = {"uniform": "was trained with random tokens", "none": "writes from left to right"}[self.noise]
        able = {"uniform": (), "none": ("stop", "best_of")}[self.noise]
        for request in self.requests:
            if len(request.layout.canvases) > 1:
                raise ValueError(f"holes of open length are for models trained with masks; this one {what}")
            for name in ("block", "guidance", "forced", "stop", "best_of"):
                if request.options.get(name) and name not in able:
                    raise ValueError(f"{name} is for models trained with masks; this one {what}")
        sampler = self.sampler
        if self.noise == "none" and (sampler.remask or sampler.review):
            raise ValueError("revise is for diffusion models; this one writes from left to right")
        if sampler.remask is not None or not isinstance(sampler.review, SelfCorrection | None):
            raise ValueError("a model trained with random tokens can be revised by self_correct only")

    def _rows(self, number: int) -> Iterator[Row]:
        """The rows of a request: every sample in every layout."""
        settings, layout = self.settings[number], self.requests[number].layout
        words = sorted(map(len, settings.forced), reverse=True)
        fitting = [
            (canvas, holes)
            for canvas, holes in zip(layout.canvases, layout.holes, strict=True)
            if room_for([size for _, size in holes], words)
        ]
        if not fitting:
            raise ValueError(
                f"there is no room for forced texts of {', '.join(map(str, words))} tokens: leave larger holes"
            )
        for sample in range(settings.candidates):
            for canvas, holes in fitting:
                masks = sum(size for _, size in holes)
                default = masks if self.sampler.adaptive else min(masks, DEFAULT_STEPS)
                steps = settings.steps or max(default, 1)
                yield Row(number, sample, canvas, holes, settings.seed + sample, steps, settings)

    def _finish(self, frame: Frame, placed: list[int]) -> list[list[Generation]]:
        """The texts of each request; where there are more than asked for, those with the best bounds."""
        bounds = self._bounds(frame)
        finished: list[list[Generation]] = []
        for number, settings in enumerate(self.settings):
            best: dict[int, Generation] = {}
            spent: dict[int, int] = {}
            for index, row in enumerate(self.rows):
                if row.request != number:
                    continue
                found = self._generation(frame, index, bounds.get(index))
                spent[row.sample] = spent.get(row.sample, 0) + found.nfe + placed[index]
                if row.sample not in best or worth(found) < worth(best[row.sample]):
                    best[row.sample] = found
            ranked = list(best)
            if settings.candidates > settings.samples:
                ranked = sorted(best, key=lambda sample: worth(best[sample]))[: settings.samples]
            # every candidate's forward passes were spent on the request
            extra = sum(spent.values()) - sum(spent[sample] for sample in ranked)
            results = [replace(best[sample], nfe=spent[sample]) for sample in ranked]
            results[0] = replace(results[0], nfe=results[0].nfe + extra)
            finished.append(results)
        return finished

    def _bounds(self, frame: Frame) -> dict[int, float]:
        """The bounds of the rows among which one is chosen, nats a token."""
        layouts = [len(request.layout.canvases) for request in self.requests]
        chosen = [
            index
            for index, row in enumerate(self.rows)
            if layouts[row.request] > 1 or row.settings.candidates > row.settings.samples
        ]
        if not chosen:
            return {}
        device = self.pipe.device
        if self.noise == "none":  # every token's probability was exact when it was drawn
            inside = torch.arange(frame.tokens.shape[1], device=device) < frame.lengths[:, None]
            filled = inside & (frame.states != State.PROMPT)
            nats = -frame.confidence.double().clamp(min=1e-300).log().masked_fill(~filled, 0).sum(-1)
            per_token = torch.where(filled.any(-1), nats / filled.sum(-1), torch.inf)
            return {index: float(per_token[index]) for index in chosen}
        rows = torch.tensor(chosen, device=device)
        holes = torch.zeros(frame.tokens.shape, dtype=torch.bool, device=device)
        for index in chosen:
            for start, size in self.rows[index].holes:
                holes[index, start : start + size] = True
        lengths = frame.lengths[rows].clamp(min=1)
        holes = holes[rows] & (torch.arange(holes.shape[1], device=device) < lengths[:, None])
        seeds = torch.tensor([self.rows[index].seed for index in chosen], device=device)
        schedule = SCHEDULES[self.pipe.config.diffusion.schedule]()
        draws, _ = fill_bound(self.pipe.denoiser, schedule, frame.tokens[rows], holes, lengths, seeds, BOUND_DRAWS)
        # a text that ended before it began is no candidate
        per_token = torch.where(holes.any(-1), draws.mean(-1) / holes.sum(-1), torch.inf)
        return dict(zip(chosen, per_token.tolist(), strict=True))

    def _generation(self, frame: Frame, index: int, bound: float | None) -> Generation:
        """A row's text."""
        row, tokenizer = self.rows[index], self.pipe.tokenizer
        tokens = frame.tokens[index, : int(frame.lengths[index])].tolist()
        stops = row.ending.texts if self.stopper.finished.get(index) == "stop" else ()
        given = self.requests[row.request].layout.texts
        fills: list[str] = []
        if tokenizer.spaced and given:  # it loses spaces and capitals, but not those of the request
            texts = [given[0]]
            for (start, size), after in zip(row.holes, given[1:], strict=True):
                fill = tokenizer.following(tokens[:start], tokens[start : start + size])
                written = "".join(texts)
                begins = not written or written[-1].isspace()
                fills.append(fill.lstrip() if begins else fill)
                texts += [fills[-1], after]
        else:
            texts, end = list[str](), 0
            for start, size in row.holes:
                fills.append(tokenizer.decode(tokens[start : start + size]))
                texts += [tokenizer.decode(tokens[end:start]), fills[-1]]
                end = start + size
        if stops:
            fills[-1] = texts[2 * len(fills) - 1] = trimmed(fills[-1], stops)
        whole = "".join(texts) if stops or (tokenizer.spaced and given) else tokenizer.decode(tokens)
        return Generation(
            text=whole,
            tokens=tokens,
            fills=fills,
            confidence=[round(value, 6) for value in frame.confidence[index, : len(tokens)].tolist()],
            nfe=int(frame.nfe[index]) + (BOUND_DRAWS if bound is not None and self.noise != "none" else 0),
            seed=row.seed,
            finish=self.stopper.finished.get(index, "length"),
            bound=bound,
            doubts=self._doubts(index, len(tokens)) if self.requests[row.request].layout.draft else None,
        )

    def _doubts(self, index: int, length: int) -> list[float]:
        """What the model said of a draft's tokens at first sight."""
        assert self.first_doubts is not None
        return [round(value, 6) for value in self.first_doubts[index, :length].tolist()]


def worth(found: Generation) -> float:
    """What candidates are compared by."""
    return 0.0 if found.bound is None else found.bound

"""A model ready for text."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack, cast

import torch
from torch import nn

from unmask.backbones.masked import MaskedLM
from unmask.config import RunConfig, build_denoiser, build_training_denoiser
from unmask.diffusion.schedules import SCHEDULES
from unmask.pipeline.device import choose_device
from unmask.pipeline.job import Job
from unmask.pipeline.layouts import Part, lay_out
from unmask.pipeline.options import SamplingOptions, Settings, whole
from unmask.pipeline.repairing import repair_plan
from unmask.pipeline.results import Generation, Repair, Request, Score
from unmask.pipeline.rewriting import edit_request
from unmask.pipeline.scoring import fill_bound
from unmask.pretrained import Network, load_pretrained
from unmask.text.template import Template, parse_template
from unmask.text.tokenizer import Tokenizer

# rows * tokens * vocabulary of one forward pass: 2 GB of float32
LARGEST_BATCH = 1 << 29


class Pipeline:
    """Generate, infill, edit and score with one model.

    Args:
        model: tokens to logits.
        tokenizer: its tokenizer.
        config: the run that made it.
        device: where to compute; by default the fastest there is.
        compile: torch.compile the model: slow to start, then faster.
    """

    def __init__(
        self,
        model: Network,
        tokenizer: Tokenizer,
        config: RunConfig,
        device: str | None = None,
        *,
        compile: bool = False,
    ) -> None:
        self.device = choose_device(device)
        self.model = model.to(self.device).eval()
        self.tokenizer, self.config = tokenizer, config
        network = cast(nn.Module, torch.compile(self.model, dynamic=True)) if compile else self.model
        self.denoiser = build_denoiser(config, network, tokenizer)
        # a model trained to repair may answer with the mask: for samplers that ask it
        self.frank = build_training_denoiser(config, network, tokenizer)

    @classmethod
    def from_pretrained(cls, source: str | Path, device: str | None = None, *, compile: bool = False) -> "Pipeline":
        """Load a run folder, a checkpoint folder, a shipped model or a hub id."""
        loaded = load_pretrained(source)
        return cls(loaded.model, loaded.tokenizer, loaded.config, device, compile=compile)

    @property
    def length(self) -> int:
        """The longest canvas, in tokens."""
        return self.config.canvas

    @property
    def longest(self) -> int:
        """The longest text to fill, edit or score: a masked language model reads a long one through windows."""
        return self.model.longest if isinstance(self.model, MaskedLM) else self.length

    def generate(
        self, prompt: str = "", *, suffix: str = "", length: int | None = None, **options: Unpack[SamplingOptions]
    ) -> list[Generation]:
        """Continue a prompt (and lead up to a suffix) on a canvas of `length` tokens in all.

        Raises:
            ValueError: the texts leave no room on the canvas, or an option is out of range.
        """
        return self.batch([self.request_generate(prompt, suffix=suffix, length=length, **options)])[0]

    def infill(self, text: str, **options: Unpack[SamplingOptions]) -> list[Generation]:
        """Fill the holes of "To be, or [MASK:9] to be"; a hole [MASK:4-9] gets the length with the best bound.

        Raises:
            ValueError: no hole, a malformed one, a text longer than the model's canvas, or an option out of range.
        """
        return self.batch([self.request_infill(text, **options)])[0]

    def edit(
        self,
        text: str,
        span: Part | Sequence[Part] | None = None,
        *,
        share: float | None = None,
        size: int | None = None,
        keep: Part | Sequence[Part] = (),
        **options: Unpack[SamplingOptions],
    ) -> list[Generation]:
        """Rewrite parts of a text and leave the rest as it is.

        Args:
            text: the text.
            span: what to rewrite: a substring, a range of characters (start, end), or several of either.
            share: instead of a span, the share of the tokens to rewrite: those that the model finds least likely.
            size: tokens of the new span; by default as many as before.
            keep: parts that are never rewritten, such as an instruction.
            options: as everywhere.

        Raises:
            ValueError: neither or both of span and share, a part that is not in the text, or nothing left to rewrite.
        """
        request, spent = self.request_edit(text, span, share=share, size=size, keep=keep, **options)
        results = self.batch([request])[0]
        # finding the tokens was done once
        return [replace(results[0], nfe=results[0].nfe + spent), *results[1:]]

    def score(self, text: str, fill: str | Sequence[str] = (), *, draws: int = 16, seed: int = 0) -> Score:
        """Bound -log p(fill | rest): how well the fills suit the holes; without holes, how likely the text is.

        Args:
            text: a text, perhaps with holes; their sizes do not matter here.
            fill: what stands in each hole.
            draws: forward passes; more are more exact.
            seed: of the draws.

        Raises:
            ValueError: not one fill a hole, an empty one, or a text longer than the model's canvas.
        """
        draws, seed = whole(draws, "draws", 1), whole(seed, "seed", 0)
        template = parse_template(text, need_hole=False)
        fills = [fill] if isinstance(fill, str) else list(fill)
        if not template.holes:
            if fills:
                raise ValueError(f"the text has no hole, but {len(fills)} fills were given")
            template, fills = Template(("", ""), (1,)), [text]
        if len(fills) != len(template.holes):
            raise ValueError(f"the text has {len(template.holes)} holes, but {len(fills)} fills were given")
        pieces = self.tokenizer.encode_batch(fills)
        if any(not ids for ids in pieces):
            raise ValueError("a fill must not be empty")
        layout = lay_out(Template(template.texts, tuple(map(len, pieces))), self.tokenizer, self.longest)
        ids = list(layout.canvases[0])
        for (start, size), piece in zip(layout.holes[0], pieces, strict=True):
            ids[start : start + size] = piece
        if self.config.diffusion.corruption in ("uniform", "none"):
            raise ValueError("scores are for models trained with masks; unmask evaluate measures any model")
        tokens = torch.tensor([ids], device=self.device)
        holes = torch.tensor([layout.canvases[0]], device=self.device) == self.tokenizer.mask_id
        lengths, seeds = (torch.tensor([value], device=self.device) for value in (len(ids), seed))
        schedule = SCHEDULES[self.config.diffusion.schedule]()
        values, mean = fill_bound(self.denoiser, schedule, tokens, holes, lengths, seeds, draws)
        error = float(values.std()) / draws**0.5 if draws > 1 else None
        return Score(
            text=self.tokenizer.decode(ids),
            tokens=ids,
            nats=float(values.mean()),
            ci95=None if error is None else 1.96 * error,
            per_token=float(values.mean()) / int(holes.sum()),
            confidence=[None if value != value else round(value, 6) for value in (-mean[0]).exp().tolist()],
            nfe=draws,
            seed=seed,
        )

    def batch(self, requests: Sequence[Request]) -> list[list[Generation]]:
        """Many requests at once, of any lengths, seeds and settings: much faster than one by one, and the same texts."""
        pieces = [(number, piece) for number, request in enumerate(requests) for piece in self._pieces(request)]
        plans: dict[object, list[tuple[int, Request]]] = {}
        for number, piece in pieces:
            plans.setdefault(Settings(piece.options, self.tokenizer).plan, []).append((number, piece))
        results: list[list[Generation]] = [[] for _ in requests]
        for alike in plans.values():
            for part in self._parts(alike):
                job = Job(self, [piece for _, piece in part])
                for _ in job:
                    pass
                for (number, _), found in zip(part, job.results, strict=True):
                    results[number] += found
        return results

    def stream(
        self,
        text: str | Request = "",
        *,
        suffix: str = "",
        length: int | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Job:
        """Every state of the canvas: `for frame in job: ...`, and then `job.results[0]` has the texts.

        A text with holes is filled like `infill`, one without is continued like `generate`; or give a request.
        """
        if isinstance(text, Request):
            return Job(self, [text])
        if "[MASK" in text:
            return Job(self, [self.request_infill(text, **options)])
        return Job(self, [self.request_generate(text, suffix=suffix, length=length, **options)])

    def request_generate(
        self, prompt: str = "", *, suffix: str = "", length: int | None = None, **options: Unpack[SamplingOptions]
    ) -> Request:
        """What `generate` asks, for `batch` and `stream`."""
        length = self.length if length is None else whole(length, "length")
        if not 1 <= length <= self.length:
            raise ValueError(f"length must be between 1 and the model's {self.length}, not {length}")
        given = len(self.tokenizer.encode(prompt)) + len(self.tokenizer.encode(suffix))
        if given >= length:
            raise ValueError(
                f"the prompt and suffix have {given} tokens, which leaves nothing to fill on a canvas of {length}"
            )
        template = Template((prompt, suffix), (length - given,))
        return Request(lay_out(template, self.tokenizer, self.length), options)

    def request_infill(self, text: str, **options: Unpack[SamplingOptions]) -> Request:
        """What `infill` asks, for `batch` and `stream`."""
        return Request(lay_out(parse_template(text), self.tokenizer, self.longest), options)

    def request_edit(
        self,
        text: str,
        span: Part | Sequence[Part] | None = None,
        *,
        share: float | None = None,
        size: int | None = None,
        keep: Part | Sequence[Part] = (),
        **options: Unpack[SamplingOptions],
    ) -> tuple[Request, int]:
        """What `edit` asks, for `batch` and `stream`, and the forward passes that finding the tokens took."""
        return edit_request(self, text, span, share, size, keep, options)

    def repair(
        self,
        text: str,
        *,
        protect: Part | Sequence[Part] = (),
        threshold: float = 0.5,
        **options: Unpack[SamplingOptions],
    ) -> list[Repair]:
        """Replace what the model calls wrong; as many tokens as before.

        A model trained to repair (seed 001) looks at the whole text in every pass: tokens that it calls wrong are masked, and
        filled in the passes after, until nothing is called wrong any more or the `steps` (25) are spent. Any other model that
        fills masks is asked for each token given the others (8 passes): where it disagrees, the token is filled anew. The
        likeliest tokens are taken (temperature 0).

        Args:
            text: the text.
            protect: parts that are never changed: substrings, or ranges of characters (start, end).
            threshold: how likely wrong a token must be (or, of a model not trained to repair, how much likelier another one);
                lower finds more, and harms more that is right.
            options: as everywhere; the sampler (factor) fills what was masked, and must be one that stops by itself.

        Raises:
            ValueError: a model that reads no masks, a text longer than its canvas, nothing left to repair, or an option out of
                range.
        """
        plan = repair_plan(self, text, protect, threshold, options)
        return [plan.repair(found) for found in self.batch([plan.request])[0]]

    def request_repair(
        self,
        text: str,
        *,
        protect: Part | Sequence[Part] = (),
        threshold: float = 0.5,
        **options: Unpack[SamplingOptions],
    ) -> Request:
        """What `repair` asks, for `batch` and `stream`; of a model trained to repair, `Generation.doubts` say what was wrong."""
        return repair_plan(self, text, protect, threshold, options).request

    def _cells(self, request: Request, rows: int) -> int:
        """Rows * tokens * vocabulary of a request's forward pass."""
        return rows * sum(map(len, request.layout.canvases)) * self.tokenizer.vocab_size

    def _pieces(self, request: Request) -> Iterator[Request]:
        """A request as several when its samples do not fit into one forward pass; candidates stay together."""
        settings = Settings(request.options, self.tokenizer)
        most = max(1, LARGEST_BATCH // max(1, self._cells(request, 1)))
        if settings.samples <= most or settings.candidates > settings.samples:
            yield request
            return
        for first in range(0, settings.samples, most):
            some = SamplingOptions(
                seed=settings.seed + first, num_samples=min(most, settings.samples - first), best_of=None
            )
            yield Request(request.layout, request.options | some)

    def _parts(self, pieces: Sequence[tuple[int, Request]]) -> Iterator[list[tuple[int, Request]]]:
        """Requests in order, as many together as memory allows."""
        part: list[tuple[int, Request]] = []
        cells = 0
        for item in pieces:
            more = self._cells(item[1], Settings(item[1].options, self.tokenizer).candidates)
            if part and cells + more > LARGEST_BATCH:
                yield part
                part, cells = [], 0
            part.append(item)
            cells += more
        if part:
            yield part

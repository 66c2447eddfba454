"""Text to text: generate, infill, stream."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

import torch

from unmask.backbones.transformer import Transformer
from unmask.config import RunConfig, build_corruption, build_denoiser, build_sampler
from unmask.diffusion.schedules import SCHEDULES
from unmask.pretrained import load_pretrained
from unmask.sampling.controls import Controls
from unmask.sampling.frame import Frame
from unmask.sampling.loop import denoise
from unmask.sampling.redraw import redraw
from unmask.text.template import Template, parse_template
from unmask.text.tokenizer import Tokenizer

DEFAULT_STEPS = 64
SEED_LIMIT = 1 << 63


class SamplingOptions(TypedDict, total=False):
    """What every call takes.

    Keys:
        num_samples: how many texts (1).
        steps: denoising steps; by default as many as there are tokens to fill, at most 64. The threshold sampler
            stops by itself, and has no such cap.
        sampler: a name from `unmask list samplers` ("confidence").
        temperature: of the drawn tokens; 0 takes the likeliest (0.8).
        top_k: keep only the k likeliest tokens; 0 keeps all (0).
        top_p: keep only the likeliest tokens that reach this probability (1.0).
        tau: the threshold sampler's confidence (0.9).
        schedule: how many are revealed when; by default the one that the model was trained with.
        seed: sample i uses seed + i, and is the same alone as among others (0).
    """

    num_samples: int
    steps: int | None
    sampler: str
    temperature: float
    top_k: int
    top_p: float
    tau: float
    schedule: str | None
    seed: int


@dataclass(frozen=True)
class Generation:
    """One finished text.

    Attributes:
        text: the whole text, what was given included.
        tokens: its token ids.
        fills: the text of each hole.
        confidence: for each token, the model's probability of it when it was drawn; 1 for what was given.
        nfe: network forward evaluations.
        seed: the seed that makes it again.
    """

    text: str
    tokens: list[int]
    fills: list[str]
    confidence: list[float]
    nfe: int
    seed: int

    def __str__(self) -> str:
        return self.text


class Pipeline:
    """A model ready for text.

    Args:
        model: tokens to logits.
        tokenizer: its tokenizer.
        config: the run that made it.
        device: where to compute; by default the fastest there is.
    """

    def __init__(self, model: Transformer, tokenizer: Tokenizer, config: RunConfig, device: str | None = None) -> None:
        self.device = choose_device(device)
        self.model = model.to(self.device).eval()
        self.tokenizer, self.config = tokenizer, config
        self.denoiser = build_denoiser(config, self.model, tokenizer.mask_id)

    @classmethod
    def from_pretrained(cls, source: str | Path, device: str | None = None) -> "Pipeline":
        """Load a run folder, a checkpoint folder, a shipped model or a hub id."""
        loaded = load_pretrained(source)
        return cls(loaded.model, loaded.tokenizer, loaded.config, device)

    @property
    def length(self) -> int:
        """The longest canvas, in tokens."""
        return self.config.model.length

    def generate(
        self, prompt: str = "", *, suffix: str = "", length: int | None = None, **options: Unpack[SamplingOptions]
    ) -> list[Generation]:
        """Continue a prompt (and lead up to a suffix) on a canvas of `length` tokens in all.

        Raises:
            ValueError: the texts leave no room on the canvas, or an option is out of range.
        """
        return self._finish(self.generate_template(prompt, suffix, length), options)

    def infill(self, text: str, **options: Unpack[SamplingOptions]) -> list[Generation]:
        """Fill the holes of "To be, or [MASK:9] to be".

        Raises:
            ValueError: no hole, a malformed one, a text longer than the model's canvas, or an option out of range.
        """
        return self._finish(parse_template(text), options)

    def stream(
        self,
        prompt: str = "",
        *,
        suffix: str = "",
        length: int | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Iterator[Frame]:
        """Like `generate`, but every state of the canvas; if the prompt has holes, like `infill`."""
        if "[MASK" in prompt:
            return self.denoise(parse_template(prompt), **options)
        return self.denoise(self.generate_template(prompt, suffix, length), **options)

    def generations(self, template: Template, frame: Frame, seed: int = 0) -> list[Generation]:
        """What the last frame of a stream says."""
        canvas, starts = self._layout(template)
        results: list[Generation] = []
        for row in range(len(frame.tokens)):
            tokens = frame.tokens[row, : len(canvas)].tolist()
            fills = [
                self.tokenizer.decode(tokens[start : start + size])
                for start, size in zip(starts, template.holes, strict=True)
            ]
            results.append(
                Generation(
                    text=self.tokenizer.decode(tokens),
                    tokens=tokens,
                    fills=fills,
                    confidence=[round(value, 6) for value in frame.confidence[row, : len(canvas)].tolist()],
                    nfe=int(frame.nfe[row]),
                    seed=seed + row,
                )
            )
        return results

    def generate_template(self, prompt: str, suffix: str = "", length: int | None = None) -> Template:
        """One hole between prompt and suffix, as large as the canvas allows."""
        length = self.length if length is None else length
        if not 1 <= length <= self.length:
            raise ValueError(f"length must be between 1 and the model's {self.length}, not {length}")
        given = len(self.tokenizer.encode(prompt)) + len(self.tokenizer.encode(suffix))
        if given >= length:
            raise ValueError(
                f"the prompt and suffix have {given} tokens, which leaves nothing to fill on a canvas of {length}"
            )
        return Template((prompt, suffix), (length - given,))

    def _layout(self, template: Template) -> tuple[list[int], list[int]]:
        """The canvas of a template, and where its holes start."""
        canvas: list[int] = []
        starts: list[int] = []
        encoded = self.tokenizer.encode_batch(template.texts)
        for ids, size in zip(encoded, (*template.holes, 0), strict=True):
            canvas += ids
            starts.append(len(canvas))
            canvas += [self.tokenizer.mask_id] * size
        if len(canvas) > self.length:
            raise ValueError(f"the text has {len(canvas)} tokens, holes included; the model's canvas has {self.length}")
        return canvas, starts[:-1]

    def _finish(self, template: Template, options: SamplingOptions) -> list[Generation]:
        *_, last = self.denoise(template, **options)
        return self.generations(template, last, options.get("seed", 0))

    def denoise(self, template: Template, **options: Unpack[SamplingOptions]) -> Iterator[Frame]:
        """Every state of a template's canvas, for callers that want the frames and the texts."""
        rows, seed = options.get("num_samples", 1), options.get("seed", 0)
        if rows < 1:
            raise ValueError(f"num_samples must be at least 1, not {rows}")
        if not 0 <= seed < SEED_LIMIT - rows:
            raise ValueError(f"seed must be between 0 and 2^63, not {seed}")
        open_tokens = sum(template.holes)
        if open_tokens > self.length:
            raise ValueError(f"the holes have {open_tokens} tokens; the model's canvas has {self.length}")
        canvas, _ = self._layout(template)
        schedule = options.get("schedule") or self.config.diffusion.schedule
        sampler = build_sampler(options.get("sampler", "confidence"), schedule, options.get("tau", 0.9))
        steps = options.get("steps")
        if steps is None:
            steps = open_tokens if sampler.adaptive else min(open_tokens, DEFAULT_STEPS)
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        controls = Controls.of(
            rows,
            temperature=options.get("temperature", 0.8),
            top_k=options.get("top_k", 0),
            top_p=options.get("top_p", 1.0),
        ).to(self.device)
        tokens = torch.tensor([canvas] * rows, device=self.device)
        counts = torch.full((rows,), steps, device=self.device)
        seeds = torch.arange(seed, seed + rows, device=self.device)
        if self.config.diffusion.corruption == "uniform":
            corruption = build_corruption(self.config.diffusion, self.tokenizer.vocab_size, self.tokenizer.mask_id)
            return redraw(self.denoiser, tokens, corruption, steps=counts, seeds=seeds, controls=controls)
        own = SCHEDULES[self.config.diffusion.schedule]()
        return denoise(self.denoiser, tokens, sampler, steps=counts, seeds=seeds, controls=controls, trained_with=own)


def default_device() -> str:
    """Cuda or cpu; mps has no float64, which exact sampling needs."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_device(name: str | None) -> torch.device:
    """The device that is asked for, or the default.

    Raises:
        ValueError: it does not exist here, or cannot sample exactly.
    """
    name = name or default_device()
    kind = name.split(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"there is no device {name!r}; there are cpu and cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError("this machine or this build of torch has no cuda device: leave --device out, or use cpu")
    return torch.device(name)

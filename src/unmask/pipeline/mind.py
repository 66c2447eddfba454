"""A model that remembers what it has read and written, in thoughts."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor

from unmask.backbones.thinking import ThoughtTransformer
from unmask.config import build_denoiser, build_training_denoiser
from unmask.diffusion.recalling import Recalling
from unmask.pipeline.options import SamplingOptions, whole
from unmask.pipeline.pipeline import Pipeline
from unmask.pipeline.results import Generation, Layout, Request
from unmask.thought.blending import blend, interpolate
from unmask.thought.conditioning import MemoryCache, fingerprint
from unmask.thought.decoder import on_sphere
from unmask.thought.denoising import Property, ThoughtFrame, denoise_thought
from unmask.thought.memory import Memory
from unmask.thought.noise import add_noise
from unmask.thought.session import Session, load_session, save_session
from unmask.thought.stack import ThoughtStack

NO_THOUGHTS = (
    "this model has no thoughts: upgrade it with unmask train RECIPE --adapt.source MODEL --thought.dims [8,8,4], or train one "
    "(unmask train thought-mini)"
)


class Mind:
    """A model, the thoughts that it has had, and the text that is not yet a whole segment.

    Everything that a `Pipeline` does, `mind.pipe` does with the thoughts as context: fill holes, edit, repair, score.

    Args:
        pipe: a model with thoughts.
        stack: what it remembers; None: nothing yet.
        tail: tokens read or written since the last thought.

    Raises:
        ValueError: a model without thoughts, or a stack that is not its own.
    """

    def __init__(self, pipe: Pipeline, stack: ThoughtStack | None = None, tail: Sequence[int] = ()) -> None:
        if not isinstance(pipe.model, ThoughtTransformer):
            raise ValueError(NO_THOUGHTS)
        self.plain, self.model = pipe, pipe.model
        self.stack = pipe.model.empty_stack(1) if stack is None else stack.to(pipe.device)
        self.tail = list(tail)
        self.present: Tensor | None = None
        self.cache = MemoryCache(self._encode)
        self.memory = self.cache(self.stack)

    @classmethod
    def from_pretrained(cls, source: str | Path, device: str | None = None) -> "Mind":
        """Load a model with thoughts."""
        return cls(Pipeline.from_pretrained(source, device))

    @property
    def pipe(self) -> Pipeline:
        """The pipeline, reading these thoughts."""
        pipe = copy.copy(self.plain)
        config, tokenizer = pipe.config, pipe.tokenizer
        pipe.denoiser = Recalling(build_denoiser(config, self.model, tokenizer), self.memory)
        pipe.frank = Recalling(build_training_denoiser(config, self.model, tokenizer), self.memory)
        return pipe

    @property
    def fingerprint(self) -> str:
        """Of the model: thoughts mean something to it only."""
        return fingerprint(*self.model.state_dict().values())

    @property
    def segment(self) -> int:
        """Tokens that a thought stands for: the model's whole canvas."""
        return self.plain.length

    def read(self, text: str) -> "Mind":
        """Remember a text: a thought for every whole segment of it; what is left over is read on from."""
        return self.read_tokens(self.plain.tokenizer.encode(text))

    def read_tokens(self, tokens: Sequence[int]) -> "Mind":
        """`read` for token ids."""
        self.tail += tokens
        while len(self.tail) >= self.segment:
            self.push(self.thought_of(self.tail[: self.segment]))
            self.tail = self.tail[self.segment :]
        return self

    @torch.no_grad()
    def thought_of(self, text: str | Sequence[int]) -> Tensor:
        """The thought (1, *D) of a text (or its tokens) of at most a segment, as it follows what is remembered.

        Raises:
            ValueError: no text, or more than a segment.
        """
        ids = self.plain.tokenizer.encode(text) if isinstance(text, str) else list(text)
        if not 1 <= len(ids) <= self.segment:
            raise ValueError(f"a thought is written from 1 to {self.segment} tokens, not {len(ids)}")
        return self.model.write(torch.tensor([ids], device=self.plain.device), self.stack)

    def push(self, thought: Tensor) -> "Mind":
        """A thought on top of the stack."""
        self.stack = self.stack.push(thought)
        self.memory = self.cache(self.stack)
        return self

    def about(self, thought: Tensor | None) -> "Mind":
        """The same mind with this thought (1, *D) present: what is written next is what it says; None: with none.

        Raises:
            ValueError: a thought of other dims.
        """
        if thought is not None and tuple(thought.shape[1:]) != self.stack.dims:
            raise ValueError(f"a thought of {tuple(thought.shape[1:])} does not fit a model of {self.stack.dims}")
        other = copy.copy(self)
        other.tail, other.present = list(self.tail), thought
        with torch.no_grad():
            other.memory = self.cache(self.stack) if thought is None else self.model.remember(self.stack, thought)
        return other

    def write(self, prompt: str = "", *, tokens: int = 64, **options: Unpack[SamplingOptions]) -> str:
        """Go on with `tokens` more, segment by segment, and remember each: texts of any length.

        Raises:
            ValueError: fewer than one token, or an option out of range.
        """
        return "".join(self.stream(prompt, tokens=tokens, **options))

    def stream(self, prompt: str = "", *, tokens: int = 64, **options: Unpack[SamplingOptions]) -> Iterator[str]:
        """`write`, piece by piece."""
        if whole(tokens, "tokens") < 1:
            raise ValueError(f"tokens must be at least 1, not {tokens}")
        if options.get("num_samples", 1) != 1:
            raise ValueError("a mind goes on with one text: leave num_samples at 1")
        self.read(prompt)
        tokenizer, seed = self.plain.tokenizer, options.get("seed", 0)
        written: list[int] = []
        shown = ""
        while len(written) < tokens:
            size = min(tokens - len(written), self.segment - len(self.tail))
            given = len(self.tail)
            layout = Layout([[*self.tail, *[tokenizer.mask_id] * size]], [[(given, size)]])
            some = SamplingOptions(seed=seed + len(written))
            (found,) = self.pipe.batch([Request(layout, options | some)])[0]
            new = found.tokens[given:]
            written += new
            self.read_tokens(new)
            # a character may lie in several tokens: what was shown stays, what is new is added
            text = tokenizer.decode(written)
            yield text[len(shown) :]
            shown = text
            if found.finish != "length" or not new:
                break

    def imagine(
        self,
        *,
        seed: int = 0,
        steps: int = 20,
        toward: Property | None = None,
        strength: float = 1.0,
        near: Tensor | None = None,
        start: float = 1.0,
    ) -> list[ThoughtFrame]:
        """A thought of what may come next, denoised from noise; the last frame's `clean` is it.

        Args:
            seed: of the noise.
            steps: denoising steps.
            toward: what to steer by: a differentiable score of clean thoughts, higher is better.
            strength: how far each step is steered.
            near: a thought to start from, noised to `start`, instead of noise: `start` says how much of it is forgotten.
            start: a time in (0, 1].

        Raises:
            ValueError: steps, start or seed out of range, or a property that is not differentiable.
        """
        shape = (1, *self.stack.dims)
        generator = torch.Generator().manual_seed(whole(seed, "seed", 0))
        noise = torch.randn(shape, generator=generator).to(self.plain.device)
        if near is not None:
            time = torch.full((1,), float(start), device=self.plain.device)
            noise = add_noise(near, time, torch.Generator(self.plain.device).manual_seed(seed)).noisy
        elif start != 1:
            raise ValueError("start goes with near: from nothing, a thought starts at 1")
        frames = list(denoise_thought(self._expect, noise, start=start, steps=steps, toward=toward, strength=strength))
        clean = on_sphere(frames[-1].clean.flatten(2)).view(shape)
        return [*frames[:-1], replace(frames[-1], clean=clean)]

    def interpolated(self, a: Tensor, b: Tensor, alpha: float, *, start: float = 0.3, steps: int = 10) -> Tensor:
        """Between two thoughts, denoised back to where thoughts lie (start 0: not denoised).

        Raises:
            ValueError: alpha outside [0, 1].
        """
        between = interpolate(a, b, alpha)
        return between if start == 0 else self.imagine(near=between, start=start, steps=steps)[-1].clean

    def blended(
        self, thoughts: Sequence[Tensor], weights: Sequence[float] | None = None, *, start: float = 0.3, steps: int = 10
    ) -> Tensor:
        """Several thoughts at once, denoised back to where thoughts lie (start 0: not denoised)."""
        mixed = blend(thoughts, weights)
        return mixed if start == 0 else self.imagine(near=mixed, start=start, steps=steps)[-1].clean

    def hypotheses(
        self,
        prompt: str = "",
        *,
        thoughts: int = 4,
        length: int | None = None,
        judge: Callable[[Sequence[str]], list[float]] | None = None,
        **options: Unpack[SamplingOptions],
    ) -> list[tuple[Generation, Tensor]]:
        """Texts from several imagined thoughts, the likeliest first: by the bound given the stack alone, or by a judge.

        Args:
            prompt: how each text begins.
            thoughts: how many.
            length: of the canvas, in tokens.
            judge: texts -> nats a token of each, such as `unmask.evaluation.judge.load_judge` gives.
            options: as everywhere; thought i and its text use seed + i.

        Raises:
            ValueError: fewer than one thought, or an option out of range.
        """
        if whole(thoughts, "thoughts") < 1:
            raise ValueError(f"thoughts must be at least 1, not {thoughts}")
        found: list[tuple[float, Generation, Tensor]] = []
        seed = options.get("seed", 0)
        plain = self.about(None).pipe
        for number in range(thoughts):
            thought = self.imagine(seed=seed + number)[-1].clean
            some = SamplingOptions(seed=seed + number)
            text = self.about(thought).pipe.generate(prompt, length=length, **(options | some))[0]
            nats = plain.score(text.text).per_token if judge is None else judge([text.text])[0]
            found.append((nats, replace(text, bound=nats), thought))
        found.sort(key=lambda item: item[0])
        return [(text, thought) for _, text, thought in found]

    def save(self, file: str | Path) -> None:
        """Write the session, for another day."""
        save_session(Session(self.stack, self.fingerprint, {"tail": self.tail}), Path(file))

    def load(self, file: str | Path) -> "Mind":
        """Go on from a session.

        Raises:
            ValueError: no session, or one of another model.
        """
        session = load_session(Path(file), self.fingerprint)
        return Mind(self.plain, session.stack, session.notes["tail"])

    def _encode(self, stack: ThoughtStack) -> Memory:
        with torch.no_grad():
            return self.model.remember(stack)

    def _expect(self, noisy: Tensor, t: Tensor) -> Tensor:
        """The expected clean thought of the segment that is begun by the tail."""
        mask = self.plain.tokenizer.mask_id
        canvas = torch.tensor([[*self.tail, *[mask] * (self.segment - len(self.tail))]], device=noisy.device)
        time = torch.full((1,), 1 - len(self.tail) / self.segment, device=noisy.device)
        memory = self.model.remember(self.stack, noisy, t)
        nowhere = torch.zeros_like(canvas, dtype=torch.bool)
        insight = self.model.think(canvas, time, memory=memory, select=nowhere)
        return self.model.clean_thought(noisy, t, insight.pooled)


def toward_thought(target: Tensor) -> Property:
    """How much a thought is like another: the mean product of their numbers, 1 when they are the same."""
    return lambda thought: (thought * target).flatten(1).mean(-1)


def toward_probe(weights: Tensor) -> Property:
    """A linear probe's answer; weights of a thought's dims."""
    return lambda thought: (thought * weights).flatten(1).sum(-1)

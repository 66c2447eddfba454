"""The vectorised encoder and ring buffer against seed 004's loops, and predictions used again against computed again.

    python benchmarks/encoder_speed.py [--rounds 7]

A and B are interleaved; medians of A/B with the extremes of the pairwise ratios. Their outputs are compared first.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from unmask.backbones.thinking import ThoughtTransformer
from unmask.backbones.transformer import TransformerConfig, initialize
from unmask.config import build_sampler
from unmask.diffusion.denoiser import Denoised, Denoiser, Subs
from unmask.diffusion.recalling import Recalling
from unmask.pipeline import Pipeline
from unmask.recipes import load_recipe
from unmask.sampling.controls import Controls
from unmask.sampling.loop import denoise
from unmask.thought.config import ThoughtConfig
from unmask.thought.stack import ThoughtStack
from unmask.types import Lengths, Positions, Times, Tokens


def compare(name: str, slow: Callable[[], object], fast: Callable[[], object], rounds: int) -> None:
    """Interleaved timings."""
    pairs: list[tuple[float, float]] = []
    for _ in range(rounds):
        taken: list[float] = []
        for run in (slow, fast):
            began = time.perf_counter()
            run()
            taken.append(time.perf_counter() - began)
        pairs.append((taken[0], taken[1]))
    ratios = [a / b for a, b in pairs]
    before, after = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"{name}: {before * 1e3:.1f} ms -> {after * 1e3:.1f} ms, {statistics.median(ratios):.2f}x "
        f"({min(ratios):.2f}-{max(ratios):.2f})"
    )


def encoder(rounds: int, rows: int, dims: tuple[int, ...], slots: int, width: int) -> None:
    """Lift slot by slot, push row by row, as the seed does."""
    thought = ThoughtConfig(dims=dims, slots=slots)
    model = ThoughtTransformer(TransformerConfig(layers=1, width=width, heads=4, length=8), 8, thought)
    initialize(model, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    stack = ThoughtStack.empty(rows, slots, dims)
    for _ in range(slots + 1):
        stack = stack.push(torch.randn(rows, *dims, generator=generator))
    new = torch.randn(rows, *dims, generator=generator)

    @torch.no_grad()
    def lift_by_slot() -> Tensor:
        encoder = model.encoder
        parts = [
            encoder.lift(stack.data[:, slot].flatten(2)) + encoder.who + encoder.age[stack.age[:, slot]][:, None]
            for slot in range(slots)
        ]
        return torch.stack(parts, 1)

    @torch.no_grad()
    def lift_at_once() -> Tensor:
        encoder = model.encoder
        return encoder.lift(stack.data.flatten(3)) + encoder.who + encoder.age[stack.age][:, :, None]

    def push_by_row() -> Tensor:
        data = stack.data.clone()
        for row in range(rows):
            data[row, int(stack.head[row])] = new[row]
        return data

    def push_at_once() -> Tensor:
        return stack.push(new).data

    torch.testing.assert_close(lift_by_slot(), lift_at_once())
    torch.testing.assert_close(push_by_row(), push_at_once())
    shape = f"{rows} rows, {slots} slots of {'x'.join(map(str, dims))}"
    compare(f"encoder, {shape}", lift_by_slot, lift_at_once, rounds)
    compare(f"push, {shape}", push_by_row, push_at_once, rounds)


class Forgetful:
    """A denoiser that claims to read t, so that nothing is used again, and computes every position as published code does."""

    time_dependent = True

    def __init__(self, denoiser: Subs) -> None:
        self.denoiser, self.mask_id = denoiser, denoiser.mask_id

    def __call__(self, xt: Tokens, t: Times, *, lengths: Lengths | None = None, select: Positions) -> Denoised:
        """Every position, every time."""
        everywhere = self.denoiser(xt, t, lengths=lengths, select=torch.ones_like(select)).log_probs
        return Denoised(everywhere[select.flatten()], select)


def reuse(rounds: int, factor: int, rows: int, length: int = 64) -> None:
    """MDLM's ancestral sampler at `factor` times as many steps as tokens: most steps reveal nothing."""
    pipe = Pipeline.from_pretrained("shakespeare", "cpu")
    assert isinstance(pipe.denoiser, Subs)
    again = Forgetful(pipe.denoiser)
    sampled(
        f"{rows} texts, {factor}L steps", pipe.denoiser, again, pipe.tokenizer.vocab_size, rounds, factor, rows, length
    )


class ForgetfulMind:
    """A thought model that encodes its stack in every pass and keeps no answer, as naive samplers do."""

    def __init__(self, model: ThoughtTransformer, denoiser: Subs, stack: ThoughtStack) -> None:
        self.model, self.denoiser, self.stack = model, denoiser, stack
        self.mask_id, self.time_dependent = denoiser.mask_id, True

    def __call__(self, xt: Tokens, t: Times, *, lengths: Lengths | None = None, select: Positions) -> Denoised:
        """Every position, every time, from the stack on."""
        memory = self.model.remember(self.stack)
        everywhere = Recalling(self.denoiser, memory)(xt, t, lengths=lengths, select=torch.ones_like(select)).log_probs
        return Denoised(everywhere[select.flatten()], select)


def thoughtful_reuse(rounds: int, factor: int, rows: int) -> None:
    """The same with `thought-mini` and a full stack: the stack is encoded once, not in every pass."""
    config = load_recipe("thought-mini")
    vocab_size = config.data.vocab_size
    model = ThoughtTransformer(config.model, vocab_size, config.thought).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.05, generator=torch.Generator().manual_seed(parameter.numel()))
    stack = model.empty_stack(1)
    for slot in range(config.thought.slots):
        stack = stack.push(torch.randn(1, *config.thought.dims, generator=torch.Generator().manual_seed(slot)))
    denoiser = Subs(model, vocab_size - 1)
    with torch.no_grad():
        kept = Recalling(denoiser, model.remember(stack))
    name = f"thought-mini, {rows} texts, {factor}L steps"
    sampled(name, kept, ForgetfulMind(model, denoiser, stack), vocab_size, rounds, factor, rows, config.model.length)


def sampled(
    title: str, kept: Denoiser, again: Denoiser, vocab_size: int, rounds: int, factor: int, rows: int, length: int
) -> None:
    """Two denoisers that say the same, timed over whole texts."""
    canvas = torch.full((rows, length), kept.mask_id)
    passes: dict[str, int] = {}
    texts: dict[str, Tensor] = {}

    def sample(name: str, which: Denoiser) -> None:
        frames = denoise(
            which,
            canvas,
            build_sampler("ancestral", "linear"),
            steps=torch.full((rows,), factor * length),
            seeds=torch.arange(rows),
            controls=Controls.of(rows, temperature=0.8),
        )
        for frame in frames:
            last = frame
        passes[name], texts[name] = int(last.nfe.sum()), last.tokens

    sample("again", again)
    sample("kept", kept)
    assert texts["again"].equal(texts["kept"]), "the text must be the same"
    fewer = passes["again"] / passes["kept"]
    print(f"{title}: {passes['again']} forward passes -> {passes['kept']}, {fewer:.2f}x fewer")
    compare(f"{title}, the same text", lambda: sample("again", again), lambda: sample("kept", kept), rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    encoder(arguments.rounds, rows=1, dims=(8, 8, 4), slots=8, width=256)
    encoder(arguments.rounds, rows=32, dims=(8, 8, 4), slots=8, width=256)
    encoder(arguments.rounds, rows=4, dims=(32, 32, 16), slots=8, width=256)
    for rows in (1, 16):
        for factor in (2, 3, 4):
            reuse(arguments.rounds, factor, rows)
            thoughtful_reuse(arguments.rounds, factor, rows)


if __name__ == "__main__":
    main()

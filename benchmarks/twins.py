"""GPT or diffusion: the same transformer both ways, at two sizes: likelihood, training speed, writing speed.

    python benchmarks/twins.py [--runs DIR] [--rounds 5]

Trains char-small, shakespeare-demo and their -gpt twins unless DIR holds them. Speeds are medians of interleaved rounds, with
the extremes of the pairwise ratios.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from unmask.cli.evaluate import bound, find_held_out
from unmask.cli.train import overridden
from unmask.pipeline import Pipeline
from unmask.training.trainer import Trainer, train

PAIRS = ("char-small", "shakespeare-demo")
STEPS = (16, 32, 64)


def trained(recipe: str, runs: Path) -> Pipeline:
    """The pipeline of a recipe's last checkpoint, trained unless it is there."""
    folder = runs / recipe
    if not (folder / "checkpoints/last").exists() and not train(overridden(recipe, []), folder).complete:
        raise KeyboardInterrupt
    return Pipeline.from_pretrained(folder / "checkpoints/last", "cpu")


def interleaved(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each job, round by round; a first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        names = list(jobs) if number % 2 else list(reversed(jobs))
        for name in names:
            began = time.perf_counter()
            jobs[name]()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(of: list[float], to: list[float]) -> str:
    """How many times as long the first takes: median, and the extremes of the pairs."""
    pairs = [a / b for a, b in zip(of, to, strict=True)]
    return f"{statistics.median(pairs):.2f}x ({min(pairs):.2f} to {max(pairs):.2f})"


def likelihoods(recipe: str, runs: Path) -> None:
    """Both on all held-out blocks."""
    for name in (f"{recipe}-gpt", recipe):
        pipe = trained(name, runs)
        found = bound(pipe, find_held_out(pipe, None, None).split, blocks=10**9, draws=4, seed=0)
        parameters = sum(parameter.numel() for parameter in pipe.model.parameters())
        print(f"| {name} | {parameters:,} | {found.nelbo} | {found.bits_per_byte} |", flush=True)


def training(recipe: str, rounds: int) -> None:
    """Ten optimizer steps of each, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        trainers = {}
        for name in (f"{recipe}-gpt", recipe):
            config = overridden(name, [])
            trainers[name] = Trainer(config, Path(folder) / name)

        def ten(trainer: Trainer) -> None:
            for _ in range(10):
                trainer._step()

        seconds = interleaved({name: lambda part=part: ten(part) for name, part in trainers.items()}, rounds)
    config = trainers[recipe].config
    tokens = 10 * config.train.batch_size * config.model.length
    for name, times in seconds.items():
        print(f"| {name} | {tokens / statistics.median(times):,.0f} tokens/s |")
    print(f"  diffusion step / GPT step: {ratio(seconds[recipe], seconds[f'{recipe}-gpt'])}", flush=True)


def writing(recipe: str, runs: Path, rounds: int) -> None:
    """Whole canvases, for 1 and 16 texts at once."""
    gpt, diffusion = trained(f"{recipe}-gpt", runs), trained(recipe, runs)
    length = gpt.length
    for rows in (1, 16):
        jobs: dict[str, Callable[[], object]] = {
            "gpt, cached": lambda rows=rows: gpt.generate(num_samples=rows, length=length, ignore_end=True)
        }
        for steps in STEPS:
            jobs[f"diffusion, {steps} passes"] = lambda rows=rows, steps=steps: diffusion.generate(
                num_samples=rows, length=length, steps=steps, sampler="random", ignore_end=True
            )
        seconds = interleaved(jobs, rounds)
        for name, times in seconds.items():
            rate = rows * length / statistics.median(times)
            against = ratio(seconds["gpt, cached"], times)
            print(f"| {recipe} | {rows} | {name} | {rate:,.0f} | {against} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, default=Path("runs/twins"))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print("| model | parameters | nats/token | bits/byte |")
    for recipe in PAIRS:
        likelihoods(recipe, args.runs)
    print("\ntraining")
    for recipe in PAIRS:
        training(recipe, args.rounds)
    print("\n| size | texts | way | tokens/s | times the GPT's speed |")
    for recipe in PAIRS:
        writing(recipe, args.runs, args.rounds)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()

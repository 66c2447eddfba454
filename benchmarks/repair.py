"""Repair against confidence: the same network trained with seed 001's objective, and as a plain masked model.

    python benchmarks/repair.py [--seeds 3] [--runs DIR]

Of each seed both models are trained (char-small-repair, char-small; 0.8M parameters, 2.05M characters), 10 % of the tokens
of held-out text are replaced at random, and each model mends them in its own way. Then both write, with and without
reopening, and the autoregressive twin (char-small-gpt) reads, in nats a character. (A judge with tokens of its own would
be misled: it cuts nonsense into many easy tokens.)
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from unmask.cli.evaluate import find_held_out
from unmask.cli.train import overridden
from unmask.diffusion.schedules import SCHEDULES
from unmask.evaluation.generation import unigram_entropy
from unmask.evaluation.repairing import RepairQuality, damage, repair_quality
from unmask.pipeline import Pipeline, Request
from unmask.pipeline.layouts import reopened
from unmask.pipeline.results import Layout
from unmask.pipeline.scoring import token_nll
from unmask.text.batches import eval_blocks
from unmask.training.trainer import train

BLOCKS = 128
SAMPLES = 64
OPTIONS = {"temperature": 0.0, "sampler": "factor"}


def trained(recipe: str, seed: int, runs: Path) -> Pipeline:
    """The pipeline of a recipe's run, trained unless it is there."""
    folder = runs / f"{recipe}-{seed}"
    if not (folder / "checkpoints").exists():
        config = overridden(recipe, [])
        if not train(replace(config, train=replace(config.train, seed=seed, eval_every=500)), folder).complete:
            raise KeyboardInterrupt
    return Pipeline.from_pretrained(folder / "checkpoints/last", "cpu")


def by_doubt(pipe: Pipeline, damaged: Tensor, threshold: float) -> tuple[Tensor, Tensor, float]:
    """What a repair model makes of the rows, its doubts, and its forward passes a row."""
    options = OPTIONS | {"revise": f"doubt:threshold={threshold}", "steps": 25}
    requests = [Request(Layout([ids], [[]], frozenset(range(len(ids)))), options) for ids in damaged.tolist()]
    found = [sample for [sample] in pipe.batch(requests)]
    doubts = torch.tensor([sample.doubts for sample in found])
    return torch.tensor([sample.tokens for sample in found]), doubts, statistics.mean(s.nfe for s in found)


def by_confidence(pipe: Pipeline, damaged: Tensor, share: float) -> tuple[Tensor, Tensor, float]:
    """A plain masked model rewrites the share that it finds least likely; each token is judged with 1 in 8 hidden."""
    everywhere = torch.ones_like(damaged, dtype=torch.bool)
    nll = token_nll(pipe.denoiser, SCHEDULES["linear"](), damaged, everywhere).float()
    return rewritten(pipe, damaged, nll, share, 8)


def rewritten(pipe: Pipeline, damaged: Tensor, nll: Tensor, share: float, passes: int) -> tuple[Tensor, Tensor, float]:
    """The least likely share of each row filled anew."""
    count = round(share * damaged.shape[1])
    requests = [
        Request(reopened(ids, set(row.topk(count).indices.tolist()), pipe.tokenizer.mask_id), OPTIONS)
        for ids, row in zip(damaged.tolist(), nll, strict=True)
    ]
    found = [sample for [sample] in pipe.batch(requests)]
    return torch.tensor([sample.tokens for sample in found]), nll, passes + statistics.mean(s.nfe for s in found)


def by_glance(pipe: Pipeline, damaged: Tensor, share: float) -> tuple[Tensor, Tensor, float]:
    """The same from one pass: how likely the masked model finds each token that it sees (it was never trained to say)."""
    everywhere = torch.ones_like(damaged, dtype=torch.bool)
    with torch.no_grad():
        log_probs = pipe.denoiser(damaged, torch.zeros(len(damaged)), select=everywhere).log_probs
    nll = -log_probs.gather(-1, damaged.view(-1, 1)).view(damaged.shape)
    return rewritten(pipe, damaged, nll, share, 1)


WAYS: list[tuple[str, str, Callable[[Pipeline, Tensor], tuple[Tensor, Tensor, float]]]] = [
    *(
        ("char-small-repair", f"doubt > {threshold}", lambda pipe, rows, tau=threshold: by_doubt(pipe, rows, tau))
        for threshold in (0.3, 0.5, 0.7)
    ),
    *(
        ("char-small", f"least likely {share:.0%}", lambda pipe, rows, part=share: by_confidence(pipe, rows, part))
        for share in (0.03, 0.05, 0.1, 0.2)
    ),
    *(
        (
            "char-small",
            f"one pass, least likely {share:.0%}",
            lambda pipe, rows, part=share: by_glance(pipe, rows, part),
        )
        for share in (0.05, 0.1)
    ),
]

WRITING = [
    ("char-small-repair", {"sampler": "willing", "steps": 25, "top_k": 200}),
    ("char-small-repair", {"sampler": "willing", "steps": 25, "top_k": 200, "revise": "doubt"}),
    ("char-small-repair", {"sampler": "willing", "steps": 25, "top_k": 200, "revise": "doubt:times=8"}),
    ("char-small-repair", {"sampler": "confidence", "steps": 25}),
    ("char-small-repair", {"sampler": "confidence", "steps": 25, "revise": "doubt"}),
    ("char-small-repair", {"sampler": "random", "steps": 25}),
    ("char-small-repair", {"sampler": "random", "steps": 25, "revise": "doubt"}),
    ("char-small", {"sampler": "confidence", "steps": 25}),
    ("char-small", {"sampler": "random", "steps": 25}),
    ("char-small", {"sampler": "random", "steps": 21, "revise": "self_correct"}),
]


def judged(judge: Pipeline, tokens: list[list[int]]) -> float:
    """Mean -log p of each token given those before it."""
    canvas = torch.tensor(tokens)
    everywhere = torch.ones_like(canvas, dtype=torch.bool)
    with torch.no_grad():
        log_probs = judge.denoiser(canvas, torch.zeros(len(canvas)), select=everywhere).log_probs
    return -float(log_probs.gather(-1, canvas.view(-1, 1)).mean())


def spread(values: list[float], scale: float = 1) -> str:
    """Mean and standard deviation over seeds."""
    deviation = statistics.stdev(values) * scale if len(values) > 1 else float("nan")
    return f"{statistics.mean(values) * scale:.3f} ± {deviation:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/repair-benchmark"))
    args = parser.parse_args()
    pipes = {
        (recipe, seed): trained(recipe, seed, args.runs)
        for recipe in ("char-small-repair", "char-small")
        for seed in range(args.seeds)
    }
    first = pipes["char-small", 0]
    rows = eval_blocks(find_held_out(first, None, None).split, first.length, BLOCKS)
    print(f"| model | way | AUC | restored, % | harmed, % | passes | ({rows.numel()} characters, 10 % wrong)")
    for recipe, name, way in WAYS:
        found: list[tuple[RepairQuality, float]] = []
        for seed in range(args.seeds):
            pipe = pipes[recipe, seed]
            generator = torch.Generator().manual_seed(seed)
            damaged = damage(rows, pipe.tokenizer.mask_id, pipe.tokenizer.vocab_size, 0.1, generator)
            repaired, doubts, passes = way(pipe, damaged)
            found.append((repair_quality(rows, damaged, repaired, doubts), passes))
        auc = spread([quality.auc for quality, _ in found])
        restored, harmed = (spread([getattr(q, key) for q, _ in found], 100) for key in ("restored", "harmed"))
        print(f"| {recipe} | {name} | {auc} | {restored} | {harmed} | {spread([p for _, p in found])} |", flush=True)
    judge = trained("char-small-gpt", 0, args.runs)
    print(f"\nheld-out text itself: {judged(judge, rows[: SAMPLES * 2].tolist()):.3f} nats a character")
    print("| model | options | nats a character | entropy | passes |")
    for recipe, options in WRITING:
        values: list[tuple[float, float, float]] = []
        for seed in range(args.seeds):
            samples = pipes[recipe, seed].generate(num_samples=SAMPLES, temperature=0.8, seed=1000 * seed, **options)
            tokens = [sample.tokens for sample in samples]
            passes = statistics.mean(sample.nfe for sample in samples)
            values.append((judged(judge, tokens), unigram_entropy(tokens), passes))
        words = " ".join(f"{key}={value}" for key, value in options.items())
        figures = " | ".join(spread(list(column)) for column in zip(*values, strict=True))
        print(f"| {recipe} | {words} | {figures} |", flush=True)


if __name__ == "__main__":
    main()

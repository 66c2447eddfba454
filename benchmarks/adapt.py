"""From GPT to diffusion: half the steps, starting from the autoregressive twin, against all of them from nothing.

    python benchmarks/adapt.py [--seeds 3] [--runs DIR] [--plot docs/images/adapt.png]

Of each seed a GPT (char-small-gpt, 1,000 steps) and a diffusion model (char-small, 1,000 steps) are trained from nothing, and
the GPT is adapted for 500 steps. Other ways, of the first seed only, show what matters. Bounds on all held-out blocks, nats a
character.
"""

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt

from unmask.cli.evaluate import bound, find_held_out
from unmask.cli.train import overridden
from unmask.pipeline import Pipeline
from unmask.training.trainer import train

# a canvas of 128 needs 129 positions where the next one is predicted
NEXT = ["--diffusion.prediction", "next", "--model.length", "129"]
HALF = ["--train.steps", "500", "--train.eval_every", "100", "--optim.muon_lr", "0.01"]
WAYS: dict[str, tuple[str, list[str]]] = {
    "GPT, from nothing": ("char-small-gpt", []),
    "from nothing": ("char-small", []),
    "adapted, next position": ("char-small", [*HALF, *NEXT]),
    "adapted, next position, opening over 100": ("char-small", [*HALF, *NEXT, "--adapt.anneal", "100"]),
    "adapted, same position": ("char-small", HALF),
    "adapted, same position, opening over 100": ("char-small", [*HALF, "--adapt.anneal", "100"]),
    "from nothing, half the steps": ("char-small", HALF),
}


MAIN = ("GPT, from nothing", "from nothing", "adapted, next position")


def run_of(way: str, seed: int, runs: Path) -> Path:
    """The run folder of a way; trained unless it is there."""
    recipe, settings = WAYS[way]
    plain = not settings
    folder = runs / (f"{recipe}-{seed}" if plain else f"{way.replace(', ', '-').replace(' ', '-')}-{seed}")
    if (folder / "checkpoints/last").exists():
        return folder
    if way.startswith("adapted"):
        settings = [*settings, "--adapt.source", str(run_of("GPT, from nothing", seed, runs))]
    config = overridden(recipe, settings)
    if not train(replace(config, train=replace(config.train, seed=seed)), folder).complete:
        raise KeyboardInterrupt
    return folder


def curve(folder: Path) -> tuple[list[int], list[float]]:
    """Steps and validation bounds, nats a token."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    found = [row for row in rows if row["phase"] == "val"]
    return [row["step"] for row in found], [row["nelbo"]["mean"] for row in found]


def draw(runs: Path, file: Path) -> None:
    """The validation curves of the first seed."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for way in list(WAYS)[1:]:
        axes.plot(*curve(run_of(way, 0, runs)), marker="o", markersize=3, label=way)
    axes.set(xlabel="steps", ylabel="bound on held-out text, nats a character", ylim=(2.0, 2.8))
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/adapt-benchmark"))
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    print("| way | steps | nats/character over all blocks, mean ± s.d. over seeds |")
    for way in WAYS:
        means = []
        for seed in range(args.seeds if way in MAIN else 1):
            folder = run_of(way, seed, args.runs)
            pipe = Pipeline.from_pretrained(folder / "checkpoints/last", "cpu")
            found = bound(pipe, find_held_out(pipe, None, None).split, blocks=10**9, draws=4, seed=0)
            means.append(found.nelbo.mean)
        deviation = statistics.stdev(means) if len(means) > 1 else float("nan")
        each = ", ".join(f"{value:.3f}" for value in means)
        print(
            f"| {way} | {pipe.config.train.steps} | {statistics.mean(means):.3f} ± {deviation:.3f} ({each}) |",
            flush=True,
        )
    if args.plot:
        draw(args.runs, args.plot)


if __name__ == "__main__":
    main()

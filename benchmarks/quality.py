"""Quality for compute: char-small (0.8M parameters, 2.05M training characters) and its bound on the last 10 % of 1 MB.

    python benchmarks/quality.py [--seeds 3] [--train.steps 1000 ...any setting]

Trains the recipe once a seed and prints the validation NELBO over *all* held-out blocks, nats a character.
"""

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from unmask.cli.evaluate import bound, find_held_out
from unmask.cli.train import overridden
from unmask.pipeline import Pipeline
from unmask.training.trainer import train


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="char-small")
    parser.add_argument("--seeds", type=int, default=3)
    args, settings = parser.parse_known_args()
    means = []
    for seed in range(args.seeds):
        config = overridden(args.recipe, settings)
        never = config.train.steps + 1
        config = replace(config, train=replace(config.train, seed=seed, eval_every=never, save_every=never))
        with tempfile.TemporaryDirectory() as folder:
            run = train(config, Path(folder) / "run").run
            pipe = Pipeline.from_pretrained(run / "checkpoints/last")
            result = bound(pipe, find_held_out(pipe, None, None).split, blocks=10**9, draws=4, seed=0)
        parameters = sum(parameter.numel() for parameter in pipe.model.parameters())
        means.append(result.nelbo.mean)
        print(
            f"seed {seed}: NELBO {result.nelbo} nats/token, {parameters:,} parameters, {result.rows} rows", flush=True
        )
    spread = statistics.stdev(means) if len(means) > 1 else float("nan")
    print(f"mean {statistics.mean(means):.4f}, standard deviation {spread:.4f} over {len(means)} seeds {settings}")


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()

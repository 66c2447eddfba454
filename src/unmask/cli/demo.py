"""unmask demo: a model from nothing, in a few minutes."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unmask.cli.options import Parser, note
from unmask.training.runs import default_run

RECIPE = "shakespeare-demo"
PROMPT = "ROMEO:\n"


def run(argv: Sequence[str]) -> int:
    """Train, evaluate, show."""
    parser = Parser("demo", "Train a small model on Shakespeare, measure it, and watch it write.")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"the run folder (default: runs/{RECIPE})")
    parser.add_argument("--steps", type=int, help="train for another number of steps (for a quick look)")
    parser.add_argument("--seed", type=int, default=0, help="of training and samples (default: 0)")
    arguments = parser.parse(argv)
    note("loading ...")
    from unmask.analysis.plots import plot_frames, plot_losses
    from unmask.cli.evaluate import bound, find_held_out, judge, print_tables, report
    from unmask.cli.live import watch
    from unmask.pipeline import Pipeline
    from unmask.recipes import load_recipe
    from unmask.training.callbacks import ProgressBar
    from unmask.training.trainer import Trainer

    # make demo does not activate the environment that it made
    me = "unmask" if shutil.which("unmask") else sys.argv[0]
    config = load_recipe(RECIPE)
    steps = config.train.steps if arguments.steps is None else arguments.steps
    config = replace(config, train=replace(config.train, steps=steps, seed=arguments.seed))
    out = arguments.out or default_run(RECIPE)
    note("1/3  training on the complete plays of Shakespeare")
    result = Trainer(config, out, callbacks=[ProgressBar()]).fit()
    if not result.complete:
        settings = f"--train.steps {steps} --train.seed {arguments.seed}"
        note(f"stopped at step {result.step}; go on with: {me} train {RECIPE} --out {out} --resume auto {settings}")
        return 130

    note("2/3  measuring on the plays that it has not seen")
    pipe = Pipeline.from_pretrained(out)
    held_out = find_held_out(pipe, None, None)
    likelihood = bound(pipe, held_out.split, 256, 2, arguments.seed)
    quality = judge(pipe, 16, arguments.seed, held_out.vocabulary)
    print_tables(held_out.name, likelihood, quality)

    note("3/3  writing: noise becomes text")
    frames = watch(pipe.stream(PROMPT, seed=arguments.seed), pipe.tokenizer)
    samples = [item.text for item in pipe.generate(PROMPT, num_samples=4, seed=arguments.seed)]
    (out / "samples.txt").write_text("\n\n----\n\n".join(samples) + "\n", "utf-8")
    print(samples[0])
    plot_losses(out / "metrics.jsonl", out / "loss.png")
    plot_frames(frames, pipe.tokenizer, out / "frames.png")
    with (out / "evaluation.json").open("w", encoding="utf-8") as file:
        import json

        json.dump(report(str(out), held_out.name, likelihood, quality), file, indent=2)
    note(f"\nwrote {out}: the model, metrics.jsonl, evaluation.json, samples.txt, loss.png, frames.png\n\ntry next:")
    print(f'  {me} generate {out} --prompt "JULIET:" --live')
    print(f'  {me} fill {out} "To be, or [MASK:9] to be" --num-samples 4')
    print(f"  {me} evaluate {out} --data shakespeare --samples 64")
    return 0

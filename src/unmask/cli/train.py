"""unmask train RECIPE_OR_YAML: train a run."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from unmask.cli.options import Parser, note
from unmask.config import RunConfig, check_keys, config_parser, explain
from unmask.recipes import recipe_values
from unmask.training.runs import default_run

EPILOG = """examples:
  unmask train shakespeare-demo
  unmask train my.yaml --data my.txt --model.width 256 --train.steps 5000 --out runs/mine
  unmask train shakespeare-demo --resume auto
  unmask train --backbone google-bert/bert-base-cased --data my.txt"""


def run(argv: Sequence[str]) -> int:
    """Train."""
    parser = Parser("train", "Train a recipe (unmask list recipes) or a YAML file.", EPILOG)
    parser.add_argument(
        "recipe",
        metavar="RECIPE_OR_YAML",
        help="a recipe's name, or a file (with --backbone it may be left out: masked-lm)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run folder (default: runs/NAME)")
    parser.add_argument(
        "--backbone", metavar="MODEL", help="make a diffusion model of a masked language model (BERT and its kin)"
    )
    parser.add_argument("--data", metavar="X", help="short for --data.source: another corpus")
    parser.add_argument(
        "--resume", metavar="auto|DIR", help="go on from the run's last checkpoint, or from a checkpoint folder"
    )
    if any(word in ("-h", "--help") for word in argv):
        parser.print_help()
        print("\nevery setting, as --section.key VALUE:\n")
        config_parser(usage=argparse.SUPPRESS, add_help=False).print_help()
        return 0
    if argv and argv[0].startswith("-") and any(word.split("=")[0] == "--backbone" for word in argv):
        argv = ["masked-lm", *argv]
    arguments, overrides = parser.parse_known_args(list(argv))
    if arguments.data is not None:
        overrides = ["--data.source", arguments.data, *overrides]
    if arguments.backbone is not None:
        overrides = ["--backbone", arguments.backbone, *overrides]
    config = overridden(arguments.recipe, overrides)
    out = arguments.out or default_run(Path(arguments.recipe).stem, resume=arguments.resume == "auto")
    return fit(config, out, arguments.resume)


def overridden(recipe: str, overrides: Sequence[str]) -> RunConfig:
    """A recipe with `--section.key value` pairs laid over it."""
    import jsonargparse

    values = recipe_values(recipe)
    for word in overrides:
        if word.startswith("--"):
            section, _, key = word[2:].split("=")[0].partition(".")
            check_keys({section: {key: None}} if key else {section: None})
    parser = config_parser()
    try:
        namespace = parser.parse_args(list(overrides), namespace=parser.parse_object(values))
        return RunConfig(**parser.instantiate(namespace))
    except (jsonargparse.ArgumentError, argparse.ArgumentError) as error:
        raise ValueError(explain(error)) from None


def fit(config: RunConfig, out: Path, resume: str | None) -> int:
    """Train with a progress bar, and say where the model is."""
    note("loading ...")
    from unmask.training.callbacks import ProgressBar
    from unmask.training.trainer import Trainer

    result = Trainer(config, out, resume=resume, callbacks=[ProgressBar()]).fit()
    if not result.complete:
        note(f"stopped at step {result.step}; go on with: unmask train ... --out {out} --resume auto")
        return 130
    note(f"done: {out}")
    return 0

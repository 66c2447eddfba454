"""What the commands share: a parser that explains itself in one sentence, sampling options, output."""

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from unmask.pipeline import DEFAULT_STEPS, SamplingOptions

MODEL_HELP = "a run folder, a checkpoint folder, a shipped model, or a hub id"


class Parser(argparse.ArgumentParser):
    """argparse that raises one sentence, with the nearest option when one is unknown."""

    def __init__(self, command: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=f"unmask {command}",
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Like parse_args; unknown options are ValueErrors."""
        namespace, unknown = self.parse_known_args(list(arguments))
        if unknown:
            options = [name for action in self._actions for name in action.option_strings]
            word = unknown[0].split("=")[0]
            near = difflib.get_close_matches(word, options, 1) if word.startswith("-") else []
            raise ValueError(f"unknown argument {word!r}" + (f" (did you mean {near[0]}?)" if near else ""))
        return namespace

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise ValueError(f"{message}; see {self.prog} --help")


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """The options of `Pipeline.generate`, under the same names."""
    group = parser.add_argument_group("sampling")
    group.add_argument("--num-samples", type=int, default=1, metavar="N", help="how many texts (default: 1)")
    group.add_argument("--best-of", type=int, metavar="N", help="write N, show those with the best bounds")
    group.add_argument(
        "--steps", type=int, metavar="N", help=f"denoising steps (default: one a token, at most {DEFAULT_STEPS})"
    )
    group.add_argument(
        "--sampler",
        default="confidence",
        metavar="NAME",
        help="see unmask list samplers; settings follow a colon, as in threshold:tau=0.8 (default: confidence)",
    )
    group.add_argument(
        "--revise", default="", metavar="NAME", help="mend the text; see unmask list revisions (default: do not)"
    )
    group.add_argument("--block", type=int, metavar="N", help="fill N tokens before the next (default: all at once)")
    group.add_argument("--schedule", metavar="NAME", help="how many are revealed when (default: the model's own)")
    group.add_argument("--seed", type=int, default=0, help="sample i uses seed + i (default: 0)")
    group = parser.add_argument_group("choice of tokens")
    group.add_argument(
        "--temperature", type=float, default=0.8, metavar="T", help="0 takes the likeliest (default: 0.8)"
    )
    group.add_argument("--top-k", type=int, default=0, metavar="K", help="keep the K likeliest tokens (default: all)")
    group.add_argument("--top-p", type=float, default=1.0, metavar="P", help="keep this much probability (default: 1)")
    group.add_argument(
        "--min-p", type=float, default=0.0, metavar="P", help="keep tokens this share as likely as the likeliest"
    )
    group.add_argument(
        "--repetition-penalty",
        type=float,
        default=1.0,
        metavar="R",
        help="above 1: fewer tokens that are there already",
    )
    group.add_argument(
        "--guidance", type=float, default=0.0, metavar="W", help="heed the prompt more; twice the work (default: 0)"
    )
    group.add_argument(
        "--ban", action="append", default=[], metavar="TEXT", help="a token that must not come (may be repeated)"
    )
    group.add_argument("--force", action="append", default=[], metavar="TEXT", help="a text that must come (same)")
    group.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text (same)")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Where the result goes."""
    group = parser.add_argument_group("output")
    group.add_argument("--live", action="store_true", help="watch the canvas in the terminal")
    group.add_argument("--picture", type=Path, metavar="FILE", help="also draw the first text, frame by frame")
    group.add_argument("--json", action="store_true", help="one JSON object on stdout")
    group.add_argument("--device", metavar="NAME", help="cpu or cuda (default: cuda where there is one)")


def sampling_options(arguments: argparse.Namespace) -> SamplingOptions:
    """The options that `add_sampling` read."""
    return SamplingOptions(
        num_samples=arguments.num_samples,
        best_of=arguments.best_of,
        steps=arguments.steps,
        sampler=arguments.sampler,
        revise=arguments.revise,
        block=arguments.block,
        schedule=arguments.schedule,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        min_p=arguments.min_p,
        repetition_penalty=arguments.repetition_penalty,
        guidance=arguments.guidance,
        banned=arguments.ban,
        forced=arguments.force,
        stop=arguments.stop,
        seed=arguments.seed,
    )


def print_json(value: Any) -> None:
    """One object on stdout."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2)
    print()


def note(text: str) -> None:
    """A word for people: stderr, so that stdout stays the result's."""
    print(text, file=sys.stderr)

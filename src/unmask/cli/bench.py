"""unmask bench sampling MODEL: every sampling rule against its number of forward passes."""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from unmask.cli.evaluate import find_held_out
from unmask.cli.options import MODEL_HELP, Parser, note, print_json
from unmask.evaluation.judge import load_judge
from unmask.evaluation.likelihood import Estimate, finite
from unmask.evaluation.tradeoff import NFES, Looks, Plan, Point, default_plans, look_at, measure
from unmask.pipeline import Pipeline, SamplingOptions
from unmask.text.batches import eval_blocks


def run(argv: Sequence[str]) -> int:
    """Benchmark."""
    arguments = build_parser().parse(argv)
    for name in ("samples", "blocks"):
        if getattr(arguments, name) < 2:
            raise ValueError(f"--{name} must be at least 2, for an interval")
    pipe = Pipeline.from_pretrained(arguments.model, arguments.device)
    if pipe.config.diffusion.corruption in ("uniform", "none"):
        raise ValueError("bench sampling compares orders of unmasking: the model must be trained with masks")
    plans = [read_plan(text) for text in arguments.plan or ()] or default_plans(pipe.length, numbers(arguments.nfe))
    for plan in plans:
        # a mistake in the last plan is said before the first is run
        free = SamplingOptions(sampler=plan.sampler, revise=plan.revise, steps=plan.steps)
        settings = SamplingOptions(temperature=arguments.temperature, seed=arguments.seed)
        pipe.stream(pipe.request_generate(**free | settings))
    judge = load_judge(arguments.judge, pipe.device.type) if arguments.judge else None
    if judge is None:
        note("no --judge was given: the samples' likelihood is not judged")
    blocks = eval_blocks(find_held_out(pipe, arguments.data, None).split, pipe.length, arguments.blocks)
    real = look_at([pipe.tokenizer.decode(row) for row in blocks.tolist()], blocks.tolist(), judge)
    points: list[Point] = []
    with Progress(console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task("sampling", total=len(plans))
        for plan in plans:
            progress.update(task, description=" + ".join(filter(None, [plan.sampler, plan.revise])))
            options = {"samples": arguments.samples, "temperature": arguments.temperature, "seed": arguments.seed}
            points.append(measure(pipe, plan, blocks, judge=judge, **options))
            progress.advance(task)
            if arguments.out:  # an hour's work is not lost to Ctrl-C
                write_json(arguments.out / "sampling.json", report(arguments, real, points))
    if arguments.out:
        from unmask.analysis.tradeoff import plot_tradeoff

        plot_tradeoff(report(arguments, real, points)["points"], arguments.out / "sampling.png")
        note(f"wrote {arguments.out / 'sampling.json'} and sampling.png")
    if arguments.json:
        print_json(report(arguments, real, points))
    else:
        Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 160).print(table(real, points))
    return 0


def build_parser() -> Parser:
    """What the command takes."""
    parser = Parser(
        "bench",
        "Compare sampling rules: quality against forward passes, in one table, a JSON file and a plot.",
        "example:\n  unmask bench sampling shakespeare --judge HuggingFaceTB/SmolLM2-135M --out bench",
    )
    parser.add_argument("what", choices=("sampling",))
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--judge", metavar="MODEL", help="a causal language model: a folder, a .gguf file, or a hub id")
    parser.add_argument("--data", metavar="X", help="held-out text to fill (default: what the model was trained on)")
    parser.add_argument("--samples", type=int, default=32, help="texts a plan (default: 32)")
    parser.add_argument("--blocks", type=int, default=32, help="blocks of held-out text a plan (default: 32)")
    parser.add_argument(
        "--nfe", default=",".join(map(str, NFES)), metavar="N,N,...", help=f"forward passes (default: {NFES})"
    )
    parser.add_argument(
        "--plan",
        action="append",
        metavar="SAMPLER[+REVISION][@STEPS]",
        help="only this, such as random+remdm_cap:eta=0.05@64 (may be repeated; default: all rules)",
    )
    parser.add_argument("--temperature", type=float, default=0.8, help="of the samples (default: 0.8)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default: 0)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write sampling.json and sampling.png there")
    parser.add_argument("--device", metavar="NAME", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout instead of the table")
    return parser


def numbers(text: str) -> list[int]:
    """Positive numbers with commas between."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"--nfe must be numbers such as 8,16,32, not {text!r}")
    return [int(part) for part in parts]


def read_plan(text: str) -> Plan:
    """SAMPLER[+REVISION][@STEPS]."""
    name, at, steps = text.partition("@")
    if at and not (steps.isdecimal() and int(steps) > 0):
        raise ValueError(f"the steps of the plan {text!r} must be a number, as in confidence@32")
    sampler, _, revise = name.partition("+")
    return Plan(sampler, revise, int(steps) if at else None)


def report(arguments: Namespace, real: Looks, points: Sequence[Point]) -> dict[str, Any]:
    """Everything, as plain values."""
    settings = {name: getattr(arguments, name) for name in ("samples", "blocks", "temperature", "seed", "judge")}
    found = [finite(asdict(point)) | {"name": point.plan.name} for point in points]
    return {"model": str(arguments.model), **settings, "held_out": finite(asdict(real)), "points": found}


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", "utf-8")
    os.replace(partial, path)


def table(real: Looks, points: Sequence[Point]) -> Table:
    """For people; the first line is the held-out text itself."""
    result = Table()
    result.add_column("sampler")
    heads = (
        "steps",
        "NFE",
        "tokens/s",
        "judged NLL",
        "entropy",
        "distinct-2",
        "repeated",
        "infill NFE",
        "infill right",
    )
    for head in heads:
        result.add_column(head, justify="right")
    result.add_row("(held-out text)", "", "", "", *looks(real), end_section=True)
    for point in points:
        result.add_row(
            " + ".join(filter(None, [point.plan.sampler, point.plan.revise])),
            "own" if point.plan.steps is None else str(point.plan.steps),
            f"{point.nfe.mean:.1f}",
            f"{point.tokens_per_second:.0f}",
            *looks(point),
            f"{point.infill_nfe.mean:.1f}",
            brief(point.infill_accuracy, 3),
        )
    return result


def looks(found: Looks) -> list[str]:
    """The columns that real and generated texts share."""
    judged = "" if found.judged_nll is None else brief(found.judged_nll)
    return [judged, brief(found.unigram_entropy), brief(found.distinct_2, 3), brief(found.repetition, 3)]


def brief(estimate: Estimate, digits: int = 2) -> str:
    """A mean and its interval."""
    return f"{estimate.mean:.{digits}f} ± {estimate.ci95:.{digits}f}"

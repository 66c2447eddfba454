"""unmask repair MODEL TEXT: what the model takes for wrong, and what it would write instead."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from unmask.analysis.canvas import printable
from unmask.cli.options import MODEL_HELP, Parser, note, print_json
from unmask.pipeline import Pipeline, Repair, SamplingOptions
from unmask.text.tokenizer import Tokenizer

SHOWN = 0.05


def run(argv: Sequence[str]) -> int:
    """Repair."""
    arguments = parser().parse(argv)
    pipe = Pipeline.from_pretrained(arguments.model, arguments.device)
    options = SamplingOptions(
        steps=arguments.steps,
        sampler=arguments.sampler,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        num_samples=arguments.num_samples,
        seed=arguments.seed,
    )
    text: str = arguments.text
    repairs = pipe.repair(text, protect=arguments.protect, threshold=arguments.threshold, **options)
    if arguments.json:
        print_json(
            {"model": str(arguments.model), "samples": [described(repair, text, pipe.tokenizer) for repair in repairs]}
        )
        return 0
    show_doubts(repairs[0], text, arguments)
    for repair in repairs:
        if len(repairs) > 1:
            print(f"--- seed {repair.seed}")
        print(repair.text)
    return 0


def parser() -> Parser:
    """What the command takes."""
    result = Parser(
        "repair",
        "Show which tokens of a text a model takes for wrong (on stderr), and write the text without them (on stdout).\n"
        "Best is a model trained to repair (unmask train shakespeare-repair, or the shipped one); any other that fills masks, a\n"
        "BERT too, repairs where it disagrees with what stands there.",
        'examples:\n  unmask repair shakespeare-repair "To be, or nqt to be: thxt is the question"\n'
        '  unmask repair shakespeare-repair "Now is the wintwr of our discontint" --protect "Now is" --json\n'
        '  unmask repair google-bert/bert-base-cased "The capital of France is London."',
    )
    result.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    result.add_argument("text", metavar="TEXT", help="the text")
    result.add_argument(
        "--protect", action="append", default=[], metavar="PART", help="a part that stays (may be repeated)"
    )
    result.add_argument(
        "--threshold", type=float, default=0.5, metavar="P", help="reopen what is wrong with more than this probability"
    )
    result.add_argument("--steps", type=int, default=25, metavar="N", help="at most N passes (default: 25)")
    result.add_argument("--sampler", default="factor", metavar="NAME", help="how reopened tokens are filled (factor)")
    result.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 takes the likeliest (default)")
    result.add_argument("--top-k", type=int, default=0, metavar="K", help="keep the K likeliest tokens (default: all)")
    result.add_argument("--num-samples", type=int, default=1, metavar="N", help="how many repairs (default: 1)")
    result.add_argument("--seed", type=int, default=0, help="sample i uses seed + i (default: 0)")
    result.add_argument("--json", action="store_true", help="one JSON object on stdout")
    result.add_argument("--device", metavar="NAME", help="cpu or cuda (default: cuda where there is one)")
    return result


def described(repair: Repair, text: str, tokenizer: Tokenizer) -> dict[str, Any]:
    """The repair as JSON: every token with its place, its doubt, and what stands there now."""
    rows = zip(repair.spans, repair.doubts, tokenizer.pieces(repair.tokens), strict=True)
    tokens = [
        {"text": text[start:end], "start": start, "end": end, "doubt": doubt, "now": now}
        for (start, end), doubt, now in rows
    ]
    changed = set(repair.changed)
    for place, token in enumerate(tokens):
        token["changed"] = place in changed
    return {"text": repair.text, "tokens": tokens, "nfe": repair.nfe, "seed": repair.seed}


def show_doubts(repair: Repair, text: str, arguments: Namespace) -> None:
    """The given text with what is doubted coloured, then each doubt as a number."""
    if not any(doubt > SHOWN for doubt in repair.doubts):
        note("nothing looks wrong")
        return
    console = Console(file=sys.stderr, highlight=False)
    console.print(coloured(repair, text, arguments.threshold), soft_wrap=True)
    doubted = [
        f"{text[start:end]!r} {doubt:.2f}"
        for (start, end), doubt in zip(repair.spans, repair.doubts, strict=True)
        if doubt > arguments.threshold
    ]
    console.print(
        Text("doubted: " + (", ".join(doubted) or f"none above {arguments.threshold}"), style="dim"), soft_wrap=True
    )


def coloured(repair: Repair, text: str, threshold: float) -> Text:
    """Red where the model is surer than the threshold that a token is wrong, yellow where it wonders."""
    result = Text()
    end = 0
    for (start, stop), doubt in zip(repair.spans, repair.doubts, strict=True):
        style = "bold red reverse" if doubt > threshold else "yellow" if doubt > SHOWN else ""
        result.append(printable(text[end:start]))
        result.append(printable(text[max(start, end) : stop]), style)
        end = max(end, stop)
    return result.append(printable(text[end:]))

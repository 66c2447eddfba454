"""unmask score MODEL TEXT: how likely a text or its fills are."""

from collections.abc import Sequence
from dataclasses import asdict

from unmask.cli.options import MODEL_HELP, Parser, print_json
from unmask.pipeline import Pipeline


def run(argv: Sequence[str]) -> int:
    """Score."""
    parser = Parser(
        "score",
        "Bound -log p of a text, or of what stands in its holes given the rest; the smaller, the likelier.",
        'example:\n  unmask score shakespeare "To be, or [MASK] to be" --fill "not"',
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("text", metavar="TEXT", help="a text, perhaps with holes")
    parser.add_argument(
        "--fill", action="append", default=[], metavar="TEXT", help="what stands in each hole, in order"
    )
    parser.add_argument("--draws", type=int, default=16, help="forward passes: more are more exact (default: 16)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    parser.add_argument("--device", metavar="NAME", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse(argv)
    pipe = Pipeline.from_pretrained(arguments.model, arguments.device)
    score = pipe.score(arguments.text, arguments.fill, draws=arguments.draws, seed=arguments.seed)
    if arguments.json:
        print_json(asdict(score))
        return 0
    error = "" if score.ci95 is None else f" ± {score.ci95:.2f}"
    print(f"{score.text}\n-log p <= {score.nats:.2f}{error} nats, {score.per_token:.3f} a token")
    return 0

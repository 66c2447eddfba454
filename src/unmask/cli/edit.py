"""unmask edit MODEL TEXT: rewrite parts of a text."""

from collections.abc import Sequence

from unmask.cli.generate import show
from unmask.cli.options import MODEL_HELP, Parser, add_output, add_sampling, sampling_options
from unmask.pipeline import Pipeline


def run(argv: Sequence[str]) -> int:
    """Edit."""
    parser = Parser(
        "edit",
        "Rewrite a span of a text, or the tokens that the model finds least likely; the rest stays as it is.",
        'examples:\n  unmask edit shakespeare "To be, or not to be" --span "not to be"\n'
        '  unmask edit shakespeare "To be, or nut to be" --share 0.2 --keep "To be,"',
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("text", metavar="TEXT", help="the text")
    parser.add_argument("--span", action="append", metavar="PART", help="a part to rewrite (may be repeated)")
    parser.add_argument("--share", type=float, metavar="S", help="rewrite this share of the tokens: the least likely")
    parser.add_argument("--size", type=int, metavar="N", help="tokens of the new span (default: as many as before)")
    parser.add_argument(
        "--keep", action="append", default=[], metavar="PART", help="a part that stays (may be repeated)"
    )
    add_sampling(parser)
    add_output(parser)
    arguments = parser.parse(argv)
    pipe = Pipeline.from_pretrained(arguments.model, arguments.device)
    request, spent = pipe.request_edit(
        arguments.text,
        arguments.span,
        share=arguments.share,
        size=arguments.size,
        keep=arguments.keep,
        **sampling_options(arguments),
    )
    return show(pipe, request, arguments, spent)

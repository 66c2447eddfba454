"""unmask fill MODEL TEXT: fill the holes of a text."""

from collections.abc import Sequence

from unmask.cli.generate import show
from unmask.cli.options import MODEL_HELP, Parser, add_output, add_sampling, sampling_options
from unmask.pipeline import Pipeline
from unmask.text.template import parse_template


def run(argv: Sequence[str]) -> int:
    """Fill."""
    parser = Parser(
        "fill",
        "Fill holes: [MASK] is one token, [MASK:9] nine, [MASK:4-9] four to nine; the text on both sides is read.",
        'example:\n  unmask fill runs/shakespeare-demo "To be, or [MASK:9] to be" --live',
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("text", metavar="TEXT", help='a text with holes, such as "To be, or [MASK:9] to be"')
    add_sampling(parser)
    add_output(parser)
    arguments = parser.parse(argv)
    parse_template(arguments.text)  # a malformed hole is said before the model is loaded
    pipe = Pipeline.from_pretrained(arguments.model, arguments.device)
    return show(pipe, pipe.request_infill(arguments.text, **sampling_options(arguments)), arguments)

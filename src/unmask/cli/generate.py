"""unmask generate MODEL: text from a prompt."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, replace

from unmask.cli.options import MODEL_HELP, Parser, add_output, add_sampling, note, print_json, sampling_options
from unmask.pipeline import Generation, Pipeline, Request


def run(argv: Sequence[str]) -> int:
    """Generate."""
    parser = Parser(
        "generate",
        "Write text: a prompt, an ending, or nothing, and the model does the rest.",
        'examples:\n  unmask generate runs/shakespeare-demo --prompt "ROMEO:" --live\n'
        '  unmask generate runs/shakespeare-demo --prompt "ROMEO:" --suffix "[Exit]" --num-samples 4 --json',
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--prompt", default="", metavar="TEXT", help="how the text begins")
    parser.add_argument("--suffix", default="", metavar="TEXT", help="how it ends")
    parser.add_argument("--length", type=int, metavar="L", help="tokens in all (default: the model's canvas)")
    add_sampling(parser)
    add_output(parser)
    arguments = parser.parse(argv)
    pipe = Pipeline.from_pretrained(arguments.model, arguments.device)
    options = sampling_options(arguments)
    request = pipe.request_generate(arguments.prompt, suffix=arguments.suffix, length=arguments.length, **options)
    return show(pipe, request, arguments)


def show(pipe: Pipeline, request: Request, arguments: Namespace, spent: int = 0) -> int:
    """Do what is asked and print it as the output options say; `spent` forward passes were needed before."""
    job = pipe.stream(request)
    if arguments.live:
        from unmask.cli.live import watch

        seen = watch(job, pipe.tokenizer)
    else:
        seen = list(job)
    first, *others = job.results[0]
    generations = [replace(first, nfe=first.nfe + spent), *others]
    if arguments.picture:
        from unmask.analysis.plots import plot_frames

        plot_frames(seen, pipe.tokenizer, arguments.picture)
        note(f"wrote {arguments.picture}")
    if arguments.json:
        print_json({"model": str(arguments.model), "samples": [asdict(generation) for generation in generations]})
    else:
        print_texts(generations)
    return 0


def print_texts(generations: Sequence[Generation]) -> None:
    """Texts on stdout, a heading each when there are several."""
    for generation in generations:
        if len(generations) > 1:
            print(f"--- seed {generation.seed}")
        print(generation.text)

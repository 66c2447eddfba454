"""unmask qbert MODEL PROMPT: write with any masked language model, in parallel, keeping to the prompt's theme."""

import copy
import inspect
import re
import sys
import time
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.console import Console
from rich.table import Table

from unmask.cli.options import MODEL_HELP, Parser, note, print_json
from unmask.evaluation.generation import distinct_n
from unmask.pipeline import Pipeline
from unmask.pipeline.qbert import EMPTY, QBert, Written
from unmask.pipeline.qbert_config import QBertConfig
from unmask.pipeline.sequential import words
from unmask.sampling.frame import Frame
from unmask.text.template import parse_template


@dataclass(frozen=True)
class Mode:
    """One way of writing, and how it went.

    Attributes:
        name: parallel, parallel without coherence, or sequential.
        written: the texts.
        seconds: wall-clock time of all of them.
    """

    name: str
    written: list[Written]
    seconds: float


def run(argv: Sequence[str]) -> int:
    """Write."""
    arguments = parser().parse(argv)
    values = {item.name: getattr(arguments, item.name) for item in fields(QBertConfig)}
    config = QBertConfig(**values)
    holes = "[MASK" in arguments.prompt
    if holes:
        parse_template(arguments.prompt)
    elif not arguments.prompt.strip():
        raise ValueError(EMPTY)
    if arguments.session and not arguments.session.expanduser().parent.is_dir():
        raise ValueError(f"there is no folder {arguments.session.parent} for the session")
    note("loading ...")
    pipe = Pipeline.from_pretrained(arguments.model, arguments.device)
    writer = QBert(pipe, config, arguments.encoder)
    note(f"meaning: {writer.meaning}")
    if arguments.session and arguments.session.exists():
        writer.load(arguments.session)
    judge = find_judge(arguments.judge)
    if holes:
        began = time.monotonic()
        modes = [Mode("infill", writer.infill(arguments.prompt, seed=arguments.seed), time.monotonic() - began)]
    else:
        modes = write(writer, arguments)
    show(modes, pipe, judge, arguments)
    if arguments.session and config.max_cache_size:
        writer.save(arguments.session)
    return 0


def write(writer: QBert, arguments: Namespace) -> list[Mode]:
    """In the modes that are asked for, the parallel one first."""
    prompt, tokens, seed = arguments.prompt, arguments.tokens, arguments.seed
    modes: list[Mode] = []
    # modes that are compared remember the same: not each other's texts
    before, after = copy.deepcopy(writer.memory), writer.memory
    if not arguments.sequential:
        for name, coherent in [("parallel", True), ("parallel, no coherence", False)]:
            if not coherent and not arguments.compare:
                continue
            writer.memory = after if coherent else copy.deepcopy(before)
            began = time.monotonic()
            job = writer.stream(writer.request(prompt, tokens, seed), coherent=coherent)
            if coherent and not arguments.json:
                from unmask.cli.live import watch

                watch(job, writer.pipe.tokenizer)
            else:
                list(job)
            modes.append(Mode(name, writer.finish(job), time.monotonic() - began))
    if arguments.sequential or arguments.compare:
        writer.memory = copy.deepcopy(before) if modes else after
        began = time.monotonic()
        frames = writer.sequential(prompt, tokens, seed=seed)
        seen: list[Frame] = []
        for piece in words(noted(frames, seen), writer.pipe.tokenizer):
            if not arguments.json:
                print(piece, end="", flush=True, file=sys.stderr)
        if not arguments.json:
            note("")
        written = writer.settle(prompt, tokens, seen[-1], seed)
        modes.append(Mode("sequential", written, time.monotonic() - began))
    writer.memory = after
    return modes


def noted(frames: Iterator[Frame], seen: list[Frame]) -> Iterator[Frame]:
    """The same frames, the last of which stays in `seen`."""
    for frame in frames:
        seen[:] = [frame]
        yield frame


def show(modes: Sequence[Mode], pipe: Pipeline, judge: Callable[..., list[float]] | None, arguments: Namespace) -> None:
    """Texts on stdout, or one JSON object; with --compare a table."""
    measured = [(mode, measures(mode, judge)) for mode in modes]
    if arguments.json:
        found = [
            {
                "mode": mode.name,
                **values,
                "samples": [asdict(item.generation) | {"coherence": item.coherence} for item in mode.written],
            }
            for mode, values in measured
        ]
        print_json({"model": str(arguments.model), "modes": found})
        return
    for mode in modes:
        for item in mode.written:
            if len(modes) > 1 or len(mode.written) > 1:
                print(f"--- {mode.name}, seed {item.generation.seed}")
            print(item.generation.text)
    if not arguments.compare:
        return
    table = Table()
    table.add_column("")
    for mode in modes:
        table.add_column(mode.name, justify="right")
    for name in measured[0][1]:
        cells = [values[name] for _, values in measured]
        if cells[0] is None:
            continue
        table.add_row(name.replace("_", " "), *("" if value is None else f"{value:,.3g}" for value in cells))
    Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 100).print(table)


def measures(mode: Mode, judge: Callable[..., list[float]] | None) -> dict[str, float | None]:
    """What a mode's texts are worth, and what they took."""
    texts = [item.generation.text for item in mode.written]
    count = len(texts)
    return {
        "coherence": sum(item.coherence for item in mode.written) / count,
        "judged_nll": None if judge is None else sum(judge(texts)) / count,
        "distinct_2": distinct_n(texts, 2),
        "forward_passes": sum(item.generation.nfe for item in mode.written) / count,
        "seconds": mode.seconds,
    }


def find_judge(source: str | None) -> Callable[..., list[float]] | None:
    """The judge that is asked for."""
    if source is None:
        return None
    from unmask.evaluation.judge import load_judge

    return load_judge(source)


def parser() -> Parser:
    """What the command takes: every setting of the seed under its own name."""
    result = Parser(
        "qbert",
        "Write with any masked language model (BERT, RoBERTa, ModernBERT and their kin, or one of ours), without training.",
        'examples:\n  unmask qbert google-bert/bert-base-cased "The quick brown fox" --tokens 20 --compare\n'
        '  unmask qbert shakespeare "But soft, what light" --encoder own --tokens 30\n'
        '  unmask qbert google-bert/bert-base-cased "The [MASK:3] fox jumped over the lazy dog."',
    )
    result.add_argument("model", metavar="MODEL", help=MODEL_HELP + ", or a package such as rxnmapper")
    result.add_argument("prompt", metavar="PROMPT", help="how the text begins, or a text with holes such as [MASK:3]")
    result.add_argument("--tokens", type=int, default=20, metavar="N", help="tokens to write (default: 20)")
    result.add_argument("--compare", action="store_true", help="also without coherence and one by one, side by side")
    result.add_argument("--sequential", action="store_true", help="one token after the other, streamed")
    result.add_argument(
        "--encoder",
        metavar="NAME",
        help="what texts mean: a folder, a hub id, a package, or own (default: MiniLM, if there)",
    )
    result.add_argument(
        "--judge", metavar="NAME", help="a causal model that judges the texts: a folder, .gguf or hub id"
    )
    result.add_argument("--session", type=Path, metavar="FILE", help="remember here what texts were about")
    result.add_argument("--seed", type=int, default=0, help="text i uses seed + i (default: 0)")
    result.add_argument("--json", action="store_true", help="one JSON object on stdout")
    result.add_argument("--device", metavar="NAME", help="cpu or cuda (default: cuda where there is one)")
    group = result.add_argument_group("the seed's settings")
    meant = meanings(QBertConfig)
    for item in fields(QBertConfig):
        flag, default = "--" + item.name.replace("_", "-"), item.default
        if isinstance(default, bool):
            group.add_argument(flag, action=BooleanOptionalAction, default=default, help=meant[item.name])
        else:
            text = f"{meant[item.name]} (default: {default})"
            group.add_argument(flag, type=type(default), default=default, metavar="N", help=text)
    return result


def meanings(config: type) -> dict[str, str]:
    """What each setting does, from the class's own description."""
    listed = inspect.cleandoc(config.__doc__ or "").partition("Args:")[2]
    found = re.findall(r"^ {4}(\w+): (.+?)(?=^ {4}\w+: |\Z)", listed, re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()).rstrip(".").replace("%", "%%") for name, text in found}

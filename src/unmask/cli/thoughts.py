"""unmask thoughts read|write|blend|steer|try|show|analyse: what a model with thoughts can do with them."""

import json
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from unmask.cli.evaluate import find_held_out
from unmask.cli.options import MODEL_HELP, Parser, add_sampling, note, print_json, sampling_options
from unmask.pipeline.mind import Mind, toward_thought
from unmask.text.corpus import Corpus
from unmask.text.segments import document_windows
from unmask.thought.session import load_session

EPILOG = """examples:
  unmask thoughts read MODEL play.txt --session mind.safetensors      remember a text
  unmask thoughts write MODEL --session mind.safetensors --tokens 200  go on from it, and remember that too
  unmask thoughts try MODEL "HAMLET:" --thoughts 8                     several ideas, the best first
  unmask thoughts blend MODEL "a text" "another" --points 5            between two thoughts
  unmask thoughts steer MODEL --toward "a text" --strength 1           toward what a text says
  unmask thoughts analyse MODEL --out DIR                              how thoughts evolve: JSON and pictures
  unmask thoughts show mind.safetensors                                what a session holds"""


def run(argv: Sequence[str]) -> int:
    """Do one of them."""
    parser = Parser("thoughts", "Remember, go on, blend, steer and look at thoughts.", EPILOG)
    parser.add_argument("what", choices=ACTIONS, help="what to do")
    parser.add_argument(
        "given", nargs="*", metavar="MODEL [TEXT ...]", help=f"MODEL: {MODEL_HELP}; then texts or files"
    )
    parser.add_argument(
        "--session", type=Path, metavar="FILE", help="thoughts to go on from; read and write save them there"
    )
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="tokens to write (default: 64)")
    parser.add_argument("--thoughts", type=int, default=4, metavar="N", help="try: how many (default: 4)")
    parser.add_argument("--points", type=int, default=5, metavar="N", help="blend: how many on the way (default: 5)")
    parser.add_argument("--toward", metavar="TEXT", help="steer: what to be like")
    parser.add_argument("--strength", type=float, default=1.0, metavar="S", help="steer: how far (default: 1)")
    parser.add_argument("--data", metavar="X", help="analyse: another text than the held-out one")
    parser.add_argument(
        "--windows", type=int, default=256, metavar="N", help="analyse: windows of documents (default: 256)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="analyse: where to put thoughts.json and thoughts.png")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--device", metavar="NAME", help="cpu or cuda (default: cuda where there is one)")
    add_sampling(parser)
    arguments = parser.parse(argv)
    if not arguments.given:
        what = "SESSION" if arguments.what == "show" else "MODEL"
        raise ValueError(f"unmask thoughts {arguments.what} needs {what}; see unmask thoughts --help")
    return ACTIONS[arguments.what](arguments)


def opened(arguments: Namespace) -> Mind:
    """The mind that is meant, with its session if that exists."""
    mind = Mind.from_pretrained(arguments.given[0], arguments.device)
    if arguments.session is not None and arguments.session.exists():
        mind = mind.load(arguments.session)
    return mind


def texts(arguments: Namespace, least: int, most: int) -> list[str]:
    """The texts behind the model's name."""
    found = arguments.given[1:]
    if not least <= len(found) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise ValueError(f"unmask thoughts {arguments.what} takes MODEL and {wanted} texts, not {len(found)}")
    return found


def read(arguments: Namespace) -> int:
    """Remember a file."""
    (source,) = texts(arguments, 1, 1)
    if arguments.session is None:
        raise ValueError("name the file for the thoughts with --session")
    mind = opened(arguments)
    for document in Corpus(source):
        tokens = mind.plain.tokenizer.encode(document)
        pieces = range(0, len(tokens), mind.segment)
        for start in track(pieces, "reading", console=Console(stderr=True), transient=True):
            mind.read_tokens(tokens[start : start + mind.segment])
    mind.save(arguments.session)
    return told(arguments, mind, "")


def write(arguments: Namespace) -> int:
    """Go on."""
    prompt = " ".join(texts(arguments, 0, 1))
    if arguments.session is not None and not arguments.session.exists():
        raise ValueError(f"there is no session file {str(arguments.session)!r}: make one with unmask thoughts read")
    mind = opened(arguments)
    text = prompt
    pieces = mind.stream(prompt, tokens=arguments.tokens, **sampling_options(arguments))
    if not arguments.json:
        print(prompt, end="", flush=True)
    for piece in pieces:
        text += piece
        if not arguments.json:
            print(piece, end="", flush=True)
    if not arguments.json:
        print()
    if arguments.session is not None:
        mind.save(arguments.session)
    return told(arguments, mind, text)


def told(arguments: Namespace, mind: Mind, text: str) -> int:
    """The text, and how much is remembered."""
    found = {"text": text, **summary(mind)}
    if arguments.json:
        print_json(found)
        return 0
    note(f"{found['thoughts']} of {found['slots']} thoughts, and {found['tail']} tokens that are not a thought yet")
    return 0


def summary(mind: Mind) -> dict[str, Any]:
    """What a mind holds."""
    return {"thoughts": int(mind.stack.count[0]), "slots": mind.stack.slots, "tail": len(mind.tail)}


def hypotheses(arguments: Namespace) -> int:
    """Several ideas."""
    prompt = " ".join(texts(arguments, 0, 1))
    mind = opened(arguments)
    found = mind.hypotheses(prompt, thoughts=arguments.thoughts, **sampling_options(arguments))
    return listed(arguments, [{"bound": text.bound, "text": text.text} for text, _ in found])


def blend(arguments: Namespace) -> int:
    """Between two thoughts."""
    first, second = texts(arguments, 2, 2)
    if arguments.points < 2:
        raise ValueError(f"--points must be at least 2, the two ends, not {arguments.points}")
    mind = opened(arguments)
    a, b = (mind.thought_of(text) for text in (first, second))
    rows: list[dict[str, Any]] = []
    for point in range(arguments.points):
        alpha = point / (arguments.points - 1)
        thought = mind.interpolated(a, b, alpha)
        (text, *_) = mind.about(thought).pipe.generate(**sampling_options(arguments))
        like = [float(toward_thought(end)(thought)) for end in (a, b)]
        rows.append({"alpha": alpha, "like_first": like[0], "like_second": like[1], "text": text.text})
    return listed(arguments, rows)


def steer(arguments: Namespace) -> int:
    """Toward a text."""
    prompt = " ".join(texts(arguments, 0, 1))
    if arguments.toward is None:
        raise ValueError("say what to be like with --toward TEXT")
    mind = opened(arguments)
    property_ = toward_thought(mind.thought_of(arguments.toward))
    rows: list[dict[str, Any]] = []
    for name, toward in (("free", None), ("steered", property_)):
        thought = mind.imagine(seed=arguments.seed, toward=toward, strength=arguments.strength)[-1].clean
        (text, *_) = mind.about(thought).pipe.generate(prompt, **sampling_options(arguments))
        rows.append({"kind": name, "likeness": float(property_(thought)), "text": text.text})
    return listed(arguments, rows)


def show(arguments: Namespace) -> int:
    """What a session holds."""
    session = load_session(Path(arguments.given[0]))
    stack = session.stack
    found = {
        "model": session.model,
        "thoughts": int(stack.count[0]),
        "slots": stack.slots,
        "dims": list(stack.dims),
        "tail": len(session.notes.get("tail", ())),
    }
    if arguments.json:
        print_json(found)
        return 0
    for name, value in found.items():
        print(f"{name:<9} {value}")
    return 0


def analyse(arguments: Namespace) -> int:
    """How thoughts evolve."""
    from unmask.analysis.thoughts import plot_evolution
    from unmask.evaluation.evolution import evolve

    mind = Mind.from_pretrained(arguments.given[0], arguments.device)
    pipe = mind.plain
    held_out = find_held_out(pipe, arguments.data, None)
    windows = document_windows(held_out.split, pipe.length, pipe.config.thinking.segments, arguments.windows)
    evolution = evolve(mind.model, windows.to(pipe.device), pipe.tokenizer.mask_id)
    report = {"text": held_out.name, **evolution.report()}
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "thoughts.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
        picture = arguments.out / "thoughts.png"
        plot_evolution(evolution.denoising.cpu(), evolution.times, evolution.segments.cpu(), report, picture)
        note(f"wrote {arguments.out / 'thoughts.json'} and {picture}")
    if arguments.json or arguments.out is None:
        print_json(report)
    return 0


def listed(arguments: Namespace, rows: list[dict[str, Any]]) -> int:
    """Rows of numbers and a text each."""
    if arguments.json:
        print_json(rows)
        return 0
    for row in rows:
        numbers = "  ".join(f"{name} {value:.3f}" for name, value in row.items() if isinstance(value, float))
        print(f"--- {row.get('kind', '')} {numbers}".replace("  ", " "))
        print(row["text"])
    return 0


ACTIONS: dict[str, Callable[[Namespace], int]] = {
    "read": read,
    "write": write,
    "try": hypotheses,
    "blend": blend,
    "steer": steer,
    "analyse": analyse,
    "show": show,
}

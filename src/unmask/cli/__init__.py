"""The command line: one module a command, found without importing any of them."""

import difflib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

COMMANDS = {
    "demo": "train a small model on Shakespeare, measure it, watch it write",
    "train": "train a recipe or a YAML file",
    "generate": "write text from a prompt",
    "fill": "fill the holes of a text",
    "edit": "rewrite parts of a text",
    "repair": "find what is wrong in a text, and mend it",
    "thoughts": "remember, go on, blend and steer: a model with thoughts",
    "qbert": "write with any BERT, in parallel, without training",
    "score": "how likely a text is, or what fills its holes",
    "evaluate": "bound the likelihood of held-out text, and judge samples",
    "bench": "compare sampling rules: quality against forward passes",
    "plot": "draw a run's loss and one generation",
    "data": "prepare a corpus, or look at a prepared one",
    "list": "the recipes, samplers, revisions and models there are",
    "doctor": "what this machine and installation can do",
}


def usage() -> str:
    """The top-level help."""
    lines = [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: unmask COMMAND ...",
            "",
            "Text generation by masked diffusion.",
            "",
            "commands:",
            *lines,
            "",
            "start here:",
            "  unmask demo                                   a model from nothing, in a few minutes",
            "  unmask COMMAND --help                         what a command takes",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 is success, 2 a mistake in what was asked, 130 Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        from unmask import __version__

        print(f"unmask {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return fail("unmask", f"there is no command {name!r}{hint}; see unmask --help")
    # a module named list would hide the builtin from this package
    module = "catalogue" if name == "list" else name
    try:
        code = import_module(f"unmask.cli.{module}").run(rest)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("UNMASK_DEBUG"):
            raise
        return fail(f"unmask {name}", describe(error))
    except (RuntimeError, MemoryError) as error:  # out of memory, mostly
        if os.environ.get("UNMASK_DEBUG"):
            raise
        return fail(f"unmask {name}", f"{describe(error)} (UNMASK_DEBUG=1 shows where)")
    except KeyboardInterrupt:
        return fail(f"unmask {name}", "stopped", 130)


def describe(error: Exception) -> str:
    """One line that says what is wrong."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def fail(who: str, message: str, code: int = 2) -> int:
    """Say it on stderr and return the exit code."""
    with suppress(OSError):  # even stderr may be on the full disk
        print(f"{who}: error: {message}" if code == 2 else f"{who}: {message}", file=sys.stderr)
    return code

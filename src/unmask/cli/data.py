"""unmask data prepare|show: a corpus into token shards, and a look at them."""

import json
from collections.abc import Sequence
from pathlib import Path

from unmask.cli.options import Parser, note, print_json
from unmask.config import DataConfig, build_data
from unmask.text.shards import SPLITS, TokenData, is_prepared, open_tokens

DEFAULTS = DataConfig()


def run(argv: Sequence[str]) -> int:
    """Prepare or show."""
    parser = Parser(
        "data",
        "Turn text into memory-mapped tokens, or look at what was made.",
        "examples:\n  unmask data prepare shakespeare --out data/plays --tokenizer bpe --vocab-size 2048\n"
        "  cat *.txt | unmask data prepare - --out data/mine\n  unmask data show data/plays",
    )
    if not argv or argv[0] in ("-h", "--help"):
        parser.usage = "unmask data prepare SOURCE --out DIR ... | unmask data show DIR"
        parser.print_help()
        return 0
    verb, rest = argv[0], argv[1:]
    if verb == "prepare":
        return prepare(rest)
    if verb == "show":
        return show(rest)
    raise ValueError(f"unmask data knows prepare and show, not {verb!r}")


def prepare(argv: Sequence[str]) -> int:
    """Tokenize a corpus into a folder."""
    parser = Parser("data prepare", "Tokenize a corpus into memory-mapped shards.")
    parser.add_argument("source", metavar="SOURCE", help="shakespeare, a file, a folder, - for stdin, or hf:NAME")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    parser.add_argument(
        "--tokenizer", default=DEFAULTS.tokenizer, help="byte, char, bpe, gpt2, a tokenizer.json or hub id"
    )
    parser.add_argument("--vocab-size", type=int, default=DEFAULTS.vocab_size, help="of bpe (default: %(default)s)")
    parser.add_argument("--text-key", default=DEFAULTS.text_key, help="field of JSON lines (default: %(default)s)")
    parser.add_argument("--max-characters", type=int, help="read no more than this")
    parser.add_argument("--val-fraction", type=float, default=DEFAULTS.val_fraction, help="held out, at the end")
    arguments = vars(parser.parse(argv))
    out = arguments.pop("out")
    if is_prepared(Path(arguments["source"]).expanduser()):
        raise ValueError(f"{arguments['source']} is prepared already: name a text")
    done = 0

    def progress(characters: int) -> None:
        nonlocal done
        done += characters
        note(f"{done:,} characters")

    data = build_data(DataConfig(**arguments), out, progress)
    describe(data, out)
    return 0


def show(argv: Sequence[str]) -> int:
    """What a prepared folder holds."""
    parser = Parser("data show", "Counts, and the first tokens of each split.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="a prepared folder, a nanoGPT folder or .bin file")
    parser.add_argument("--tokens", type=int, default=48, help="tokens to show of each split (default: 48)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse(argv)
    if not arguments.folder.exists():
        raise ValueError(f"there is no {arguments.folder}")
    data = open_tokens(arguments.folder)
    if arguments.json:
        print_json({name: counts(data, name) for name in SPLITS})
        return 0
    describe(data, arguments.folder)
    for name in SPLITS:
        split = data.train if name == "train" else data.val
        ids = split.window(0, min(arguments.tokens, len(split))).tolist()
        print(f"{name}: {json.dumps(data.tokenizer.decode(ids), ensure_ascii=False) if data.tokenizer else ids}")
    return 0


def counts(data: TokenData, name: str) -> dict[str, int | float | None]:
    """Tokens, documents and bytes of a split."""
    split = data.train if name == "train" else data.val
    return {"tokens": len(split), "documents": len(split.starts), "bytes_per_token": split.bytes_per_token}


def describe(data: TokenData, folder: Path) -> None:
    """One line a split."""
    size = f"{data.tokenizer.vocab_size:,} tokens in the vocabulary" if data.tokenizer else "no tokenizer"
    print(f"{folder}: {size}")
    for name in SPLITS:
        split = counts(data, name)
        ratio = f", {split['bytes_per_token']:.2f} bytes/token" if split["bytes_per_token"] else ""
        print(f"  {name}: {split['tokens']:,} tokens, {split['documents']:,} documents{ratio}")

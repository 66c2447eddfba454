"""Where text comes from: the shipped plays, files, folders, JSON lines, standard input, or the `datasets` library.

A corpus is a list of sources read again at each pass, one document at a time, so it may be larger than memory.
"""

import json
import lzma
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

SHIPPED = {"shakespeare": "shakespeare.jsonl.xz"}
SUFFIXES = (".txt", ".md", ".jsonl")


class Corpus:
    """Documents of text.

    Args:
        source: `shakespeare` (the complete plays, shipped), a .txt, .md or .jsonl file, a folder of such files (read in
            sorted order), `-` for standard input, or `hf:NAME[/CONFIG][@SPLIT]` for the datasets library.
        text_key: the field of a JSON line or dataset row that holds the text.
        max_characters: stop after this many characters; the last document is cut.

    Raises:
        ValueError: the source is missing, empty or not UTF-8 text.
    """

    def __init__(self, source: str, *, text_key: str = "text", max_characters: int | None = None) -> None:
        self.source, self.text_key, self.max_characters = source, text_key, max_characters
        self._stdin: str | None = None

    def __iter__(self) -> Iterator[str]:
        """The documents that are not empty, in a fixed order."""
        left = self.max_characters
        empty = True
        for document in self._documents():
            if left is not None:
                document = document[:left]
                left -= len(document)
            if document:
                empty = False
                yield document
            if left == 0:
                return
        if empty:
            raise ValueError(f"the corpus {self.source!r} is empty: there is no text in it")

    def characters(self) -> int:
        """How many characters there are in all; one pass."""
        return sum(map(len, self))

    def _documents(self) -> Iterator[str]:
        if self.source in SHIPPED:
            packed = resources.files("unmask.text").joinpath("data", SHIPPED[self.source]).read_bytes()
            yield from _json_lines(lzma.decompress(packed).decode().split("\n"), self.source, "text")
        elif self.source == "-":
            if self._stdin is None:
                self._stdin = _decode(sys.stdin.buffer.read(), "standard input")
            yield self._stdin
        elif self.source.startswith("hf:"):
            yield from _from_datasets(self.source[3:], self.text_key)
        else:
            for path in _files(self.source):
                text = _decode(path.read_bytes(), str(path))
                if path.suffix == ".jsonl":
                    yield from _json_lines(text.split("\n"), str(path), self.text_key)
                else:
                    yield text


def _files(source: str) -> list[Path]:
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        shipped = ", ".join(SHIPPED)
        raise ValueError(f"there is no corpus {source!r}: give a file, a folder, - for standard input, or {shipped}")
    files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    if not files:
        raise ValueError(f"the folder {source!r} holds no {', '.join(SUFFIXES)} file")
    return files


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = data[error.start]
        raise ValueError(
            f"{where} is not UTF-8: byte 0x{byte:02x} at offset {error.start:,}; convert it, for example with iconv"
        ) from None


def _json_lines(lines: list[str], where: str, key: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}, line {number}, is not JSON: {error.msg}") from None
        if not isinstance(row, dict) or not isinstance(row.get(key), str):
            raise ValueError(f"{where}, line {number}, has no text field {key!r}")
        yield row[key]


def _from_datasets(name: str, key: str) -> Iterator[str]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise ValueError("reading hf: corpora needs the datasets library: pip install 'unmask[hub]'") from None
    name, _, split = name.partition("@")
    owner, _, config = name.partition("/") if name.count("/") != 1 else (name, "", "")
    if name.count("/") == 2:
        owner, config = name.rsplit("/", 1)
    for row in load_dataset(owner, config or None, split=split or "train", streaming=True):
        if key not in row:
            raise ValueError(f"the dataset {name!r} has no column {key!r}, only {', '.join(row)}")
        yield row[key]

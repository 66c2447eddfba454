"""Token shards: a corpus as memory-mapped integers, with document boundaries, split into train and val by position.

A folder holds `train-00000.bin`, ..., `train.docs.npy`, the same for `val`, `tokenizer.json`, and `meta.json`, which is
written last: a folder without it is unfinished. nanoGPT's bare `train.bin` and `val.bin` are read too.
"""

import bisect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmask.text.corpus import Corpus
from unmask.text.tokenizer import Tokenizer

SPLITS = ("train", "val")
SHARD_TOKENS = 1 << 27
Progress = Callable[[int], None]


@dataclass(frozen=True)
class TokenSplit:
    """The tokens of one split.

    Attributes:
        shards: memory-mapped unsigned integers, in order.
        starts: where each document starts, counted over all shards.
        utf8_bytes: the size of the text that the tokens spell; None when nobody counted.
    """

    shards: list[NDArray[np.unsignedinteger]]
    starts: NDArray[np.int64]
    utf8_bytes: int | None

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    @property
    def bytes_per_token(self) -> float | None:
        """What turns nats a token into bits a byte."""
        return self.utf8_bytes / len(self) if self.utf8_bytes and len(self) else None

    def check_fits(self, vocab_size: int, where: str) -> None:
        """Refuse tokens that a vocabulary does not have; reads every shard once."""
        largest = max((int(shard.max()) for shard in self.shards if len(shard)), default=0)
        if largest >= vocab_size:
            raise ValueError(f"{where} has token {largest}, but the tokenizer has only {vocab_size} tokens")

    def window(self, start: int, length: int) -> NDArray[np.int64]:
        """`length` tokens from `start` on, across shards."""
        ends = list(accumulate(map(len, self.shards)))
        parts: list[NDArray[np.unsignedinteger]] = []
        while length > 0:
            index = bisect.bisect_right(ends, start)
            if index == len(ends):
                raise IndexError(f"token {start} lies beyond the end")
            offset = start - (ends[index] - len(self.shards[index]))
            part = self.shards[index][offset : offset + length]
            parts.append(part)
            start, length = start + len(part), length - len(part)
        return np.concatenate(parts).astype(np.int64)


@dataclass(frozen=True)
class TokenData:
    """A prepared folder: the two splits and, if it was saved with them, the tokenizer."""

    train: TokenSplit
    val: TokenSplit
    tokenizer: Tokenizer | None


class ShardWriter:
    """Appends documents to one split's files."""

    def __init__(self, folder: Path, split: str, dtype: type[np.unsignedinteger], shard_tokens: int) -> None:
        self.folder, self.split, self.dtype, self.shard_tokens = folder, split, dtype, shard_tokens
        self.starts: list[int] = []
        self.tokens = self.utf8_bytes = 0

    def add(self, ids: list[int], utf8_bytes: int) -> None:
        """One document."""
        self.starts.append(self.tokens)
        self.utf8_bytes += utf8_bytes
        array = np.asarray(ids, dtype=self.dtype)
        while len(array):
            shard, used = divmod(self.tokens, self.shard_tokens)
            part, array = np.split(array, [min(len(array), self.shard_tokens - used)])
            with (self.folder / f"{self.split}-{shard:05d}.bin").open("ab") as file:
                part.tofile(file)
            self.tokens += len(part)

    def finish(self) -> dict[str, int]:
        """Write the boundaries; the counts go into meta.json."""
        np.save(self.folder / f"{self.split}.docs.npy", np.asarray(self.starts, dtype=np.int64))
        return {"tokens": self.tokens, "documents": len(self.starts), "utf8_bytes": self.utf8_bytes}


def split_by_position(corpus: Iterable[str], train_characters: int) -> Iterator[tuple[str, str]]:
    """("train" | "val", text): the first `train_characters` train, the rest validates; a document may be cut in two."""
    left = train_characters
    for document in corpus:
        head, tail = document[:left], document[left:]
        left -= len(head)
        if head:
            yield "train", head
        if tail:
            yield "val", tail


def prepare(
    corpus: Corpus,
    folder: Path,
    build_tokenizer: Callable[[Iterable[str], Iterable[str]], Tokenizer],
    *,
    val_fraction: float = 0.1,
    shard_tokens: int = SHARD_TOKENS,
    settings: Mapping[str, Any] | None = None,
    progress: Progress = lambda characters: None,
) -> TokenData:
    """Tokenize a corpus into `folder`.

    Args:
        corpus: the documents; they are read three times.
        folder: made if missing; what an earlier preparation left is replaced.
        build_tokenizer: (train texts, all texts) -> tokenizer: BPE is learned on the train texts only.
        val_fraction: the share of characters, at the end, that validates.
        shard_tokens: a file's size.
        settings: plain values kept in meta.json, by which `prepared_with` knows the folder again.
        progress: called with the number of characters just done.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(f"data.val_fraction must lie between 0 and 1, not {val_fraction}")
    boundary = round(corpus.characters() * (1 - val_fraction))
    train_texts = (text for split, text in split_by_position(corpus, boundary) if split == "train")
    tokenizer = build_tokenizer(train_texts, corpus)
    folder.mkdir(parents=True, exist_ok=True)
    own = [file for split in SPLITS for file in (*folder.glob(f"{split}-[0-9]*.bin"), folder / f"{split}.docs.npy")]
    for stale in [folder / "meta.json", *own]:
        stale.unlink(missing_ok=True)
    dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
    writers = {split: ShardWriter(folder, split, dtype, shard_tokens) for split in SPLITS}
    for batch in _batched(split_by_position(corpus, boundary)):
        for (split, text), ids in zip(batch, tokenizer.encode_batch([text for _, text in batch]), strict=True):
            whole = ids if tokenizer.end_id is None else [*ids, tokenizer.end_id]
            writers[split].add(whole, len(text.encode()))
        progress(sum(len(text) for _, text in batch))
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), "utf-8")
    meta = {
        "dtype": np.dtype(dtype).name,
        "vocab_size": tokenizer.vocab_size,
        "source": corpus.source,
        "settings": settings,
    }
    meta |= {split: writer.finish() for split, writer in writers.items()}
    partial = folder / "meta.json.partial"
    partial.write_text(json.dumps(meta, indent=2), "utf-8")
    os.replace(partial, folder / "meta.json")
    return open_tokens(folder)


def tokenize(texts: Iterable[str], tokenizer: Tokenizer) -> TokenSplit:
    """Documents as one split in memory, laid out as `prepare` lays them out."""
    parts: list[NDArray[np.unsignedinteger]] = []
    starts: list[int] = []
    size = utf8_bytes = 0
    for text in texts:
        ids = tokenizer.encode(text)
        parts.append(np.asarray(ids if tokenizer.end_id is None else [*ids, tokenizer.end_id], dtype=np.uint32))
        starts.append(size)
        size, utf8_bytes = size + len(parts[-1]), utf8_bytes + len(text.encode())
    return TokenSplit([np.concatenate(parts)], np.asarray(starts, dtype=np.int64), utf8_bytes)


def prepared_with(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the folder was finished by `prepare` with just these settings."""
    return (read_meta(folder) or {}).get("settings") == settings


def read_meta(folder: Path) -> dict[str, Any] | None:
    """What `prepare` wrote last, None where it did not finish; another program's meta.json is not meant."""
    try:
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return meta if isinstance(meta, dict) and "dtype" in meta else None


def is_prepared(folder: Path) -> bool:
    """Whether `open_tokens` can read the folder or file."""
    if folder.is_file():
        return folder.suffix == ".bin"
    return read_meta(folder) is not None or (folder / "train.bin").is_file()


def open_tokens(folder: Path) -> TokenData:
    """A folder that `prepare` wrote, a nanoGPT folder (uint16), or one nanoGPT .bin file (then both splits).

    Raises:
        ValueError: a file that the folder promises is missing or cut short.
    """
    if folder.is_file():
        split = TokenSplit([np.memmap(folder, np.uint16, "r")], np.zeros(1, np.int64), None)
        return TokenData(split, split, None)
    meta = read_meta(folder)
    if meta is None:
        bins = [folder / f"{split}.bin" for split in SPLITS]
        missing = [file.name for file in bins if not file.is_file()]
        if missing:
            raise ValueError(f"{folder} is not prepared data: {missing[0]} is missing")
        train, val = (TokenSplit([np.memmap(file, np.uint16, "r")], np.zeros(1, np.int64), None) for file in bins)
        return TokenData(train, val, None)
    dtype = np.dtype(meta["dtype"])
    splits: list[TokenSplit] = []
    for split in SPLITS:
        shards: list[NDArray[np.unsignedinteger]] = [
            np.memmap(file, dtype, "r") for file in sorted(folder.glob(f"{split}-*.bin"))
        ]
        if sum(map(len, shards)) != meta[split]["tokens"] or not (folder / f"{split}.docs.npy").is_file():
            raise ValueError(f"{folder} is damaged: its {split} shards are not whole; run unmask data prepare again")
        splits.append(TokenSplit(shards, np.load(folder / f"{split}.docs.npy"), meta[split]["utf8_bytes"]))
    tokenizer_file = folder / "tokenizer.json"
    return TokenData(splits[0], splits[1], Tokenizer.from_json(tokenizer_file.read_text("utf-8"), str(tokenizer_file)))


def _batched(pieces: Iterable[tuple[str, str]], characters: int = 1 << 22) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece[1])
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch

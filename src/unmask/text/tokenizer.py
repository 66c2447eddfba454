"""Tokenizers: bytes, characters, BPE trained on the corpus, GPT-2's BPE, or any tokenizer.json.

All are `tokenizers` objects behind one small class, with a [MASK] of their own.
"""

import hashlib
import lzma
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

MASK = "[MASK]"
END = "<|endoftext|>"
MASK_NAMES = (MASK, "<mask>")


class Tokenizer:
    """Text to token ids and back.

    A token named [MASK] or <mask> is the mask if there is one; otherwise a new one is added at the end of the
    vocabulary. Text that happens to contain "[MASK]" is read as those six characters, never as the mask.

    Attributes:
        mask_id: the id of the mask.
        mask_added: whether the vocabulary had none.
        end_id: the id of <|endoftext|>, None where the vocabulary has none.
        special_ids: all other special tokens, such as [CLS] and [PAD], and those that were never used; they are not written.
        vocab_size: V, the mask included.
    """

    def __init__(self, backend: Backend) -> None:
        names = [name for name in MASK_NAMES if backend.token_to_id(name) is not None]
        self.mask_added = not names
        if not names:
            backend.add_special_tokens([AddedToken(MASK, normalized=False)])
            names = [MASK]
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True
        self.backend = backend
        self.mask_id: int = backend.get_vocab()[names[0]]
        self.end_id: int | None = backend.token_to_id(END)
        added = backend.get_added_tokens_decoder()
        special = {id for id, token in added.items() if token.special}
        special |= {id for token, id in backend.get_vocab().items() if token.startswith("[unused")}
        self.special_ids = tuple(sorted(special - {self.mask_id, self.end_id}))
        self.vocab_size: int = max(backend.get_vocab().values()) + 1
        self.spaced = isinstance(backend.decoder, decoders.WordPiece | decoders.Metaspace)

    def encode(self, text: str) -> list[int]:
        """Text to ids.

        Raises:
            ValueError: a character that the vocabulary has never seen.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Many texts, on all cores."""
        try:
            encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        except Exception as error:  # the library raises nothing narrower
            raise self._unknown(texts) or error from None
        return [encoding.ids for encoding in encodings]

    def encode_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of a text, and the characters [start, end) that each stands for."""
        try:
            encoding = self.backend.encode(text, add_special_tokens=False)
        except Exception as error:  # the library raises nothing narrower
            raise self._unknown([text]) or error from None
        return encoding.ids, encoding.offsets

    def surround(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The special tokens that stand before and after a single text where a model wants them, such as [CLS] and [SEP]."""
        for text in ("a", "C", "0"):  # what one vocabulary ignores another knows
            whole = self.backend.encode(text, add_special_tokens=True)
            special = [bool(flag) for flag in whole.special_tokens_mask]
            if False in special:
                first, last = special.index(False), len(special) - special[::-1].index(False)
                return tuple(whole.ids[:first]), tuple(whole.ids[last:])
        return (), ()

    def decode(self, ids: Iterable[int], mask: str = "") -> str:
        """Ids to text; masks are shown as `mask`, <|endoftext|> as nothing."""
        runs: list[str] = []
        run: list[int] = []
        for token in ids:
            if token == self.mask_id:
                runs += [self.backend.decode(run), mask]
                run = []
            else:
                run.append(token)
        return "".join([*runs, self.backend.decode(run)])

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Many rows without masks, on all cores."""
        return self.backend.decode_batch([list(row) for row in rows])

    def following(self, before: Sequence[int], ids: Sequence[int]) -> str:
        """The text of some tokens as it follows others: with its space where spaces are the decoder's, and "##" joined."""
        if not self.spaced or not before:
            return self.decode(ids)
        alone, text = self.backend.decode(before[-1:]), self.decode([before[-1], *ids])
        return text[len(alone) :] if text.startswith(alone) else f" {self.decode(ids)}"

    def pieces(self, ids: Iterable[int], mask: str = "░") -> list[str]:
        """Each token's own text, for pictures; half a UTF-8 character shows as a replacement mark.

        Where spaces are the decoder's (BERT's word pieces), a token that begins a word has its space.
        """
        if not self.spaced:
            return [mask if token == self.mask_id else self.backend.decode([token]) for token in ids]
        found: list[str] = []
        last: list[int] = []
        for token in ids:
            if token == self.mask_id:
                found.append(f" {mask}" if found else mask)
                last = []
                continue
            alone, text = self.backend.decode(last), self.backend.decode([*last, token])
            joins = last and text.startswith(alone)
            found.append(text[len(alone) :] if joins else f" {text}" if found else text)
            last = [token]
        return found

    def fingerprint(self) -> str:
        """A short name that two tokenizers share exactly when they are the same."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The tokenizer.json text."""
        return self.backend.to_str()

    @staticmethod
    def from_json(text: str, where: str = "tokenizer.json") -> "Tokenizer":
        """Read a tokenizer.json text.

        Raises:
            ValueError: it is not one.
        """
        try:
            return Tokenizer(Backend.from_str(text))
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"{where} is not a tokenizer: {error}") from None

    def _unknown(self, texts: Sequence[str]) -> ValueError | None:
        for text in texts:
            for character in text:
                if self.backend.token_to_id(character) is None:
                    return ValueError(
                        f"the character {character!r} is not in the character tokenizer's vocabulary: "
                        "train on text that has it, or use the byte or bpe tokenizer"
                    )
        return None


def byte_tokenizer() -> Tokenizer:
    """One token a byte: 256 and the mask; nothing is unknown."""
    return Tokenizer(_byte_level(models.BPE(vocab=_byte_vocabulary(), merges=[])))


def char_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """One token a character that occurs in the texts, in code point order."""
    alphabet: set[str] = set()
    for text in texts:
        alphabet.update(text)
    backend = Backend(models.WordLevel({character: i for i, character in enumerate(sorted(alphabet))}))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    return Tokenizer(backend)


def bpe_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE trained on the texts; `vocab_size` counts <|endoftext|> and the mask."""
    if vocab_size < 258:
        raise ValueError(f"a bpe vocabulary needs at least 258 tokens (256 bytes, end, mask), not {vocab_size}")
    backend = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_pieces(texts), trainer)
    return Tokenizer(backend)


def gpt2_tokenizer() -> Tokenizer:
    """GPT-2's BPE (shipped): 50,257 tokens and the mask."""
    packed = resources.files("unmask.text").joinpath("data", "gpt2-merges.txt.xz").read_bytes()
    merges = [(a, b) for a, b in (line.split(" ") for line in lzma.decompress(packed).decode().splitlines())]
    backend = _byte_level(models.BPE(vocab=gpt2_vocabulary(merges), merges=merges))
    backend.add_special_tokens([AddedToken(END, normalized=False)])
    return Tokenizer(backend)


def load_tokenizer(source: str) -> Tokenizer:
    """A tokenizer.json, a folder that holds one, or a hub id (the only case that uses the network)."""
    path = Path(source).expanduser()
    path = path / "tokenizer.json" if path.is_dir() else path
    if path.is_file():
        return Tokenizer.from_json(path.read_text("utf-8"), str(path))
    try:
        return Tokenizer(Backend.from_pretrained(source))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(
            f"there is no tokenizer {source!r}: give byte, char, bpe, gpt2, a tokenizer.json or a hub id ({error})"
        ) from None


def merges_tokenizer(vocabulary: Path, merges: Path) -> Tokenizer:
    """GPT-2's older pair of files, vocab.json and merges.txt.

    Raises:
        ValueError: they are not such files.
    """
    try:
        backend = _byte_level(models.BPE.from_file(str(vocabulary), str(merges)))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{vocabulary} and {merges.name} are no tokenizer: {error}") from None
    if backend.token_to_id(END) is not None:
        backend.add_special_tokens([AddedToken(END, normalized=False)])
    return Tokenizer(backend)


def gpt2_vocabulary(merges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """GPT-2's vocabulary, which its merges determine: the bytes in its own order, the merges, the end."""
    alphabet = [token for token, _ in sorted(_byte_vocabulary().items(), key=lambda item: item[1])]
    tokens = [*alphabet, *(a + b for a, b in merges), END]
    return {token: i for i, token in enumerate(tokens)}


def _byte_vocabulary() -> dict[str, int]:
    # GPT-2's order: the printable bytes first, then the others, which it writes as U+0100 onward
    return {character: i for i, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}


def _byte_level(model: models.BPE) -> Backend:
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    """Line by line: the trainer wants many short texts."""
    for text in texts:
        yield from text.splitlines(keepends=True)

"""Shards, batches and templates."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from unmask.text.batches import Batches, eval_blocks
from unmask.text.corpus import Corpus
from unmask.text.shards import TokenData, TokenSplit, open_tokens, prepare, tokenize
from unmask.text.template import parse_template
from unmask.text.tokenizer import byte_tokenizer, char_tokenizer, gpt2_tokenizer

DOCUMENTS = ["alpha " * 30, "beta " * 20, "gamma " * 50]


def prepared(tmp_path: Path, **options: int) -> TokenData:
    source = tmp_path / "corpus.jsonl"
    source.write_text("\n".join(json.dumps({"text": text}) for text in DOCUMENTS), "utf-8")
    return prepare(Corpus(str(source)), tmp_path / "data", lambda train, all_: char_tokenizer(all_), **options)


def test_the_split_is_by_position_and_loses_nothing(tmp_path: Path) -> None:
    data = prepared(tmp_path)
    text = "".join(DOCUMENTS)
    cut = round(len(text) * 0.9)
    for split, expected in ((data.train, text[:cut]), (data.val, text[cut:])):
        assert data.tokenizer.decode(split.window(0, len(split)).tolist()) == expected
        assert split.utf8_bytes == len(expected)
    assert data.train.starts.tolist() == [0, 180, 280]
    assert data.val.starts.tolist() == [0]
    assert isinstance(data.train.shards[0], np.memmap)
    assert data.train.shards[0].dtype == np.uint16


def test_windows_run_over_shards(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    whole, cut = prepared(tmp_path / "a"), prepared(tmp_path / "b", shard_tokens=37)
    assert len(cut.train.shards) > 10
    for start, length in ((0, 5), (30, 60), (36, 2), (37, 1), (0, len(whole.train))):
        assert (cut.train.window(start, length) == whole.train.window(start, length)).all()
    with pytest.raises(IndexError):
        cut.train.window(len(cut.train) - 2, 3)


def test_documents_end_with_the_end_token_where_there_is_one(tmp_path: Path) -> None:
    source = tmp_path / "corpus.txt"
    source.write_text("hello world, hello world", "utf-8")
    data = prepare(Corpus(str(source)), tmp_path / "data", lambda train, all_: gpt2_tokenizer(), val_fraction=0.4)
    assert data.train.window(len(data.train) - 1, 1).tolist() == [50_256]
    assert tokenize(["hello"], gpt2_tokenizer()).window(0, 2).tolist() == [31373, 50_256]


def test_damaged_and_unfinished_folders_are_refused(tmp_path: Path) -> None:
    prepared(tmp_path)
    shard = tmp_path / "data/train-00000.bin"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(ValueError, match="its train shards are not whole"):
        open_tokens(tmp_path / "data")
    (tmp_path / "data/meta.json").unlink()
    with pytest.raises(ValueError, match="is not prepared data"):
        open_tokens(tmp_path / "data")


def test_nanogpt_files_are_read(tmp_path: Path) -> None:
    for name, size in (("train", 100), ("val", 40)):
        np.arange(size, dtype=np.uint16).tofile(tmp_path / f"{name}.bin")
    data = open_tokens(tmp_path)
    assert (len(data.train), len(data.val), data.tokenizer) == (100, 40, None)
    assert data.train.window(3, 4).tolist() == [3, 4, 5, 6]
    assert len(open_tokens(tmp_path / "val.bin").val) == 40
    with pytest.raises(ValueError, match="has token 99, but the tokenizer has only 50"):
        data.train.check_fits(50, "data")


def split_of(tokens: int) -> TokenSplit:
    return TokenSplit([np.arange(tokens, dtype=np.uint16)], np.zeros(1, np.int64), None)


def test_batches_are_a_function_of_seed_and_step() -> None:
    first, second = (Batches(split_of(1000), 4, 8, seed=3) for _ in range(2))
    forward = [first.at(step) for step in range(70)]
    backward = [second.at(step) for step in reversed(range(70))][::-1]
    assert all((a == b).all() for a, b in zip(forward, backward, strict=True))
    assert not (Batches(split_of(1000), 4, 8, seed=4).at(0) == forward[0]).all()
    assert forward[0].dtype == torch.int64


def test_an_epoch_sees_every_block_once_and_the_next_in_another_order() -> None:
    batches = Batches(split_of(1000), 4, 8, seed=0)
    steps = int(batches.steps_per_epoch)
    epochs = [torch.cat([batches.at(epoch * steps + step) for step in range(steps)]) for epoch in (0, 1)]
    for rows in epochs:
        assert len(rows.flatten().unique()) == steps * 4 * 8
        assert (rows.diff(dim=1) == 1).all()
    assert not (epochs[0] == epochs[1]).all()


def test_ranks_see_disjoint_rows_that_together_are_the_single_ranks() -> None:
    single = Batches(split_of(1000), 4, 8, seed=0)
    ranks = [Batches(split_of(1000), 2, 8, seed=0, rank=rank, world=2) for rank in range(2)]
    for step in range(5):
        assert (torch.cat([rank.at(step) for rank in ranks]) == single.at(step)).all()


def test_short_text_is_refused_and_exact_text_is_enough() -> None:
    assert Batches(split_of(8), 2, 8).at(0).tolist() == [list(range(8))] * 2
    with pytest.raises(ValueError, match="fewer than one block of 8"):
        Batches(split_of(7), 2, 8)
    with pytest.raises(ValueError, match="fewer than one block of 8"):
        eval_blocks(split_of(7), 8, 4)


def test_evaluation_blocks_are_spread_without_overlap() -> None:
    rows = eval_blocks(split_of(1000), 8, 10)
    assert rows.shape == (10, 8)
    assert rows[0, 0] == 0
    assert rows[-1, 0] == 992
    assert len(eval_blocks(split_of(33), 8, 10)) == 4


def test_templates() -> None:
    template = parse_template("To be, or [MASK:9] to [MASK]")
    assert template.texts == ("To be, or ", " to ", "")
    assert template.holes == (9, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no hole", "no hole to fill"),
        ("[MASK:0]", "at least 1"),
        ("[MASK:-3]", "at least 1"),
        ("[MASK:x]", "at least 1"),
        ("[MASK:]", "at least 1"),
        ("a [MASK b", "not closed"),
        ("[MASK] and [MASK:3", "not closed"),
    ],
)
def test_malformed_holes_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_template(text)


def test_byte_shards_of_large_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    source = tmp_path / "corpus.txt"
    source.write_text("x" * 50, "utf-8")
    tokenizer = byte_tokenizer()
    tokenizer.vocab_size = 70_000
    data = prepare(Corpus(str(source)), tmp_path / "data", lambda train, all_: tokenizer)
    assert data.train.shards[0].dtype == np.uint32

"""Tokenizers: exact round trips, a mask of their own, nothing silently lost."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.text.tokenizer import (
    Tokenizer,
    bpe_tokenizer,
    byte_tokenizer,
    char_tokenizer,
    gpt2_tokenizer,
    load_tokenizer,
)

TEXT = "To be, or not to be, that is the question.\n\nWhether 'tis nobler"
KINDS = {
    "byte": byte_tokenizer(),
    "char": char_tokenizer([TEXT]),
    "bpe": bpe_tokenizer([TEXT], 300),
    "gpt2": gpt2_tokenizer(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_text_comes_back(kind: str) -> None:
    tokenizer = KINDS[kind]
    ids = tokenizer.encode(TEXT)
    assert tokenizer.decode(ids) == TEXT
    assert "".join(tokenizer.pieces(ids)) == TEXT
    assert max(ids) < tokenizer.vocab_size
    assert tokenizer.mask_id not in ids


@pytest.mark.parametrize("kind", ["byte", "bpe", "gpt2"])
@given(text=st.text())
def test_any_text_comes_back(kind: str, text: str) -> None:
    tokenizer = KINDS[kind]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", ["byte", "bpe", "gpt2"])
def test_the_words_of_special_tokens_are_ordinary_text(kind: str) -> None:
    tokenizer = KINDS[kind]
    ids = tokenizer.encode("[MASK] <|endoftext|>")
    assert tokenizer.mask_id not in ids
    assert tokenizer.end_id not in ids
    assert tokenizer.decode(ids) == "[MASK] <|endoftext|>"


def test_sizes_are_the_seeds() -> None:
    assert KINDS["gpt2"].vocab_size == 50_258
    assert KINDS["gpt2"].mask_id == 50_257
    assert KINDS["gpt2"].end_id == 50_256
    assert KINDS["byte"].vocab_size == 257
    assert KINDS["bpe"].vocab_size <= 300
    assert KINDS["char"].vocab_size == len(set(TEXT)) + 1


def test_gpt2s_ids_are_the_official_ones() -> None:
    """Known encodings of OpenAI's own tokenizer."""
    assert KINDS["gpt2"].encode("Hello") == [15496]
    assert KINDS["gpt2"].encode("Hello world") == [15496, 995]
    assert KINDS["gpt2"].encode(" the quick brown fox") == [262, 2068, 7586, 21831]


@pytest.mark.parametrize("kind", KINDS)
def test_json_keeps_everything(kind: str) -> None:
    tokenizer = KINDS[kind]
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again.fingerprint() == tokenizer.fingerprint()
    assert (again.mask_id, again.end_id, again.vocab_size) == (
        tokenizer.mask_id,
        tokenizer.end_id,
        tokenizer.vocab_size,
    )
    assert again.encode(TEXT) == tokenizer.encode(TEXT)


def test_masks_are_shown_between_the_text() -> None:
    tokenizer = KINDS["char"]
    ids = [*tokenizer.encode("be"), tokenizer.mask_id, *tokenizer.encode("or")]
    assert tokenizer.decode(ids) == "beor"
    assert tokenizer.decode(ids, "░") == "be░or"


def test_an_unseen_character_is_named() -> None:
    with pytest.raises(ValueError, match="'é' is not in the character tokenizer"):
        KINDS["char"].encode("To bé")


def test_a_files_own_mask_is_used_and_otherwise_one_is_added(tmp_path: Path) -> None:
    values = json.loads(byte_tokenizer().to_json())
    (tmp_path / "tokenizer.json").write_text(json.dumps(values), "utf-8")
    assert load_tokenizer(str(tmp_path)).vocab_size == 257
    values["added_tokens"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(values), "utf-8")
    assert load_tokenizer(str(tmp_path / "tokenizer.json")).mask_id == 256


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}", "utf-8")
    with pytest.raises(ValueError, match="is not a tokenizer"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(ValueError, match="at least 258"):
        bpe_tokenizer(["a"], 100)

"""Corpora: what is read, and what is refused."""

import io
import json
from pathlib import Path

import pytest

from unmask.text.corpus import Corpus


def test_the_plays_are_complete_and_plain() -> None:
    plays = list(Corpus("shakespeare"))
    assert len(plays) == 38
    text = "".join(plays)
    assert len(text) == 4_997_262
    assert text.isascii()
    assert "To be, or not to be: that is the question:" in text
    assert "\nROMEO:\n" in text
    assert not set("_*#<>|") & set(text)


def test_files_folders_and_json_lines(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("second", "utf-8")
    (tmp_path / "a.md").write_text("first", "utf-8")
    (tmp_path / "skip.bin").write_bytes(b"\xff")
    lines = [json.dumps({"text": "third"}), "", json.dumps({"text": "fourth"})]
    (tmp_path / "c.jsonl").write_text("\n".join(lines), "utf-8")
    assert list(Corpus(str(tmp_path))) == ["first", "second", "third", "fourth"]
    assert list(Corpus(str(tmp_path / "b.txt"))) == ["second"]
    assert list(Corpus(str(tmp_path), max_characters=7)) == ["first", "se"]


def test_json_lines_may_hold_any_line_separator_and_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    text = "one\u2028two\u0085three"
    (tmp_path / "web.jsonl").write_text(json.dumps({"text": text}, ensure_ascii=False) + "\n", "utf-8-sig")
    assert list(Corpus(str(tmp_path / "web.jsonl"))) == [text]


def test_standard_input_is_read_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO("héllo".encode()))
    monkeypatch.setattr("sys.stdin", stream)
    corpus = Corpus("-")
    assert list(corpus) == ["héllo"]
    assert corpus.characters() == 5


def test_datasets_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked: list[tuple[object, ...]] = []

    def load(name: str, config: str | None, *, split: str, streaming: bool) -> list[dict[str, str]]:
        asked.append((name, config, split, streaming))
        return [{"text": "one"}, {"text": "two"}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert list(Corpus("hf:wikitext/wikitext-2/raw@test")) == ["one", "two"]
    assert list(Corpus("hf:ag_news")) == ["one", "two"]
    assert asked == [("wikitext/wikitext-2", "raw", "test", True), ("ag_news", None, "train", True)]
    with pytest.raises(ValueError, match="no column 'body'"):
        list(Corpus("hf:ag_news", text_key="body"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "is empty"),
        ("latin.txt", b"caf\xe9", "not UTF-8: byte 0xe9 at offset 3"),
        ("bad.jsonl", b'{"text": "a"}\n{oops', "line 2, is not JSON"),
        ("key.jsonl", b'{"body": "a"}', "no text field 'text'"),
    ],
)
def test_bad_text_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(Corpus(str(tmp_path / name)))


def test_missing_and_empty_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no corpus"):
        list(Corpus(str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match=r"holds no \.txt"):
        list(Corpus(str(tmp_path)))

"""Model folders: what is whole loads, what is not says why."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from unmask.pretrained import load_pretrained


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "checkpoints/last/", tmp_path / "model"))


def test_run_and_checkpoint_folders_load(trained: Path, folder: Path) -> None:
    run, last = load_pretrained(trained), load_pretrained(folder)
    assert run.folder.parent.name == "checkpoints"
    assert last.config == run.config
    assert not last.model.training


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        load_pretrained(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_truncated_file_is_named(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=name):
        load_pretrained(folder)


def test_files_that_do_not_fit_are_refused(folder: Path) -> None:
    config = folder / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values | {"model": values["model"] | {"layers": 2}}))
    with pytest.raises(ValueError, match="missing"):
        load_pretrained(folder)
    config.write_text(json.dumps(values | {"model": values["model"] | {"hidden": 64}}))
    with pytest.raises(ValueError, match=r"is \[128, 32\], not \[64, 32\]"):
        load_pretrained(folder)
    config.write_text(json.dumps(values | {"tokenizer": "0" * 16}))
    with pytest.raises(ValueError, match="not the tokenizer"):
        load_pretrained(folder)
    config.write_text(json.dumps(values | {"format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        load_pretrained(folder)


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="there is no model 'nothing'"):
        load_pretrained("nothing")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(ValueError, match="there is no model 'runs/typo'"):
        load_pretrained("runs/typo")
    with pytest.raises(ValueError, match="holds no model"):
        load_pretrained(tmp_path)


def test_hub_ids_are_downloaded_without_pickles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: list[Any] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.extend([name, allow_patterns])
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert load_pretrained("someone/model").folder == folder
    name, patterns = asked
    assert name == "someone/model"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(patterns)
    assert all(pattern.endswith((".json", ".safetensors", "merges.txt", "vocab.txt", ".model")) for pattern in patterns)


def test_the_shipped_model_writes() -> None:
    from unmask.pipeline import Pipeline
    from unmask.pretrained import shipped_models

    assert "shakespeare" in shipped_models()
    (result,) = Pipeline.from_pretrained("shakespeare").generate("ROMEO:", length=24, seed=1)
    assert result.text.startswith("ROMEO:")
    assert len(result.tokens) == 24


def test_the_shipped_repair_model_mends() -> None:
    from unmask.pipeline import Pipeline

    (result,) = Pipeline.from_pretrained("shakespeare-repair", "cpu").repair(
        "To be, or nqt to be: thxt is the question"
    )
    assert str(result) == "To be, or not to be: that is the question"

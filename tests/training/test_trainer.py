"""The trainer: exact resume, interruption, and files that survive everything."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from conftest import tiny_config
from unmask.config import RunConfig
from unmask.evaluation.likelihood import Likelihood
from unmask.pretrained import folders, load_pretrained, named_weights
from unmask.training import checkpoint
from unmask.training.callbacks import Callback
from unmask.training.trainer import Trainer, train


class StopAt(Callback):
    """Presses Ctrl-C when a step has been logged."""

    def __init__(self, step: int) -> None:
        self.step = step

    def logged(self, step: int, metrics: dict[str, float]) -> None:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def rows(run: Path, phase: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [row for row in lines if row["phase"] == phase]


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in rows(run, "train")]


VARIANTS = {
    "plain": {},
    "ema": {"train": {"ema": 0.9}},
    "accumulate": {"train": {"accumulate": 2}},
    "adamw": {"optim": {"name": "adamw", "schedule": "cosine"}},
    "importance": {"diffusion": {"times": "importance", "objective": "nelbo"}},
    "dropout": {"model": {"dropout": 0.2, "time": "adaln"}},
    "uniform": {"diffusion": {"corruption": "uniform", "schedule": "cosine_md4"}},
    "tied": {"model": {"tied": True}},
    "bf16": {"train": {"precision": "bf16"}},
}


def variant(corpus: Path, name: str) -> RunConfig:
    from unmask.config import read_config

    values = tiny_config(corpus, steps=6, save_every=100, eval_every=3).to_dict()
    for section, settings in VARIANTS[name].items():
        values[section] |= settings
    return read_config(values)


@pytest.mark.parametrize("name", VARIANTS)
def test_an_interrupted_run_goes_on_exactly(corpus_file: Path, tmp_path: Path, name: str) -> None:
    config = variant(corpus_file, name)
    whole = train(config, tmp_path / "whole")
    stopped = train(config, tmp_path / "parts", callbacks=[StopAt(4)])
    assert (stopped.complete, stopped.step) == (False, 4)
    resumed = train(config, tmp_path / "parts", resume="auto")
    assert resumed.complete
    assert losses(resumed.run) == pytest.approx(losses(whole.run), rel=1e-6)
    assert len(losses(resumed.run)) == 6
    a, b = (load_pretrained(result.run / "checkpoints/last").model for result in (whole, resumed))
    for left, right in zip(named_weights(a).values(), named_weights(b).values(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-7)


def test_a_run_learns_and_writes_its_folder(trained: Path) -> None:
    first, last = rows(trained, "val")[0], rows(trained, "val")[-1]
    assert last["nelbo"]["mean"] < first["nelbo"]["mean"] < 3.2
    assert last["bits_per_byte"]["mean"] == pytest.approx(last["nelbo"]["mean"] / 0.6931, rel=1e-3)
    names = {path.name for path in (trained / "checkpoints/last/").iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "trainer"}
    steps = {path.name for path in (trained / "checkpoints").glob("step-*")}
    assert steps == {(trained / f"checkpoints/{name}").resolve().name for name in ("best", "last")}


def test_resume_auto_starts_where_there_is_nothing(corpus_file: Path, tmp_path: Path) -> None:
    assert train(tiny_config(corpus_file), tmp_path / "run", resume="auto").complete


def test_a_taken_folder_is_refused(corpus_file: Path, tmp_path: Path) -> None:
    train(tiny_config(corpus_file), tmp_path / "run")
    with pytest.raises(ValueError, match="already holds a run"):
        train(tiny_config(corpus_file), tmp_path / "run")


def test_resume_refuses_another_shape_or_tokenizer(corpus_file: Path, tmp_path: Path) -> None:
    run = train(tiny_config(corpus_file), tmp_path / "run").run
    other = tmp_path / "other.txt"
    other.write_text("quite different letters, xyz 0123456789\n" * 40, "utf-8")
    with pytest.raises(ValueError, match="another tokenizer"):
        train(tiny_config(other), tmp_path / "new", resume=str(run))
    from unmask.config import read_config

    values = tiny_config(corpus_file).to_dict()
    values["model"]["layers"] = 2
    adamw = tiny_config(corpus_file).to_dict()
    adamw["optim"]["name"] = "adamw"
    with pytest.raises(ValueError, match="was trained with muon, not adamw"):
        train(read_config(adamw), tmp_path / "new3", resume=str(run))
    with pytest.raises(ValueError, match="another model shape"):
        train(read_config(values), tmp_path / "new2", resume=str(run))


def test_a_full_disk_leaves_the_last_checkpoint_loadable(
    corpus_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = folders.save_file
    calls = 0

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        real(tensors, path)

    monkeypatch.setattr(folders, "save_file", full)
    run = tmp_path / "run"
    with pytest.raises(OSError, match="No space left"):
        train(tiny_config(corpus_file, steps=6), run)
    assert load_pretrained(run).folder.name == "step-000002"
    assert not list((run / "checkpoints").glob(".*partial"))
    monkeypatch.undo()
    assert train(tiny_config(corpus_file, steps=6), run, resume="auto").complete


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_good_checkpoint(
    corpus_file: Path, tmp_path: Path
) -> None:
    class Poison(Callback):
        trainer: Trainer

        def evaluated(self, step: int, likelihood: Likelihood) -> None:
            if step == 4:
                self.trainer.model.embedding.weight.data.fill_(torch.nan)

    poison = Poison()
    poison.trainer = Trainer(tiny_config(corpus_file, steps=8, save_every=2), tmp_path / "run", callbacks=[poison])
    with pytest.raises(FloatingPointError, match="is not a number"):
        poison.trainer.fit()
    assert torch.isfinite(load_pretrained(tmp_path / "run").model.embedding.weight).all()


def test_ema_weights_are_the_ones_shipped(corpus_file: Path, tmp_path: Path) -> None:
    run = train(variant(corpus_file, "ema"), tmp_path / "run").run
    shipped = load_pretrained(run / "checkpoints/last").model.embedding.weight
    _, raw, _, _ = checkpoint.load_trainer(run / "checkpoints/last")
    assert not torch.allclose(shipped, raw["embedding.weight"])


def test_trackers_are_fed(corpus_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = train(tiny_config(corpus_file, trackers=["tensorboard"]), tmp_path / "run").run
    assert list(run.rglob("events.out.tfevents.*"))


def test_checkpoint_folders_are_atomic(tmp_path: Path) -> None:
    from unmask.pretrained import atomic_folder

    with atomic_folder(tmp_path / "a") as folder:
        (folder / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "a") as folder:
        (folder / "file").write_text("new")
        raise KeyboardInterrupt
    assert (tmp_path / "a/file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]

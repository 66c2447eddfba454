"""Adapters: a frozen base, a few matrices that learn, kept apart."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import random_model, tiny_config
from unmask.backbones.lowrank import adapters, add_low_rank, merge
from unmask.config import AdaptConfig, RunConfig
from unmask.pipeline import Pipeline
from unmask.pretrained import load_pretrained
from unmask.training.trainer import Trainer, train


def adapting(source: Path, corpus: Path, **settings: object) -> RunConfig:
    return replace(tiny_config(corpus, **settings), adapt=AdaptConfig(str(source), lora=2))


@pytest.mark.parametrize("tied", [False, True])
def test_nothing_changes_at_first_and_merging_changes_nothing(tied: bool) -> None:
    model = random_model(tied=tied)
    tokens, t = torch.randint(0, 12, (3, 16)), torch.zeros(3)
    before = model(tokens, t).detach()
    add_low_rank(model, 2, 11, torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(tokens, t), before, rtol=1e-5, atol=1e-5)
    for parameter in adapters(model).values():
        torch.nn.init.normal_(parameter, 0, 0.3)
    adapted = model(tokens, t).detach()
    assert not torch.allclose(adapted, before, atol=0.05)
    merge(model)
    assert not adapters(model)
    assert set(model.state_dict()) == set(random_model(tied=tied).state_dict())
    assert (model.head.weight is model.embedding.weight) == tied
    torch.testing.assert_close(model(tokens, t), adapted, rtol=1e-4, atol=1e-4)


def test_only_the_adapters_and_the_masks_row_learn(trained: Path, corpus_file: Path, tmp_path: Path) -> None:
    trainer = Trainer(adapting(trained, corpus_file), tmp_path / "run")
    base = load_pretrained(trained)
    assert trainer.fit().complete
    learned = load_pretrained(tmp_path / "run/checkpoints/last")
    old, new = base.model.state_dict(), learned.model.state_dict()
    mask = base.tokenizer.mask_id
    rows = (old["embedding.weight"] != new["embedding.weight"]).any(-1).nonzero()[:, 0].tolist()
    assert rows == [mask]
    for name in ("attention.qkv", "attention.out", "mlp.up", "mlp.down"):
        change = new[f"blocks.0.{name}.weight"] - old[f"blocks.0.{name}.weight"]
        assert change.abs().max() > 0
        assert torch.linalg.matrix_rank(change, rtol=1e-3) <= 2
    assert old["head.weight"].equal(new["head.weight"])


def test_they_are_saved_apart_and_resumed_exactly(trained: Path, corpus_file: Path, tmp_path: Path) -> None:
    config = adapting(trained, corpus_file, steps=6, save_every=3, eval_every=3, ema=0.9)
    train(config, tmp_path / "whole")
    folder = tmp_path / "whole/checkpoints/last"
    assert not (folder / "model.safetensors").exists()
    adapter, base = folder / "adapter.safetensors", trained / "checkpoints/best/model.safetensors"
    assert adapter.stat().st_size < base.stat().st_size / 2
    trainer = Trainer(config, tmp_path / "parts")
    original = trainer._step

    def three() -> dict[str, torch.Tensor]:
        trainer.stop = trainer.state.step == 2
        return original()

    trainer._step = three  # type: ignore[method-assign]
    trainer.fit()
    train(config, tmp_path / "parts", resume="auto")
    whole, parts = (load_pretrained(tmp_path / name / "checkpoints/last").model for name in ("whole", "parts"))
    for name, weight in whole.state_dict().items():
        assert weight.equal(parts.state_dict()[name]), name
    [found] = Pipeline.from_pretrained(tmp_path / "whole", "cpu").generate("To be", seed=1)
    assert found.text.startswith("To be")


def test_a_missing_or_changed_base_is_said(trained: Path, mender: Path, corpus_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "base"
    shutil.copytree(trained, copy, symlinks=True)
    train(adapting(copy, corpus_file), tmp_path / "run")
    shutil.rmtree(copy)
    with pytest.raises(ValueError, match="adapters only, and their base cannot be loaded"):
        load_pretrained(tmp_path / "run")
    shutil.copytree(mender, copy, symlinks=True)
    with pytest.raises(ValueError, match=r"another base|does not fit|adapters only"):
        load_pretrained(tmp_path / "run")


def test_wrong_ranks_are_refused(trained: Path, corpus_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="adapt.lora needs a model to adapt"):
        AdaptConfig(lora=4)
    config = adapting(trained, corpus_file)
    with pytest.raises(ValueError, match="more than the model's width"):
        train(replace(config, adapt=replace(config.adapt, lora=1000)), tmp_path / "run")
    train(config, tmp_path / "run")
    with pytest.raises(ValueError, match="its adapt.lora is 2, the config's 3"):
        train(replace(config, adapt=replace(config.adapt, lora=3)), tmp_path / "run", resume="auto")

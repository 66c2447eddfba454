"""A GPT becomes a diffusion model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from conftest import TEXT, random_model, tiny_config
from unmask.backbones.transformer import show_only
from unmask.config import AdaptConfig, RunConfig, read_config
from unmask.diffusion.denoiser import LeftToRight, Shifted, Subs
from unmask.pipeline import Pipeline
from unmask.pretrained import load_pretrained, shortened
from unmask.training.opening import opening
from unmask.training.trainer import Trainer, train

MASK = 11


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a tiny GPT."""
    root = tmp_path_factory.mktemp("gpt")
    (root / "corpus.txt").write_text(TEXT * 40, "utf-8")
    config = tiny_config(root / "corpus.txt", steps=200, eval_every=200, save_every=200, batch_size=16).to_dict()
    config["model"] |= {"attention": "causal", "width": 48, "layers": 2}
    config["diffusion"] |= {"corruption": "none", "objective": "autoregressive"}
    return train(read_config(config), root / "run").run


def adapting(gpt: Path, corpus: Path, **train_settings: object) -> RunConfig:
    return replace(tiny_config(corpus, **train_settings), adapt=AdaptConfig(str(gpt), anneal=3))


def test_opening_goes_from_causal_to_full() -> None:
    generator = torch.Generator().manual_seed(0)
    cpu = torch.device("cpu")
    causal = torch.ones(50, 50, dtype=torch.bool).tril()
    assert opening(50, 0.0, generator, cpu).equal(causal)
    assert opening(50, 1.0, generator, cpu).all()
    half = opening(50, 0.3, generator, cpu)
    assert half[causal].all()
    assert abs(float(half[~causal].double().mean()) - 0.3) < 0.06


def test_a_closed_bidirectional_model_is_the_causal_one() -> None:
    bidirectional, causal = random_model(), random_model(attention="causal")
    tokens, t = torch.randint(0, 12, (3, 16)), torch.zeros(3)
    expected = causal(tokens, t)
    assert not torch.allclose(bidirectional(tokens, t), expected, atol=1e-2)
    show_only(bidirectional, opening(16, 0.0, torch.Generator(), torch.device("cpu")))
    torch.testing.assert_close(bidirectional(tokens, t), expected, rtol=1e-4, atol=1e-4)
    show_only(bidirectional, None)
    assert not torch.allclose(bidirectional(tokens, t), expected, atol=1e-2)


def test_a_shifted_causal_model_is_a_gpt() -> None:
    model = random_model(attention="causal")
    tokens = torch.randint(0, 11, (2, 15))
    select = torch.rand(2, 15) < 0.5
    expected = LeftToRight(model, MASK, begin_id=4)(tokens, torch.zeros(2), select=select)
    found = Subs(Shifted(model, 4), MASK)(tokens, torch.zeros(2), select=select)
    torch.testing.assert_close(found.log_probs, expected.log_probs)


def test_a_shifted_row_is_the_same_among_longer_ones() -> None:
    denoiser = Subs(Shifted(random_model(), 4), MASK)
    tokens = torch.randint(0, 12, (2, 15))
    lengths = torch.tensor([15, 6])
    select = torch.arange(15) < lengths[:, None]
    both = denoiser(tokens, torch.zeros(2), lengths=lengths, select=select).log_probs
    alone = denoiser(tokens[1:, :6], torch.zeros(1), select=select[1:, :6]).log_probs
    torch.testing.assert_close(both[15:], alone, rtol=1e-4, atol=1e-5)


def test_a_model_of_another_length_has_the_same_weights(gpt: Path) -> None:
    loaded = load_pretrained(gpt)
    tokens = torch.randint(0, 10, (2, 9))
    longer = shortened(loaded, 40).model
    torch.testing.assert_close(longer(tokens, torch.zeros(2)), loaded.model(tokens, torch.zeros(2)))


@pytest.mark.parametrize("prediction", ["same", "next"])
@pytest.mark.parametrize("corruption", ["absorbing", "repair"])
def test_it_starts_as_the_gpt_and_trains(
    gpt: Path, corpus_file: Path, tmp_path: Path, prediction: str, corruption: str
) -> None:
    config = adapting(gpt, corpus_file)
    objective = "nelbo" if corruption == "absorbing" else "repair"
    diffusion = replace(config.diffusion, prediction=prediction, corruption=corruption, objective=objective)
    config = replace(config, diffusion=diffusion)
    trainer = Trainer(config, tmp_path / "run")
    source = load_pretrained(gpt)
    # the source's shape and tokenizer, whatever the recipe says
    assert (trainer.config.model.width, trainer.config.model.layers) == (48, 2)
    assert trainer.config.model.attention == "bidirectional"
    assert trainer.tokenizer.fingerprint() == source.tokenizer.fingerprint()
    for name, weight in source.model.state_dict().items():
        assert trainer.model.state_dict()[name].equal(weight)
    assert trainer.fit().complete
    pipe = Pipeline.from_pretrained(tmp_path / "run", "cpu")
    assert pipe.length == (15 if prediction == "next" else 16)
    [found] = pipe.generate("To be", seed=1)
    assert len(found.tokens) == pipe.length
    assert found.text.startswith("To be")


def test_it_goes_on_exactly_without_its_source(gpt: Path, corpus_file: Path, tmp_path: Path) -> None:
    """Six steps at once, and three and three, in the midst of the opening; the source may be gone by then."""
    copy = tmp_path / "gpt"
    shutil.copytree(gpt, copy, symlinks=True)
    whole = adapting(copy, corpus_file, steps=6, save_every=3, eval_every=3)
    whole = replace(whole, adapt=replace(whole.adapt, anneal=5))
    train(whole, tmp_path / "whole")
    trainer = Trainer(whole, tmp_path / "parts")
    original = trainer._step

    def three() -> dict[str, torch.Tensor]:
        trainer.stop = trainer.state.step == 2
        return original()

    trainer._step = three  # type: ignore[method-assign]
    assert not trainer.fit().complete
    shutil.rmtree(copy)
    # the tokens are made again, with the checkpoint's vocabulary
    shutil.rmtree(tmp_path / "parts/data")
    train(whole, tmp_path / "parts", resume="auto")
    weights = [load_pretrained(tmp_path / name / "checkpoints/last").model.state_dict() for name in ("whole", "parts")]
    for name in weights[0]:
        assert weights[0][name].equal(weights[1][name]), name


def test_the_run_says_where_it_came_from(gpt: Path, corpus_file: Path, tmp_path: Path) -> None:
    train(adapting(gpt, corpus_file), tmp_path / "run")
    values = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert values["adapt"]["source"] == str(gpt)
    assert values["model"]["width"] == 48


def test_other_model_types_are_not_resumed(gpt: Path, corpus_file: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus_file)
    train(config, tmp_path / "run")
    changed = replace(config, diffusion=replace(config.diffusion, corruption="repair", objective="repair"))
    with pytest.raises(ValueError, match="corruption is absorbing, the config's repair"):
        train(replace(changed, train=replace(changed.train, steps=8)), tmp_path / "run", resume="auto")
    changed = replace(config, diffusion=replace(config.diffusion, prediction="next"))
    with pytest.raises(ValueError, match="prediction is same, the config's next"):
        train(changed, tmp_path / "run", resume="auto")


def test_another_vocabulary_is_not_resumed(corpus_file: Path, tmp_path: Path) -> None:
    """The run's own mask and vocabulary stay; other text with other characters is refused in one sentence."""
    config = tiny_config(corpus_file)
    run = train(config, tmp_path / "run").run
    other = tmp_path / "other.txt"
    other.write_text("0123456789 äöü\n" * 100, "utf-8")
    config = replace(config, data=replace(config.data, source=str(other)))
    with pytest.raises(ValueError, match="another tokenizer than the checkpoint"):
        train(config, tmp_path / "second", resume=str(run / "checkpoints/last"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "no/such/place"}, "no model|did not give|no folder"),
        ({"source": None, "anneal": -1}, "adapt.anneal must be 0 or more"),
    ],
)
def test_wrong_sources_are_refused(
    changes: dict[str, object], words: str, corpus_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=words):
        config = replace(tiny_config(corpus_file), adapt=AdaptConfig(**changes))
        train(config, tmp_path / "run")


def test_too_long_for_learned_positions(tmp_path: Path, corpus_file: Path) -> None:
    config = tiny_config(corpus_file).to_dict()
    config["model"] |= {"positions": "learned", "attention": "causal"}
    config["diffusion"] |= {"corruption": "none", "objective": "autoregressive"}
    run = train(read_config(config), tmp_path / "gpt").run
    longer = adapting(run, corpus_file)
    longer = replace(longer, model=replace(longer.model, length=32))
    with pytest.raises(ValueError, match="16 learned positions; a length of 32 is more"):
        train(longer, tmp_path / "run")


def test_prepared_text_of_another_tokenizer_is_refused(gpt: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("something else entirely " * 100, "utf-8")
    prepared = train(tiny_config(other), tmp_path / "plain").run / "data"
    with pytest.raises(ValueError, match="another tokenizer than that of the model to start from"):
        train(adapting(gpt, prepared), tmp_path / "run")


def test_a_recipe_can_name_its_source(gpt: Path) -> None:
    config = read_config({"adapt": {"source": str(gpt), "anneal": 10}})
    assert json.loads(json.dumps(config.to_dict()))["adapt"] == {"source": str(gpt), "anneal": 10, "lora": 0}

"""Text to text."""

from pathlib import Path

import pytest
import torch

import unmask
from unmask.pipeline import Pipeline
from unmask.sampling.frame import State


@pytest.fixture(scope="module")
def pipe(trained: Path) -> Pipeline:
    return Pipeline.from_pretrained(trained, "cpu")


def test_the_package_offers_its_names() -> None:
    assert unmask.Pipeline is Pipeline
    assert set(unmask.__all__) == {"Generation", "Pipeline", "RunConfig", "load_recipe", "train"}
    for name in unmask.__all__:
        assert getattr(unmask, name)
    with pytest.raises(AttributeError):
        _ = unmask.nothing


def test_generate_keeps_prompt_and_suffix(pipe: Pipeline) -> None:
    (result,) = pipe.generate("To be", suffix="not", length=14)
    assert result.text.startswith("To be")
    assert result.text.endswith("not")
    assert len(result.tokens) == len(result.confidence) == 14
    assert result.fills == [result.text[5:11]]
    assert result.confidence[:5] == [1.0] * 5
    assert 0 < result.nfe <= 6
    assert str(result) == result.text


def test_infill_fills_every_hole(pipe: Pipeline) -> None:
    (result,) = pipe.infill("To [MASK:2], or [MASK]o")
    assert len(result.fills) == 2
    assert [len(fill) for fill in result.fills] == [2, 1]
    assert result.text == f"To {result.fills[0]}, or {result.fills[1]}o"


def test_a_seed_makes_the_same_text_again_alone_or_among_others(pipe: Pipeline) -> None:
    many = pipe.generate(num_samples=4, seed=7)
    for sample in many:
        assert pipe.generate(seed=sample.seed)[0].tokens == sample.tokens
    assert len({sample.text for sample in many}) > 1


def test_stream_yields_every_state_of_generate(pipe: Pipeline) -> None:
    frames = list(pipe.stream("To be", length=12, steps=4, seed=3))
    assert [frame.step for frame in frames] == [0, 1, 2, 3, 4]
    assert (frames[0].states[0] == State.MASKED).sum() == 7
    assert frames[-1].tokens[0].tolist() == pipe.generate("To be", length=12, steps=4, seed=3)[0].tokens
    assert len(list(pipe.stream("be[MASK:3]"))) == 4


def test_a_trained_model_knows_its_text(pipe: Pipeline) -> None:
    (result,) = pipe.infill("r not to b[MASK], th", temperature=0.0)
    assert result.fills == ["e"]


def test_a_uniform_model_generates_too(corpus_file: Path, tmp_path: Path) -> None:
    from conftest import tiny_config
    from unmask.config import read_config

    values = tiny_config(corpus_file).to_dict()
    values["diffusion"]["corruption"] = "uniform"
    run = unmask.train(read_config(values), tmp_path / "run").run
    uniform = Pipeline.from_pretrained(run)
    a, b = (uniform.generate("To", length=10, steps=5, seed=1, num_samples=n)[0] for n in (1, 3))
    assert a.tokens == b.tokens
    assert a.text.startswith("To")
    assert uniform.tokenizer.mask_id not in a.tokens
    corrected = uniform.generate("To", length=10, steps=5, seed=1, revise="self_correct:rounds=8,margin=0.02")[0]
    assert corrected.nfe > a.nfe
    assert corrected.text.startswith("To")
    together = uniform.generate(
        "To", length=10, steps=5, seed=0, num_samples=2, revise="self_correct:rounds=8,margin=0.02"
    )
    assert together[1].tokens == corrected.tokens
    quick, slow = uniform.batch(
        [uniform.request_generate("To", length=10, steps=4), uniform.request_generate("To", length=10, steps=9, seed=7)]
    )
    assert quick[0] == uniform.generate("To", length=10, steps=4)[0]
    assert slow[0].nfe == 9
    with pytest.raises(ValueError, match="block is for models trained with masks"):
        uniform.generate(block=4)
    with pytest.raises(ValueError, match="by self_correct only"):
        uniform.generate(revise="gibbs")
    frames = list(uniform.stream("To", length=10, steps=5))
    assert (frames[-1].states[0, :2] == State.PROMPT).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 17}, "between 1 and the model's 16"),
        ({"length": 0}, "between 1"),
        ({"prompt": "To be, or not to be"}, "leaves nothing to fill"),
        ({"prompt": "To be", "length": 5}, "leaves nothing to fill"),
        ({"prompt": "Zebra"}, "'Z' is not in the character tokenizer"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"num_samples": 0}, "num_samples must be at least 1"),
        ({"seed": -1}, "seed must be between"),
        ({"temperature": -0.1}, "temperature must be"),
        ({"sampler": "treshold"}, "did you mean threshold"),
        ({"sampler": "threshold:tau=2"}, "tau must be in"),
    ],
)
def test_what_cannot_be_done_is_said(pipe: Pipeline, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipe.generate(**options)


def test_a_template_longer_than_the_canvas_is_refused(pipe: Pipeline) -> None:
    with pytest.raises(ValueError, match="holes included; the model's canvas has 16"):
        pipe.infill("To be[MASK:12]")


def test_more_steps_than_masks_are_no_harm(pipe: Pipeline) -> None:
    (result,) = pipe.infill("To [MASK:2], or", steps=50)
    assert result.nfe == 2


def test_generation_is_independent_of_global_randomness(pipe: Pipeline) -> None:
    torch.manual_seed(1)
    first = pipe.generate(seed=5)[0].tokens
    torch.manual_seed(2)
    assert pipe.generate(seed=5)[0].tokens == first

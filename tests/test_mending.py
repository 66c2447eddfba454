"""Repair, from texts to texts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from unmask.cli import main
from unmask.config import DiffusionConfig
from unmask.pipeline import Pipeline
from unmask.sampling.frame import State

GOOD = "to be, that is the question"
BAD = "to be, thmt is the quastion"


@pytest.fixture(scope="module")
def pipe(mender: Path) -> Pipeline:
    return Pipeline.from_pretrained(mender, "cpu")


def test_it_finds_what_is_wrong_and_mends_it(pipe: Pipeline) -> None:
    [found] = pipe.repair(BAD)
    assert str(found) == GOOD
    wrong = {BAD.index("thm") + 2, BAD.index("qua") + 2}
    assert {place for place, doubt in enumerate(found.doubts) if doubt > 0.5} == wrong == set(found.changed)
    assert found.spans == [(i, i + 1) for i in range(len(BAD))]
    assert pipe.tokenizer.decode(found.before) == BAD
    assert found.nfe <= 5


def test_good_text_stays_and_costs_one_pass(pipe: Pipeline) -> None:
    [found] = pipe.repair(GOOD)
    assert (str(found), found.nfe, found.changed) == (GOOD, 1, [])


def test_protected_parts_never_change(pipe: Pipeline) -> None:
    [found] = pipe.repair(BAD, protect=["thmt"])
    assert str(found) == "to be, thmt is the question"
    start = BAD.index("thmt")
    assert all(doubt == 0 for doubt in found.doubts[start : start + 4])
    [found] = pipe.repair(BAD, protect=(start, start + 4))
    assert str(found) == "to be, thmt is the question"


def test_nothing_above_the_threshold_is_nothing_to_do(pipe: Pipeline) -> None:
    [found] = pipe.repair(BAD, threshold=1)
    assert str(found) == BAD


def test_many_at_once_are_as_each_alone(pipe: Pipeline) -> None:
    """Repairs of different lengths, among requests that start from masks, and their samples."""
    texts = [BAD, GOOD, "nobler iq the mrnd to suffer", "or not"]
    requests = [pipe.request_repair(text, temperature=0.7, seed=i, num_samples=2) for i, text in enumerate(texts)]
    fresh = pipe.request_generate("to be", length=20, sampler="factor", revise="doubt:threshold=0.5", seed=9)
    together = pipe.batch([*requests, fresh])
    for request, found in zip([*requests, fresh], together, strict=True):
        assert [(sample.text, sample.nfe, sample.doubts) for sample in pipe.batch([request])[0]] == [
            (sample.text, sample.nfe, sample.doubts) for sample in found
        ]
    assert together[-1][0].doubts is None
    assert [sample.seed for sample in together[1]] == [1, 2]


def test_frames_show_what_is_reopened(pipe: Pipeline) -> None:
    job = pipe.stream(pipe.request_repair(BAD))
    first, second, *_ = job
    assert (first.states == State.KEPT).all()
    reopened = (second.states[0] == State.REMASKED).nonzero()[:, 0].tolist()
    assert reopened == [BAD.index("thm") + 2, BAD.index("qua") + 2]
    assert job.results[0][0].text == GOOD


def test_generation_with_doubts(pipe: Pipeline) -> None:
    """Seed 001's generation: 25 steps, temperature 0.8, top-k 200; whatever is left is filled in the last."""
    options = {"sampler": "willing", "steps": 25, "temperature": 0.8, "top_k": 200, "length": 40}
    [plain] = pipe.generate("to be", **options)
    [mended] = pipe.generate("to be", revise="doubt", **options)
    assert plain.text.startswith("to be")
    assert mended.text.startswith("to be")
    assert pipe.tokenizer.mask_id not in plain.tokens + mended.tokens
    # a trained model hardly ever answers "not yet": everything is drawn at once, and then looked at
    assert plain.nfe < mended.nfe <= 25


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 1.5}, "threshold must be in"),
        ({"threshold": "x"}, "threshold must be a number"),
        ({"protect": "no such"}, "does not occur"),
        ({"protect": BAD}, "nothing to repair"),
        ({"sampler": "confidence"}, "follows a schedule"),
        ({"revise": "gibbs"}, "revise does not go with repair"),
        ({"block": 4}, "block does not go with repair"),
        ({"best_of": 2}, "best_of does not go with repair"),
    ],
)
def test_wrong_requests_are_refused(pipe: Pipeline, options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pipe.repair(BAD, **options)


def test_too_long_or_empty_texts_are_refused(pipe: Pipeline) -> None:
    with pytest.raises(ValueError, match="canvas has 48"):
        pipe.repair("to be " * 10)
    with pytest.raises(ValueError, match="nothing to repair"):
        pipe.repair("")


def test_a_model_that_only_fills_masks_repairs_where_it_disagrees(trained: Path) -> None:
    pipe = Pipeline.from_pretrained(trained, "cpu")
    (found,) = pipe.repair("to be, or not to", threshold=0.0, protect="or not")
    hidden = range(7, 13)
    assert [found.tokens[place] for place in hidden] == [found.before[place] for place in hidden]
    assert all(found.doubts[place] == 0 for place in hidden)
    assert all(0 <= doubt <= 1 for doubt in found.doubts)
    assert set(found.changed) <= {place for place, doubt in enumerate(found.doubts) if doubt > 0}
    # nothing is wrong with more certainty than all of it
    (same,) = pipe.repair("to be, or not to", threshold=1.0)
    assert (same.text, same.changed, same.nfe) == ("to be, or not to", [], 8)


def test_a_model_that_was_not_trained_to_repair_says_so(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = Pipeline.from_pretrained(trained, "cpu")
    random_tokens = replace(pipe.config, diffusion=DiffusionConfig(corruption="uniform"))
    with pytest.raises(ValueError, match=r"not trained to repair.*reads no masks"):
        Pipeline(pipe.model, pipe.tokenizer, random_tokens, "cpu").repair("to be")
    with pytest.raises(ValueError, match=r"not trained to repair.*self_correct"):
        pipe.generate("to be", revise="doubt")
    with pytest.raises(ValueError, match="not trained to repair"):
        pipe.generate("to be", sampler="willing")
    assert main(["generate", str(trained), "--sampler", "willing"]) == 2
    assert "not trained to repair" in capsys.readouterr().err


def test_the_command_shows_doubts_and_writes_the_text(mender: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["repair", str(mender), BAD, "--device", "cpu"]) == 0
    seen = capsys.readouterr()
    assert seen.out == GOOD + "\n"
    assert "doubted: 'm' 0." in seen.err or "doubted: 'm' 1." in seen.err
    assert main(["repair", str(mender), BAD, "--json", "--protect", "thmt"]) == 0
    [sample] = json.loads(capsys.readouterr().out)["samples"]
    assert sample["text"] == "to be, thmt is the question"
    changed = [token for token in sample["tokens"] if token["changed"]]
    assert [(token["text"], token["now"], token["start"]) for token in changed] == [("a", "e", BAD.index("qua") + 2)]
    assert main(["repair", str(mender), GOOD]) == 0
    assert "doubted: none above 0.5" in capsys.readouterr().err

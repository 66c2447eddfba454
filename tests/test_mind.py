"""A mind: what it reads changes what it says, and it can be put away and taken up again."""

from pathlib import Path

import pytest
import torch

from conftest import TEXT
from unmask.pipeline import Pipeline
from unmask.pipeline.mind import Mind, toward_probe, toward_thought


@pytest.fixture
def mind(thoughtful: Path) -> Mind:
    return Mind.from_pretrained(thoughtful, "cpu")


def test_reading_makes_a_thought_of_every_whole_segment(mind: Mind) -> None:
    mind.read(TEXT[:40])
    assert mind.segment == 16
    assert int(mind.stack.count[0]) == 2
    assert mind.plain.tokenizer.decode(mind.tail) == TEXT[32:40]
    in_parts = Mind(mind.plain).read(TEXT[:7]).read(TEXT[7:25]).read(TEXT[25:40])
    assert in_parts.stack.data.allclose(mind.stack.data)
    assert in_parts.tail == mind.tail


def test_what_it_has_read_changes_what_it_says(mind: Mind, thoughtful: Path) -> None:
    hole = "be, or [MASK:5]"
    before = mind.pipe.score(hole, "not t").nats
    assert before == pytest.approx(Pipeline.from_pretrained(thoughtful, "cpu").score(hole, "not t").nats, rel=1e-5)
    mind.read(TEXT[:48])
    assert mind.pipe.score(hole, "not t").nats != before


def test_everything_a_pipeline_does_it_does_with_thoughts(mind: Mind) -> None:
    mind.read(TEXT[:48])
    pipe = mind.pipe
    assert pipe.infill("be, [MASK:4] not", steps=2)[0].text.startswith("be, ")
    assert len(pipe.generate("To", length=12, num_samples=3)) == 3
    assert len(pipe.edit("To be, or not", "be")[0].text) == 13
    assert len(pipe.repair("To be, ir not")) == 1


def test_a_session_goes_on_where_it_was(mind: Mind, thoughtful: Path, tmp_path: Path) -> None:
    mind.read(TEXT[:40])
    file = tmp_path / "mind.safetensors"
    mind.save(file)
    ahead = mind.write(tokens=30, seed=3)
    later = Mind.from_pretrained(thoughtful, "cpu").load(file)
    assert later.write(tokens=30, seed=3) == ahead
    assert len(ahead) == 30
    assert later.stack.data.equal(mind.stack.data)


def test_texts_longer_than_a_segment_come_piece_by_piece(mind: Mind) -> None:
    pieces = list(mind.stream("To be", tokens=40, seed=1))
    assert [len(piece) for piece in pieces] == [11, 16, 13]
    assert Mind(mind.plain).write("To be", tokens=40, seed=1) == "".join(pieces)
    assert int(mind.stack.count[0]) == 2
    assert len(mind.tail) == 13


def test_another_models_session_is_refused(mind: Mind, tmp_path: Path) -> None:
    file = tmp_path / "mind.safetensors"
    mind.save(file)
    other = Mind(mind.plain)
    with torch.no_grad():
        other.model.encoder.nothing.add_(1.0)
    try:
        with pytest.raises(ValueError, match="thoughts of another model"):
            other.load(file)
    finally:
        with torch.no_grad():
            other.model.encoder.nothing.sub_(1.0)


def test_the_same_stack_is_encoded_once(mind: Mind) -> None:
    mind.about(torch.zeros(1, 4, 4, 2)).about(None)
    assert mind.cache.hits == 1


def test_thoughts_can_be_imagined_steered_and_blended(mind: Mind) -> None:
    target = mind.thought_of("the question:\nWh")
    free = mind.imagine(seed=1, steps=8)
    again = mind.imagine(seed=1, steps=8)
    assert len(free) == 8
    assert free[-1].clean.equal(again[-1].clean)
    like = toward_thought(-target)
    steered = mind.imagine(seed=1, steps=8, toward=like, strength=2.0)
    assert float(like(steered[-1].clean)) > float(like(free[-1].clean)) + 0.1
    probe = torch.randn(4, 4, 2, generator=torch.Generator().manual_seed(0))
    by_probe = mind.imagine(seed=1, steps=8, toward=toward_probe(probe))
    assert float((by_probe[-1].clean * probe).sum()) > float((free[-1].clean * probe).sum())
    other = mind.thought_of("in the mind to s")
    for start in (0, 0.2):
        between = mind.interpolated(target, other, 0.5, start=start, steps=3)
        assert between.shape == target.shape
        assert between.flatten(2).square().mean(-1).allclose(torch.ones(1, 4), atol=1e-3)
    assert mind.blended([target, other], [3.0, 1.0], start=0).shape == target.shape


def test_a_thought_that_is_present_is_spoken_of(mind: Mind) -> None:
    thought = mind.thought_of("the question:\nWh")
    with_it = mind.about(thought)
    assert (
        with_it.pipe.score("[MASK:16]", "the question:\nWh").nats
        != mind.pipe.score("[MASK:16]", "the question:\nWh").nats
    )
    assert with_it.about(None).memory.tokens.equal(mind.memory.tokens)


def test_hypotheses_are_ranked_by_their_bounds(mind: Mind) -> None:
    found = mind.hypotheses("To", thoughts=3, length=12, steps=3)
    assert len(found) == 3
    bounds = [generation.bound for generation, _ in found]
    assert bounds == sorted(bounds)
    assert len({generation.text for generation, _ in found}) > 1
    # a judge's opinion is taken instead
    judged = mind.hypotheses("To", thoughts=3, length=12, steps=3, judge=lambda texts: [float(texts[0].count("t"))])
    counts = [generation.text.count("t") for generation, _ in judged]
    assert counts == sorted(counts)


def test_what_cannot_be_is_refused(mind: Mind, trained: Path) -> None:
    with pytest.raises(ValueError, match=r"has no thoughts: upgrade it with .*--adapt.source"):
        Mind.from_pretrained(trained, "cpu")
    with pytest.raises(ValueError, match="must be differentiable"):
        mind.imagine(toward=lambda thought: (thought > 0).float().flatten(1).mean(-1))
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\]"):
        mind.interpolated(torch.zeros(1, 4, 4, 2), torch.zeros(1, 4, 4, 2), 1.5)
    with pytest.raises(ValueError, match="does not fit a model"):
        mind.about(torch.zeros(1, 2, 2))
    with pytest.raises(ValueError, match="from 1 to 16 tokens"):
        mind.thought_of("")
    with pytest.raises(ValueError, match="tokens must be at least 1"):
        mind.write(tokens=0)
    with pytest.raises(ValueError, match="thoughts must be at least 1"):
        mind.hypotheses(thoughts=0)
    with pytest.raises(ValueError, match="start goes with near"):
        mind.imagine(start=0.5)
    with pytest.raises(ValueError, match="leave num_samples at 1"):
        mind.write(tokens=4, num_samples=2)

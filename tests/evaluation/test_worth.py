"""What thoughts are worth, and how they evolve."""

from pathlib import Path

import pytest
import torch

from conftest import TEXT
from unmask.analysis.thoughts import plot_evolution
from unmask.backbones.thinking import ThoughtTransformer
from unmask.config import build_bound
from unmask.evaluation.evolution import evolve
from unmask.evaluation.remembering import remember_segments, rows_of, stacks_before, worth_of_thoughts
from unmask.pretrained import Pretrained, load_pretrained


@pytest.fixture
def loaded(thoughtful: Path) -> Pretrained:
    return load_pretrained(thoughtful)


def thinker(loaded: Pretrained) -> ThoughtTransformer:
    assert isinstance(loaded.model, ThoughtTransformer)
    return loaded.model


def windows(loaded: Pretrained, count: int = 6, segments: int = 3) -> torch.Tensor:
    ids = loaded.tokenizer.encode(TEXT * 8)
    size = 16 * segments
    return torch.tensor([ids[5 * n : 5 * n + size] for n in range(count)]).unflatten(1, (segments, 16))


def test_each_segment_gets_the_stack_that_came_before_it(loaded: Pretrained) -> None:
    model, rows = thinker(loaded), windows(loaded)
    stacks = stacks_before(model, rows, batch_size=4)
    assert stacks.count.view(6, 3).tolist() == [[0, 1, 2]] * 6
    first = model.write(rows[:, 0], model.empty_stack(6))
    before_second = rows_of(stacks, torch.arange(1, 18, 3))
    assert before_second.newest().allclose(first, atol=1e-5)
    memory = remember_segments(model, rows, batch_size=5)
    assert memory.tokens.allclose(model.remember(stacks).tokens, atol=1e-5)


def test_worth_compares_the_same_segments_under_the_same_noise(loaded: Pretrained) -> None:
    model = thinker(loaded)
    bound = build_bound(loaded.config, model, loaded.tokenizer)
    worth = worth_of_thoughts(model, bound, windows(loaded), draws=2)
    for name in ("zeroed", "another", "empty"):
        other = getattr(worth, name)
        assert worth.gain_over[name].mean == pytest.approx(other.mean - worth.own.mean, abs=1e-5)
    again = worth_of_thoughts(model, bound, windows(loaded), draws=2)
    assert again.own == worth.own
    # with readers shut, a stack is worth nothing
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "reader.attention.out" in name:
                parameter.zero_()
    nothing = worth_of_thoughts(model, bound, windows(loaded), draws=2)
    assert nothing.gain_over["another"].mean == 0
    assert nothing.gain_over["empty"].mean == 0


def test_worth_needs_something_to_compare(loaded: Pretrained) -> None:
    model = thinker(loaded)
    bound = build_bound(loaded.config, model, loaded.tokenizer)
    with pytest.raises(ValueError, match="at least 2 of 2"):
        worth_of_thoughts(model, bound, windows(loaded, segments=1))


def test_evolution_is_reported_and_drawn(loaded: Pretrained, tmp_path: Path) -> None:
    model, rows = thinker(loaded), windows(loaded)
    evolution = evolve(model, rows, loaded.tokenizer.mask_id, steps=5)
    assert evolution.segments.shape == (3, 6, 4, 4, 2)
    assert evolution.denoising.shape == (5, 6, 4, 4, 2)
    assert evolution.times[0] == 1.0
    report = evolution.report()
    assert -1 <= report["stability"]["denoising"] <= 1
    assert report["alignment"]["chance"] == pytest.approx(1 / 18)
    assert set(report["compression"]) <= {1, 2, 4, 8, 16, 32}
    assert report["diversity"]["effective_rank"] >= 1
    picture = tmp_path / "thoughts.png"
    plot_evolution(evolution.denoising, evolution.times, evolution.segments, report, picture)
    assert picture.stat().st_size > 10_000
    with pytest.raises(ValueError, match="say nothing of evolution"):
        evolve(model, rows, loaded.tokenizer.mask_id, steps=1)

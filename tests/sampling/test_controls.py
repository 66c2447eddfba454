"""Controls change the distributions that they say, in the rows that they say."""

from dataclasses import replace

import pytest
import torch

from conftest import random_model
from unmask.config import build_sampler
from unmask.diffusion.denoiser import Subs
from unmask.sampling.controls import Controls, token_bias, truncate
from unmask.sampling.frame import Frame
from unmask.sampling.loop import denoise
from unmask.sampling.predictions import Predictions

VOCAB, MASK = 12, 11
MODEL = random_model(VOCAB, length=32)


def run(canvas: list[list[int]], controls: Controls, sampler: str = "confidence", steps: int = 20) -> Frame:
    rows = len(canvas)
    *_, last = denoise(
        Subs(MODEL, MASK),
        torch.tensor(canvas),
        build_sampler(sampler, "linear"),
        steps=torch.full((rows,), steps),
        seeds=torch.arange(rows),
        controls=controls,
    )
    return last


def test_min_p_keeps_what_is_a_share_of_the_likeliest() -> None:
    log_probs = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().repeat(3, 1)
    off = torch.zeros(3, dtype=torch.long), torch.ones(3)
    kept = truncate(log_probs, *off, torch.tensor([0.0, 0.25, 0.61])).isfinite().sum(-1)
    assert kept.tolist() == [4, 3, 1]


def test_banned_tokens_never_come_and_others_are_untouched_by_a_neighbours_ban() -> None:
    canvas = [[MASK] * 16] * 2
    free = run(canvas, Controls.of(2))
    banned = sorted(set(free.tokens[0].tolist()))[:5]
    bias = torch.stack([token_bias(VOCAB, {}, banned), torch.zeros(VOCAB)])
    held = run(canvas, replace(Controls.of(2), bias=bias))
    assert not set(held.tokens[0].tolist()) & set(banned)
    assert held.tokens[1].tolist() == free.tokens[1].tolist()


def test_a_bias_is_added_to_the_logits() -> None:
    controls = Controls.of(1, bias=token_bias(VOCAB, {3: 2.5}))
    log_probs = torch.randn(4, VOCAB).log_softmax(-1)
    where = torch.zeros(4, dtype=torch.long), torch.arange(4)
    shaped = controls.shape(log_probs, torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 4, dtype=torch.bool), *where)
    odds = (shaped - shaped[:, :1]) - (log_probs - log_probs[:, :1])
    expected = torch.zeros(VOCAB)
    expected[3] = 2.5
    torch.testing.assert_close(odds, expected.expand(4, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(shaped.exp().sum(-1), torch.ones(4))
    only = run([[MASK] * 6], Controls.of(1, bias=token_bias(VOCAB, {4: 1000.0})))
    assert only.tokens[0].tolist() == [4] * 6


def test_repetition_penalty_multiplies_log_p_of_visible_tokens() -> None:
    controls = replace(Controls.of(2), repetition_penalty=torch.tensor([2.0, 1.0]))
    log_probs = torch.randn(2, VOCAB).log_softmax(-1)
    tokens = torch.tensor([[5, 7, MASK], [5, 7, MASK]])
    visible = tokens != MASK
    shaped = controls.shape(log_probs, tokens, visible, torch.tensor([0, 1]), torch.tensor([2, 2]))
    penalised = log_probs[0].clone()
    penalised[[5, 7]] *= 2
    torch.testing.assert_close(shaped[0], penalised.log_softmax(-1))
    torch.testing.assert_close(shaped[1], log_probs[1])
    strong = run([[MASK] * 10], Controls.of(1, repetition_penalty=1e4), "left_to_right")
    assert len(set(strong.tokens[0].tolist())) == 10


def test_hooks_see_and_change_every_distribution() -> None:
    seen: list[int] = []

    def even_only(log_probs: torch.Tensor, tokens: torch.Tensor, row: torch.Tensor, place: torch.Tensor) -> object:
        assert (tokens[row, place] == MASK).all()
        seen.append(len(log_probs))
        return log_probs.masked_fill(torch.arange(VOCAB) % 2 == 1, -torch.inf)

    last = run([[MASK] * 6, [1, MASK, MASK, 1, 1, 1]], Controls.of(2, hooks=[even_only]), "random", 2)
    assert all(token % 2 == 0 for token in last.tokens[0].tolist())
    assert seen[0] == 8


def test_guidance_is_the_formula_and_one_pass_for_both_canvases() -> None:
    calls: list[int] = []

    class Counting:
        mask_id, time_dependent = MASK, False

        def __call__(self, xt: torch.Tensor, t: torch.Tensor, *, lengths: object, select: torch.Tensor) -> object:
            calls.append(len(xt))
            return Subs(MODEL, MASK)(xt, t, select=select)

    tokens = torch.tensor([[1, 2, MASK, MASK, 3], [1, MASK, 2, MASK, 4]])
    wanted, prompt = tokens == MASK, tokens != MASK
    weight = torch.tensor([0.0, 1.5])
    ask = Predictions(Counting(), torch.tensor([5, 5]), weight, prompt)
    log_probs = ask.at(tokens, wanted, torch.ones(2), torch.tensor([True, True]))
    assert calls == [3]
    assert ask.nfe.tolist() == [1, 2]
    with torch.no_grad():
        given = Subs(MODEL, MASK)(tokens, torch.ones(2), select=wanted).log_probs
        free = Subs(MODEL, MASK)(torch.full((1, 5), MASK), torch.ones(1), select=wanted[1:]).log_probs
    torch.testing.assert_close(log_probs[:2], given[:2])
    mixed = free + 2.5 * (given[2:] - free)
    mixed[:, MASK] = -torch.inf
    torch.testing.assert_close(log_probs[2:], mixed.log_softmax(-1), atol=1e-5, rtol=1e-4)


def test_guidance_does_not_reach_the_neighbours() -> None:
    canvas = [[1, 2, MASK, MASK, MASK, 3], [4, MASK, MASK, 5, MASK, MASK]]
    free = run(canvas, Controls.of(2), "random")
    guided = run(canvas, replace(Controls.of(2), guidance=torch.tensor([0.0, 3.0])), "random")
    assert guided.tokens[0].tolist() == free.tokens[0].tolist()
    assert guided.nfe[1] == 2 * free.nfe[1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"min_p": 1.0}, "min_p"),
        ({"repetition_penalty": 0.5}, "repetition_penalty"),
        ({"guidance": -1.0}, "guidance"),
    ],
)
def test_controls_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Controls.of(1, **values)


@pytest.mark.parametrize(
    ("bias", "banned", "message"),
    [
        ({12: 1.0}, [], "token 12 does not exist"),
        ({}, [-1], "token -1 does not exist"),
        ({3: float("nan")}, [], "must be a number"),
        ({3: float("inf")}, [], "must be a number"),
        ({}, list(range(12)), "nothing is left to write"),
    ],
)
def test_bias_that_cannot_be_is_refused(bias: dict[int, float], banned: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        token_bias(VOCAB, bias, banned)


def test_controls_join_row_by_row() -> None:
    parts = [Controls.of(2, temperature=0.5), Controls.of(1, bias=token_bias(VOCAB, {}, [2]))]
    joined = Controls.join(parts)
    assert joined.temperature.tolist() == [0.5, 0.5, 1.0]
    assert joined.bias is not None
    assert joined.bias[:, 2].tolist() == [0.0, 0.0, -torch.inf]
    assert joined.row(2).bias is not None
    with pytest.raises(ValueError, match="same hooks"):
        Controls.join([Controls.of(1), Controls.of(1, hooks=[lambda a, b, c, d: a])])

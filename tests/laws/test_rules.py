"""Each rule against its definition, in plain loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.sampling.adaptive import DynamicThreshold, EntropyBound, Factor, Stable, Threshold
from unmask.sampling.predictions import Predictions
from unmask.sampling.rules import LinearQuota, One, Rate, TopK
from unmask.sampling.scores import SCORES
from unmask.sampling.step import Candidates, Step, rank, steady

CELLS = st.integers(0, 1 << 20)


def step_of(masked: torch.Tensor, **values: torch.Tensor) -> Step:
    rows = len(masked)
    defaults = {
        "index": torch.zeros(rows, dtype=torch.long),
        "budget": torch.full((rows,), 4),
        "t": torch.ones(rows),
        "s": torch.full((rows,), 0.75),
        "before": torch.ones(rows),
        "after": torch.full((rows,), 0.75),
        "start": torch.ones(rows),
        "total": masked.sum(-1),
        "sigma": torch.zeros(masked.shape),
        "reopening": torch.zeros(rows, dtype=torch.long),
    }
    return Step(number=3, seeds=torch.arange(rows), masked=masked, **(defaults | values))


@st.composite
def scored(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and masks of three rows."""
    length = draw(st.integers(1, 12))
    generator = torch.Generator().manual_seed(draw(CELLS))
    # powers, so that values near 1 are common
    score = torch.rand(3, length, generator=generator, dtype=torch.float64) ** 0.3
    masked = torch.rand(3, length, generator=generator) < 0.8
    return score.masked_fill(~masked, -torch.inf), masked


def by_row(masked: torch.Tensor, rows: list[set[int]]) -> torch.Tensor:
    chosen = torch.zeros_like(masked)
    for row, places in enumerate(rows):
        chosen[row, sorted(places)] = True
    return chosen


def order_of(row: torch.Tensor, masked: torch.Tensor) -> list[int]:
    return sorted(masked.nonzero()[:, 0].tolist(), key=lambda place: -float(row[place]))


@settings(max_examples=60, deadline=None)
@given(scored(), st.floats(0, 1), st.floats(0, 4))
def test_threshold_and_factor(case: tuple[torch.Tensor, torch.Tensor], tau: float, factor: float) -> None:
    score, masked = case
    sure, together = [], []
    for row, open_ in zip(score, masked, strict=True):
        order = order_of(row, open_)
        sure.append({place for place in order if row[place] >= tau} or set(order[:1]))
        sizes = [n for n in range(1, len(order) + 1) if (n + 1) * (1 - float(row[order[n - 1]])) < factor]
        together.append(set(order[: max([*sizes, 1])]))
    step = step_of(masked)
    assert (Threshold(tau)(score, step) == by_row(masked, sure)).all()
    assert (Factor(factor)(score, step) == by_row(masked, together)).all()
    assert (DynamicThreshold(tau, tau)(score, step) == by_row(masked, sure)).all()
    assert (
        One()(score, step) == by_row(masked, [set(order_of(*pair)[:1]) for pair in zip(score, masked, strict=True)])
    ).all()


@settings(max_examples=60, deadline=None)
@given(scored(), st.floats(0, 3))
def test_entropy_bound(case: tuple[torch.Tensor, torch.Tensor], gamma: float) -> None:
    """The largest prefix with sum H - max H <= gamma."""
    entropy, masked = -case[0], case[1]
    expected = []
    for row, open_ in zip(entropy, masked, strict=True):
        order = order_of(-row, open_)
        sizes = [1]
        for n in range(1, len(order) + 1):
            values = [float(row[place]) for place in order[:n]]
            # a hair's breadth for the order of summation
            if math.fsum(values) - max(values) <= gamma + 1e-12:
                sizes.append(n)
        expected.append(set(order[: max(sizes)]))
    assert (EntropyBound(gamma)(-entropy, step_of(masked)) == by_row(masked, expected)).all()


def test_a_dynamic_threshold_falls_with_the_masks_that_are_left() -> None:
    masked = torch.tensor([[True] * 4, [True, True, False, False], [True, False, False, False]])
    score = torch.tensor([[0.9, 0.79, 0.5, 0.4], [0.65, 0.61, -torch.inf, -torch.inf], [0.1] + [-torch.inf] * 3])
    rule = DynamicThreshold(high=0.8, low=0.4)
    chosen = rule(score.double(), step_of(masked, total=torch.tensor([4, 4, 4])))
    assert chosen.tolist() == [[True, False, False, False], [True, True, False, False], [True, False, False, False]]


def test_klass_waits_for_predictions_that_stand_still() -> None:
    masked = torch.ones(1, 4, dtype=torch.bool)
    score = torch.tensor([[0.99, 0.95, 0.96, 0.5]]).double()
    drift = torch.tensor([[0.5, 0.001, torch.inf, 0.0]])
    chosen = Stable(tau=0.9, drift=0.01)(score, step_of(masked, drift=drift))
    # the first is the surest of all, and so never waits
    assert chosen.tolist() == [[True, True, False, False]]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50))
def test_linear_quota_is_lladas_table(total: int, steps: int) -> None:
    counts = []
    left = total
    for index in range(steps):
        masked = (torch.arange(total) < left)[None]
        step = step_of(masked, total=torch.tensor([total]), index=torch.tensor([index]), budget=torch.tensor([steps]))
        counts.append(int(LinearQuota().count(step)[0]))
        left -= counts[-1]
    assert counts == [total // steps + (index < total % steps) for index in range(steps)]


def test_rate_is_dreams_count_and_shares_one_only_when_asked() -> None:
    masked = torch.tensor([[True] * 8, [True, True] + [False] * 6])
    step = step_of(masked, t=torch.tensor([1.0, 1.0]), s=torch.tensor([0.5, 0.5]))
    assert Rate().count(step).tolist() == [4, 1]
    assert Rate(shared=True).count(step).tolist() == [2, 2]
    last = step_of(masked, t=torch.tensor([0.5, 0.5]), s=torch.zeros(2))
    assert Rate().count(last).tolist() == [8, 2]


def test_score_temperature_draws_without_replacement() -> None:
    """The first two of four, against the probabilities of drawing one after the other from softmax(score / T)."""
    rows, temperature = 20_000, 0.5
    score = torch.tensor([0.9, 0.6, 0.3, 0.0], dtype=torch.float64)
    step = step_of(torch.ones(rows, 4, dtype=torch.bool), after=torch.full((rows,), 0.5))
    chosen = TopK(temperature)(score.expand(rows, 4), step)
    weight = (score / temperature).softmax(-1)
    for i in range(4):
        for j in range(i):
            truth = float(weight[i] * weight[j] * (1 / (1 - weight[i]) + 1 / (1 - weight[j])))
            found = float((chosen[:, i] & chosen[:, j]).double().mean())
            assert abs(found - truth) < 4 * (truth * (1 - truth) / rows) ** 0.5
    cold = TopK(1e-6)(score.expand(rows, 4), step)
    assert cold.tolist() == [[True, True, False, False]] * rows


@pytest.mark.parametrize("name", ["confidence", "entropy", "margin"])
def test_scores_are_what_they_say(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(50, 7, generator=generator).log_softmax(-1)
    log_probs[:, 3] = -torch.inf
    log_probs = log_probs.log_softmax(-1)
    seen = Candidates(log_probs, torch.rand(50, generator=generator, dtype=torch.float64), torch.arange(50))
    probs = log_probs.double().exp()
    ordered = probs.sort(descending=True).values
    truth = {
        "confidence": ordered[:, 0],
        "entropy": torch.distributions.Categorical(probs).entropy().neg(),
        "margin": ordered[:, 0] - ordered[:, 1],
    }[name]
    assert (SCORES[name](seen) - truth).abs().max() < 2**-14


def test_ties_are_broken_by_chance_and_rounding_errors_are_ties() -> None:
    u = torch.rand(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    score = steady(torch.full((1000,), 0.5, dtype=torch.float64) + 1e-7 * torch.randn(1000), u)
    assert (score.argsort() == u.argsort()).all()
    assert rank(torch.tensor([[0.5, 0.9, 0.5, 0.1]])).tolist() == [[1, 0, 2, 3]]


def test_drift_is_the_largest_kl_of_the_window() -> None:
    """Predictions that change with the number of visible tokens, KL by hand."""
    mask, length, vocab = 5, 4, 6

    class Moving:
        mask_id, time_dependent = mask, False

        def __call__(self, xt: torch.Tensor, t: torch.Tensor, *, lengths: object, select: torch.Tensor) -> object:
            from unmask.diffusion.denoiser import Denoised

            return Denoised(table[(xt != mask).sum(-1)][select], select)

    generator = torch.Generator().manual_seed(3)
    table = torch.randn(length + 1, length, vocab, generator=generator).log_softmax(-1)
    tokens = torch.full((2, length), mask)
    wanted = torch.ones(2, length, dtype=torch.bool)
    prompt = torch.zeros(2, length, dtype=torch.bool)
    seen = Predictions(Moving(), torch.tensor([length] * 2), torch.zeros(2), prompt, window=2)
    kl = [
        (table[n + 1].exp() * (table[n + 1] - table[n])).sum(-1) for n in range(length)
    ]  # of what is seen with n + 1 tokens from what was seen with n
    everyone = torch.tensor([True, True])
    for n in range(3):
        seen.at(tokens, wanted, torch.ones(2), everyone)
        drift = seen.drift
        assert drift is not None
        for place in range(n, length):
            expected = float(max(kl[n - 1][place], kl[n - 2][place])) if n >= 2 else float("inf")
            assert float(drift[0, place]) == pytest.approx(expected, abs=1e-5)
        tokens, wanted = tokens.clone(), wanted.clone()
        tokens[:, n], wanted[:, n] = 1, False
    # a row that is not asked again keeps its drift
    before = seen.drift
    seen.at(tokens, wanted, torch.ones(2), torch.tensor([False, False]))
    assert before is not None
    assert (seen.drift == before).all()

"""Samplers on a known joint with its exact denoiser: those that claim exactness reach it."""

import pytest
import torch
from joint import Joint, correlated_joint

from unmask.config import build_sampler
from unmask.diffusion.corruption import Uniform
from unmask.diffusion.denoiser import Denoised
from unmask.diffusion.schedules import SCHEDULES
from unmask.sampling.controls import Controls
from unmask.sampling.draws import Purpose, categorical, uniforms
from unmask.sampling.frame import Frame, State
from unmask.sampling.loop import Sampler, denoise
from unmask.sampling.redraw import redraw
from unmask.sampling.rules import TopK
from unmask.sampling.samplers import SAMPLERS

SAMPLES = 6000


def sample(joint: Joint, sampler: Sampler, steps: int, samples: int = SAMPLES) -> torch.Tensor:
    canvas = torch.full((samples, joint.length), joint.mask_id)
    frames = denoise(
        joint,
        canvas,
        sampler,
        steps=torch.full((samples,), steps),
        seeds=torch.arange(samples),
        controls=Controls.of(samples),
    )
    *_, last = frames
    return last.tokens


@pytest.mark.parametrize("name", ["random", "confidence", "entropy", "margin"])
@pytest.mark.parametrize("seed", [0, 1])
def test_one_token_a_step_is_exact_in_every_order(name: str, seed: int) -> None:
    joint = correlated_joint(seed=seed)
    tokens = sample(joint, build_sampler(name, "linear"), joint.length)
    assert joint.total_variation(tokens) < joint.noise_floor(SAMPLES)


def test_a_threshold_of_one_is_one_token_a_step_and_exact() -> None:
    joint = correlated_joint()
    tokens = sample(joint, build_sampler("threshold", "linear", 1.0), joint.length)
    assert joint.total_variation(tokens) < joint.noise_floor(SAMPLES)


def test_ancestral_is_exact_in_the_limit_of_many_steps() -> None:
    joint = correlated_joint()
    tokens = sample(joint, build_sampler("ancestral", "cosine_md4"), 500)
    assert joint.total_variation(tokens) < joint.noise_floor(SAMPLES)


def test_one_parallel_step_is_not_exact() -> None:
    """What the laws above would look like if they failed."""
    joint = correlated_joint()
    tokens = sample(joint, build_sampler("random", "linear"), 1)
    assert joint.total_variation(tokens) > 4 * joint.noise_floor(SAMPLES)


def test_uniform_noise_is_reversed_exactly_in_the_limit() -> None:
    """One token: p(x_0 | x_t) by Bayes, many small steps, and the prior comes out."""
    prior = torch.tensor([0.6, 0.3, 0.08, 0.02], dtype=torch.float64)
    corruption = Uniform(SCHEDULES["linear"](), 5, 4)

    class Exact:
        mask_id, time_dependent = 4, True

        def __call__(self, xt: torch.Tensor, t: torch.Tensor, *, lengths: object, select: torch.Tensor) -> Denoised:
            alpha = (1 - t.double())[:, None, None]
            forward = alpha * torch.eye(4, dtype=torch.float64) + (1 - alpha) / 4
            joint = prior[:, None] * forward
            posterior = (joint / joint.sum(1, keepdim=True)).gather(2, xt[:, :, None].expand(-1, 4, 1))[..., 0]
            return Denoised(torch.cat([posterior.log(), torch.full((len(xt), 1), -torch.inf)], -1), select)

    *_, last = redraw(
        Exact(),
        torch.full((SAMPLES, 1), 4),
        corruption,
        steps=torch.full((SAMPLES,), 60),
        seeds=torch.arange(SAMPLES),
        controls=Controls.of(SAMPLES),
    )
    truth = Joint(prior, 4, 1)
    assert truth.total_variation(last.tokens) < truth.noise_floor(SAMPLES)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 3, 7, 16, 40])
def test_reveals_per_step_follow_the_schedule(schedule: str, steps: int) -> None:
    """Seed 003's complaint: after every step total * m(s) / m(1) stay masked, to the nearest whole token."""
    length, curve = 37, SCHEDULES[schedule]()
    joint = Joint(torch.ones(1, dtype=torch.float64), 1, length)
    frames = list(
        denoise(
            joint,
            torch.full((1, length), joint.mask_id),
            build_sampler("random", schedule),
            steps=torch.tensor([steps]),
            seeds=torch.tensor([0]),
            controls=Controls.of(1),
        )
    )
    one = torch.ones(1, dtype=torch.float64)
    for frame in frames:
        s = one - frame.step / steps
        expected = float(length * curve.masked(s) / curve.masked(one))
        masked = int((frame.states == State.MASKED).sum())
        assert abs(masked - expected) <= 0.5 + 1e-3 or frame.step == steps
    assert not (frames[-1].states == State.MASKED).any()


def test_the_last_linear_steps_reveal_no_more_than_the_first() -> None:
    rule = TopK(SCHEDULES["linear"]())
    length, steps = 100, 30
    masked = torch.ones(1, length, dtype=torch.bool)
    counts = []
    for step in range(steps):
        s = torch.tensor([1 - (step + 1) / steps])
        count = int(rule.count(masked, s, torch.tensor([length]))[0])
        masked[0, masked[0].nonzero()[:count, 0]] = False
        counts.append(count)
    assert sum(counts) == length
    assert set(counts) <= {3, 4}


def test_predictions_are_reused_while_no_token_changed() -> None:
    """500 steps over 3 tokens cost at most 3 forward passes a row, and the text is that of fresh predictions."""
    joint = correlated_joint()
    common = {"steps": torch.tensor([500, 500]), "seeds": torch.tensor([5, 6]), "controls": Controls.of(2)}
    canvas = torch.full((2, 3), joint.mask_id)
    *_, cached = denoise(joint, canvas, build_sampler("ancestral", "linear"), **common)
    fresh_joint = Joint(joint.probs, 3, 3, time_dependent=True)
    *_, fresh = denoise(fresh_joint, canvas, build_sampler("ancestral", "linear"), **common)
    assert (cached.tokens == fresh.tokens).all()
    assert (cached.nfe <= 3).all()
    assert (fresh.nfe > 100).all()


def test_the_tail_is_drawn_at_its_rate() -> None:
    """A token of probability 1e-9 occupies exactly 1e-9 of the unit interval; float32 would lose it."""
    rare = 1e-9
    log_probs = torch.tensor([[1 - rare, rare, 0.0]], dtype=torch.float64).log().expand(4, 3)
    u = torch.tensor([1 - 2 * rare, 1 - 1.01 * rare, 1 - 0.99 * rare, 1 - 2**-53], dtype=torch.float64)
    assert categorical(log_probs, u).tolist() == [0, 0, 1, 1]
    assert categorical(log_probs.float(), u).tolist() == [0, 0, 1, 1]


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    log_probs = torch.tensor([[0.0, 0.5, 0.5, 0.0]]).log().expand(3, 4)
    u = torch.tensor([2.0**-53, 0.5, 1 - 2.0**-53], dtype=torch.float64)
    assert set(categorical(log_probs, u).tolist()) <= {1, 2}


def test_uniforms_are_uniform_and_independent() -> None:
    draws = uniforms(torch.arange(400), 0, 250, Purpose.TOKEN)
    counts = torch.histc(draws, 100, 0, 1)
    chi2 = float(((counts - 1000) ** 2 / 1000).sum())
    assert 50 < chi2 < 170  # 99 degrees of freedom: six sigma
    others = (
        uniforms(torch.arange(400), 1, 250, Purpose.TOKEN),
        uniforms(torch.arange(400), 0, 250, Purpose.SCORE),
        uniforms(torch.arange(400) + 1, 0, 250, Purpose.TOKEN),
        draws.roll(1, 1),
    )
    for other in others:
        correlation = torch.corrcoef(torch.stack([draws.flatten(), other.flatten()]))[0, 1]
        assert abs(float(correlation)) < 5 / 100_000**0.5
    assert ((draws > 0) & (draws < 1)).all()


def test_categorical_has_the_distributions_frequencies() -> None:
    probs = torch.tensor([0.5, 0.25, 0.15, 0.1])
    u = uniforms(torch.arange(100), 3, 1000, Purpose.TOKEN).flatten()
    drawn = categorical(probs.log().expand(len(u), 4), u)
    found = torch.bincount(drawn, minlength=4) / len(u)
    torch.testing.assert_close(found, probs, rtol=0, atol=0.008)


@pytest.mark.parametrize("name", SAMPLERS)
def test_frames_tell_the_truth(name: str) -> None:
    """Prompts never change, revealed tokens never change, states say what happened, no mask is left."""
    joint = correlated_joint(kinds=3, length=5)
    canvas = torch.full((4, 5), joint.mask_id)
    canvas[:, 2] = 1
    canvas[3] = torch.tensor([0, 1, 1, 2, 0])
    frames: list[Frame] = list(
        denoise(
            joint,
            canvas,
            build_sampler(name, "cosine"),
            steps=torch.tensor([1, 3, 9, 4]),
            seeds=torch.arange(4),
            controls=Controls.of(4),
        )
    )
    for before, after in zip(frames, frames[1:], strict=False):
        new = after.states == State.NEW
        assert ((before.tokens == after.tokens) | new).all()
        assert (before.tokens[new] == joint.mask_id).all()
        assert ((after.tokens == joint.mask_id) == (after.states == State.MASKED)).all()
        assert (after.nfe >= before.nfe).all()
        assert (after.t <= before.t).all()
    assert (frames[-1].tokens != joint.mask_id).all()
    assert (frames[-1].states[canvas != joint.mask_id] == State.PROMPT).all()
    assert (frames[-1].tokens[canvas != joint.mask_id] == canvas[canvas != joint.mask_id]).all()
    assert ((frames[-1].confidence > 0) & (frames[-1].confidence <= 1)).all()
    assert frames[-1].nfe[3] == 0

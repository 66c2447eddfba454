"""Samplers on a known joint with its exact denoiser: those that claim exactness reach it."""

from dataclasses import dataclass, replace

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
from unmask.sampling.loop import denoise
from unmask.sampling.redraw import redraw
from unmask.sampling.revisions import REVISIONS
from unmask.sampling.sampler import Sampler
from unmask.sampling.samplers import SAMPLERS

SAMPLES = 6000


def walk(
    joint: Joint, canvas: torch.Tensor, sampler: Sampler, steps: list[int], controls: Controls | None = None
) -> list[Frame]:
    rows = len(canvas)
    counts = torch.tensor(steps * rows if len(steps) == 1 else steps)
    return list(
        denoise(joint, canvas, sampler, steps=counts, seeds=torch.arange(rows), controls=controls or Controls.of(rows))
    )


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


ONE_BY_ONE = [
    "random",
    "confidence",
    "confidence:score_temperature=0.5",
    "entropy",
    "margin",
    "left_to_right",
    "first_hitting",
    "threshold:tau=1",
    "dynamic_threshold:high=1,low=1",
    "factor:factor=0",
    "entropy_bound:gamma=0",
    "klass:tau=1",
    "llada",
    "llada:remasking=random",
    "dream:alg=maskgit_plus",
    "dream:alg=topk_margin,alg_temp=0.3",
    "dream:alg=entropy",
]


@pytest.mark.parametrize("name", ONE_BY_ONE)
@pytest.mark.parametrize("seed", [0, 1])
def test_one_token_a_step_is_exact_in_every_order(name: str, seed: int) -> None:
    joint = correlated_joint(seed=seed)
    tokens = sample(joint, build_sampler(name, "linear"), joint.length)
    assert joint.total_variation(tokens) < joint.noise_floor(SAMPLES)


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("name", ["confidence", "ancestral", "threshold:tau=1", "first_hitting"])
def test_blocks_are_exact_too(name: str, block: int) -> None:
    joint = correlated_joint()
    tokens = sample(joint, build_sampler(name, "linear", block=block), 300 if name == "ancestral" else joint.length)
    assert joint.total_variation(tokens) < joint.noise_floor(SAMPLES)


def test_scoring_the_drawn_token_is_biased() -> None:
    """What LLaDA and Dream publish, one token a step: far from the joint, so the faithful mode is not the default."""
    joint = correlated_joint()
    for name in ("llada:faithful=yes", "dream:alg=maskgit_plus,faithful=yes"):
        tokens = sample(joint, build_sampler(name, "linear"), joint.length)
        assert joint.total_variation(tokens) > 3 * joint.noise_floor(SAMPLES)


@pytest.mark.parametrize(
    "revise",
    [
        "",
        "remdm_cap:eta=0.005",
        "remdm_rescale:eta=0.005",
        "remdm_loop:eta=0.005",
        "forward_backward",
        "dfm:scale=2",
        "remdm_cap:eta=0.005+gibbs:sweeps=1",
    ],
)
def test_ancestral_is_exact_in_the_limit_of_many_steps(revise: str) -> None:
    joint = correlated_joint()
    tokens = sample(joint, build_sampler("ancestral", "cosine_md4", revise), 500)
    assert joint.total_variation(tokens) < joint.noise_floor(SAMPLES)


@dataclass(frozen=True)
class ConstantRate:
    """Reopens at a constant rate, whatever the noise allows."""

    rate: float

    def __call__(self, before: object, after: object, t: object, settled: object, confidence: torch.Tensor) -> object:
        return torch.full_like(confidence, self.rate)


def test_remasking_at_a_constant_rate_is_not_exact() -> None:
    """The last step then reveals many at once."""
    joint = correlated_joint()
    sampler = replace(build_sampler("ancestral", "cosine_md4"), remask=ConstantRate(0.3))
    assert joint.total_variation(sample(joint, sampler, 500)) > 3 * joint.noise_floor(SAMPLES)


@pytest.mark.parametrize("revise", ["remdm_cap:eta=0.1", "remdm_rescale:eta=0.5", "dfm", "forward_backward"])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_remasking_leaves_the_marginals_as_they_are(revise: str, schedule: str) -> None:
    """The share of masks at each time is the schedule's own, to five standard errors."""
    rows, length, steps = 400, 40, 12
    joint = Joint(torch.ones(1, dtype=torch.float64), 1, length)
    canvas = torch.full((rows, length), joint.mask_id)
    frames = walk(joint, canvas, build_sampler("ancestral", schedule, revise), [steps])
    reopened = 0
    for frame in frames[1:-1]:
        share = SCHEDULES[schedule]().masked(torch.tensor([1 - frame.step / steps]))
        found = float((frame.tokens == joint.mask_id).double().mean())
        error = float((share * (1 - share) / (rows * length)).sqrt())
        assert abs(found - float(share)) < 5 * error + 1e-6
        reopened += int((frame.states == State.REMASKED).sum())
    assert reopened > 100


@pytest.mark.parametrize("revise", ["remdm_cap:eta=0.2", "remdm_conf", "dfm"])
def test_remasking_keeps_the_count_of_top_k(revise: str) -> None:
    """What is reopened is made up for in the same step; only when more is reopened than may stay masked is it more."""
    length, steps = 37, 9
    joint = Joint(torch.ones(1, dtype=torch.float64), 1, length)
    canvas = torch.full((5, length), joint.mask_id)
    for frame in walk(joint, canvas, build_sampler("random", "linear", revise), [steps]):
        masked = (frame.tokens == joint.mask_id).sum(-1)
        stay = int(length * (1 - frame.step / steps) + 0.5)
        reopened = (frame.states == State.REMASKED).sum(-1)
        assert (masked == reopened.clamp(min=stay)).all()


def test_gibbs_sweeps_repair_a_parallel_step() -> None:
    joint = correlated_joint()
    tokens = sample(joint, build_sampler("random", "linear", "gibbs:sweeps=30"), 1)
    assert joint.total_variation(tokens) < joint.noise_floor(SAMPLES)


@pytest.mark.parametrize("revise", ["verify:tau=0.5", "self_correct:rounds=6,share=0.5"])
def test_second_looks_make_likelier_texts(revise: str) -> None:
    """All tokens at once, then the second look: mean log p of the texts under the true joint, in nats."""
    joint = correlated_joint()
    plain, looked = (
        joint.probs[joint.index(sample(joint, build_sampler("threshold:tau=0", "linear", name), 10))].log().mean()
        for name in ("", revise)
    )
    assert looked > plain + 0.3


def test_first_hitting_times_are_those_of_the_noise() -> None:
    """Each token's time of reveal, seen through m, is uniform: 3 x 2000 times, Kolmogorov-Smirnov at 1e-4."""
    rows, length = 2000, 3
    joint = Joint(torch.ones(1, dtype=torch.float64), 1, length)
    schedule = SCHEDULES["cosine_md4"]()
    canvas = torch.full((rows, length), joint.mask_id)
    frames = walk(joint, canvas, build_sampler("first_hitting", "cosine_md4"), [10])
    new = [frame.t for frame in frames[1:4]]
    # the last reveal's time is not in a frame, which says 0 when the row is done
    times = torch.stack(new[:2]).double()
    shares = schedule.masked(times)
    largest, second = shares[0] ** length, (shares[1] / shares[0]) ** (length - 1)
    for sample_ in (largest, second):
        ordered = sample_.sort().values
        grid = torch.arange(1, rows + 1) / rows
        assert float((ordered - grid).abs().max()) < 2.2 / rows**0.5


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
    length, steps = 100, 30
    joint = Joint(torch.ones(1, dtype=torch.float64), 1, length)
    frames = walk(joint, torch.full((1, length), joint.mask_id), build_sampler("confidence", "linear"), [steps])
    counts = [int((frame.states == State.NEW).sum()) for frame in frames[1:]]
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


COMBINATIONS = [
    *((name, "", None) for name in SAMPLERS),
    *(("random", revise, None) for revise in REVISIONS),
    *(("threshold:tau=0.6", revise, 2) for revise in REVISIONS),
    ("ancestral", "remdm_loop+self_correct", None),
    ("entropy", "verify+remdm_conf", 3),
    ("klass", "dfm+gibbs:sites=2", 2),
]


@pytest.mark.parametrize(("name", "revise", "block"), COMBINATIONS)
def test_frames_tell_the_truth(name: str, revise: str, block: int | None) -> None:
    """Prompts never change, settled tokens change only where they were reopened, states say what happened, no mask is left."""
    joint = correlated_joint(kinds=3, length=5)
    canvas = torch.full((4, 5), joint.mask_id)
    canvas[:, 2] = 1
    canvas[3] = torch.tensor([0, 1, 1, 2, 0])
    frames = walk(joint, canvas, build_sampler(name, "cosine", revise, block), [1, 3, 9, 4])
    for before, after in zip(frames, frames[1:], strict=False):
        new, reopened = after.states == State.NEW, after.states == State.REMASKED
        masked = (after.states == State.MASKED) | reopened
        assert ((before.tokens == after.tokens) | new | reopened).all()
        assert (before.tokens[new] == joint.mask_id).all()
        assert revise or name == "qbert" or not reopened.any()
        assert ((after.tokens == joint.mask_id) == masked).all()
        assert (after.nfe >= before.nfe).all()
        assert (after.t <= before.t).all()
    last = frames[-1]
    assert (last.tokens != joint.mask_id).all()
    assert (last.states[canvas != joint.mask_id] == State.PROMPT).all()
    assert (last.tokens[canvas != joint.mask_id] == canvas[canvas != joint.mask_id]).all()
    assert ((last.confidence > 0) & (last.confidence <= 1)).all()
    assert last.nfe[3] == 0

"""A row's result depends on its own request, and on nothing else."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import random_model
from unmask.config import build_sampler
from unmask.diffusion.denoiser import Frank, Subs
from unmask.sampling.controls import Controls, truncate
from unmask.sampling.frame import Frame, State
from unmask.sampling.loop import denoise
from unmask.sampling.revisions import REVISIONS
from unmask.sampling.samplers import SAMPLERS

VOCAB, MASK = 12, 11
MODEL = random_model(VOCAB, length=64)
TIMED = random_model(VOCAB, length=64, time="adaln")

# rule / revision / block
COMBINATIONS = [
    *(f"{name}//" for name in SAMPLERS),
    *(f"confidence/{revise}/" for revise in REVISIONS),
    *(f"{name}//4" for name in ("ancestral", "random", "entropy_bound:gamma=0.5", "klass", "first_hitting")),
    "confidence:score_temperature=0.2//",
    "threshold:tau=0.3/verify/",
    "qbert:parallel_positions=2//4",
    "threshold:tau=0.3/remdm_cap:eta=0.3+self_correct/3",
    "llada:faithful=yes,block_length=4//",
    "dream:alg=entropy,alg_temp=0.5//",
    "ancestral/dfm+gibbs:sites=3/",
    "willing/doubt:threshold=0.1/",
    "factor/doubt:threshold=0.2,times=1/",
    "confidence/doubt:threshold=0.1/3",
    "threshold:tau=0.3/doubt:threshold=0.1+verify:tau=0.4/",
]


def run(
    canvases: list[list[int]], name: str, steps: list[int], seeds: list[int], controls: Controls, timed: bool
) -> Frame:
    lengths = torch.tensor([len(canvas) for canvas in canvases])
    width = int(lengths.max())
    tokens = torch.tensor([canvas + [0] * (width - len(canvas)) for canvas in canvases])
    rule, revise, block = name.split("/")
    sampler = build_sampler(rule, "cosine_md4", revise, int(block) if block else None)
    denoiser = (Frank if sampler.frank else Subs)(TIMED if timed else MODEL, MASK, time_dependent=timed)
    *_, last = denoise(
        denoiser,
        tokens,
        sampler,
        steps=torch.tensor(steps),
        seeds=torch.tensor(seeds),
        controls=controls,
        lengths=lengths,
    )
    return last


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("name", COMBINATIONS)
def test_alone_is_as_in_a_mixed_batch(name: str, timed: bool) -> None:
    """Other lengths, steps, temperatures, truncations and seeds beside it; another place in the batch."""
    canvases = [[MASK] * 9, [1, 2, MASK, MASK, 3], [MASK] * 17, [4, MASK, 5, MASK, MASK, MASK, 6, 0], [7]]
    steps, seeds = [9, 2, 5, 30, 1], [3, 3, 2**62, 0, 8]
    controls = replace(
        Controls.of(5),
        temperature=torch.tensor([1.0, 0.5, 2.0, 0.0, 1.0]),
        top_k=torch.tensor([0, 3, 0, 5, 0]),
        top_p=torch.tensor([1.0, 1.0, 0.7, 0.9, 1.0]),
    )
    together = run(canvases, name, steps, seeds, controls, timed)
    for row, canvas in enumerate(canvases):
        alone = run([canvas], name, steps[row : row + 1], seeds[row : row + 1], controls.row(row), timed)
        assert alone.tokens[0].tolist() == together.tokens[row, : len(canvas)].tolist()
        assert int(alone.nfe[0]) == int(together.nfe[row])
        torch.testing.assert_close(alone.confidence[0], together.confidence[row, : len(canvas)], rtol=1e-3, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    length=st.integers(1, 64),
    name=st.sampled_from(COMBINATIONS),
    seed=st.integers(0, 2**62),
    temperature=st.sampled_from([0.0, 0.7, 1.0]),
)
def test_any_holes_are_filled_and_nothing_else_is_touched(
    data: st.DataObject, length: int, name: str, seed: int, temperature: float
) -> None:
    canvas = data.draw(st.lists(st.integers(0, MASK), min_size=length, max_size=length))
    steps = data.draw(st.integers(1, 2 * length))
    controls = Controls.of(1, temperature=temperature)
    first, again = (run([canvas], name, [steps], [seed], controls, False) for _ in range(2))
    result = first.tokens[0].tolist()
    assert MASK not in result
    assert all(before in (MASK, after) for before, after in zip(canvas, result, strict=True))
    assert (first.states[0] == State.PROMPT).tolist() == [token != MASK for token in canvas]
    assert again.tokens[0].tolist() == result
    if name.endswith("//"):
        # a second look comes on top of the steps
        assert name.startswith("qbert") or int(first.nfe[0]) <= min(steps, canvas.count(MASK))


def test_different_seeds_give_different_texts() -> None:
    last = run([[MASK] * 20] * 8, "confidence//", [20] * 8, list(range(8)), Controls.of(8), False)
    assert len({tuple(row) for row in last.tokens.tolist()}) == 8


def test_temperature_zero_is_the_likeliest_token() -> None:
    canvas = [1, MASK, 2, 3]
    log_probs = Subs(MODEL, MASK)(
        torch.tensor([canvas]), torch.ones(1), select=torch.tensor([[False, True, False, False]])
    ).log_probs
    for seed in range(5):
        last = run([canvas], "random//", [1], [seed], Controls.of(1, temperature=0.0), False)
        assert int(last.tokens[0, 1]) == int(log_probs.argmax())


def test_top_k_and_top_p_keep_what_they_say() -> None:
    log_probs = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log().repeat(5, 1)
    kept = truncate(
        log_probs, torch.tensor([0, 2, 0, 0, 3]), torch.tensor([1.0, 1.0, 0.7, 0.05, 0.5]), torch.zeros(5)
    ).isfinite()
    assert kept.tolist() == [
        [True, True, True, True],
        [True, True, False, False],
        [True, True, False, False],
        [True, False, False, False],
        [True, True, False, False],
    ]


def test_a_model_that_says_nan_is_named_with_the_step() -> None:
    class Broken:
        mask_id, time_dependent = MASK, False

        def __call__(self, xt: torch.Tensor, t: torch.Tensor, *, lengths: object, select: torch.Tensor) -> object:
            denoised = Subs(MODEL, MASK)(xt, t, select=select)
            if int((xt == MASK).sum()) < 4:
                denoised.log_probs[0, 0] = torch.nan
            return denoised

    with pytest.raises(FloatingPointError, match="step 2"):
        list(
            denoise(
                Broken(),
                torch.full((1, 4), MASK),
                build_sampler("random", "linear"),
                steps=torch.tensor([4]),
                seeds=torch.tensor([0]),
                controls=Controls.of(1),
            )
        )


def test_unknown_samplers_and_schedules_suggest_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean confidence"):
        build_sampler("confidenc", "linear")
    with pytest.raises(ValueError, match="did you mean cosine"):
        build_sampler("random", "cosin")
    with pytest.raises(ValueError, match="tau must be in"):
        build_sampler("threshold:tau=1.5", "linear")

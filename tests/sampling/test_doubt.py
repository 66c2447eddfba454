"""Generation and repair by a model that may answer with the mask."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unmask.config import build_sampler
from unmask.diffusion.denoiser import Denoised
from unmask.sampling.controls import Controls
from unmask.sampling.doubt import Doubt, set_apart
from unmask.sampling.frame import Frame, State
from unmask.sampling.loop import denoise

VOCAB, MASK = 6, 5


@dataclass(frozen=True)
class Known:
    """Answers from a table: (canvas token, position) -> probabilities."""

    table: Tensor
    mask_id: int = MASK
    time_dependent: bool = False

    def __call__(self, xt: Tensor, t: Tensor, *, lengths: Tensor | None = None, select: Tensor) -> Denoised:
        place = torch.arange(xt.shape[1]).expand_as(xt)
        return Denoised(self.table[xt[select], place[select]].log(), select)


def oracle(truth: list[int], sure: float = 0.98) -> Known:
    """Knows the text: says so at masks, and calls every other token wrong."""
    table = torch.full((VOCAB, len(truth), VOCAB), (1 - sure) / (VOCAB - 1))
    for place, right in enumerate(truth):
        table[:, place, MASK] = sure
        for shown in (right, MASK):
            table[shown, place] = (1 - sure) / (VOCAB - 1)
            table[shown, place, right] = sure
    return Known(table)


def run(
    denoiser: Known,
    canvas: Tensor,
    sampler: str,
    revise: str = "doubt",
    *,
    steps: int = 25,
    controls: Controls | None = None,
    free: Tensor | None = None,
) -> list[Frame]:
    rows = len(canvas)
    return list(
        denoise(
            denoiser,
            canvas,
            build_sampler(sampler, "linear", revise),
            steps=torch.full((rows,), steps),
            seeds=torch.arange(rows),
            controls=controls or Controls.of(rows),
            free=free,
        )
    )


def test_an_answer_in_two_is_the_answer() -> None:
    log_probs = torch.randn(40, VOCAB, generator=torch.Generator().manual_seed(0)).mul(3).log_softmax(-1)
    rest, mask = set_apart(log_probs, MASK)
    assert rest[:, MASK].isneginf().all()
    whole = rest.exp() * (1 - mask.exp())[:, None]
    whole[:, MASK] = mask.exp()
    torch.testing.assert_close(whole, log_probs.exp())


@pytest.mark.parametrize("temperature", [0.0, 0.3, 0.8, 1.0, 2.5])
def test_hesitation_is_the_masks_share_of_the_tempered_draw(temperature: float) -> None:
    """Against the seed's way: temperature on all logits together, the mask among them."""
    log_probs = torch.randn(200, VOCAB, generator=torch.Generator().manual_seed(1)).mul(2).log_softmax(-1)
    rest, mask = set_apart(log_probs, MASK)
    found = Controls.of(1, temperature=temperature).hesitation(rest, mask, torch.zeros(200, dtype=torch.long))
    likeliest = (log_probs.argmax(-1) == MASK).float()
    wanted = (log_probs / temperature).softmax(-1)[:, MASK] if temperature else likeliest
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_willing_draws_the_mask_as_a_legal_answer(temperature: float) -> None:
    """Two steps, counted over many rows: after each, a position is p(token) or still masked as in plain sampling."""
    rows, length = 800, 40
    probs = torch.tensor([0.3, 0.2, 0.1, 0.06, 0.04, 0.3])
    table = probs.expand(VOCAB, length, VOCAB)
    frames = run(
        Known(table),
        torch.full((rows, length), MASK),
        "willing",
        "",
        controls=Controls.of(rows, temperature=temperature),
    )
    wanted = probs ** (1 / temperature) / (probs ** (1 / temperature)).sum()
    n = rows * length
    for step, frame in enumerate(frames[1:3], 1):
        stay = float((frame.tokens == MASK).double().mean())
        expected = float(wanted[MASK]) ** step
        assert abs(stay - expected) < 5 * (expected / n) ** 0.5 + 1e-3  # one position is forced where none comes
        drawn = torch.bincount(frame.tokens[frame.tokens != MASK], minlength=VOCAB)[:MASK].double()
        share = wanted[:MASK] / wanted[:MASK].sum()
        assert (
            float(((drawn - drawn.sum() * share) ** 2 / (drawn.sum() * share)).sum()) < 24
        )  # chi2, 4 degrees, p < 1e-4
    assert not (frames[-1].tokens == MASK).any()


def test_the_last_pass_forbids_the_mask() -> None:
    """A model that only ever says "not yet" still ends with words, one a step at least."""
    table = torch.full((VOCAB, 6, VOCAB), 1e-6)
    table[..., MASK] = 1 - 5e-6
    for temperature in (0.0, 1.0):
        frames = run(
            Known(table),
            torch.full((3, 6), MASK),
            "willing",
            "",
            steps=4,
            controls=Controls.of(3, temperature=temperature),
        )
        assert [int((frame.tokens[0] == MASK).sum()) for frame in frames] == [6, 5, 4, 3, 0]


@pytest.mark.parametrize("sampler", ["willing", "factor", "threshold"])
def test_what_is_wrong_is_mended_and_nothing_else(sampler: str) -> None:
    truth = [0, 1, 2, 3, 4, 0, 1, 2]
    draft = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2], [0, 1, 0, 3, 4, 4, 1, 2], [4, 4, 4, 4, 4, 4, 4, 4]])
    free = torch.ones_like(draft, dtype=torch.bool)
    free[2, 6] = False
    controls = Controls.of(3, temperature=0.0)
    frames = run(oracle(truth), draft, sampler, controls=controls, free=free)
    last = frames[-1]
    assert last.tokens.tolist() == [truth, truth, [*truth[:6], 4, truth[7]]]
    # one pass sees that all is well; with mistakes: see, fill, see
    assert last.nfe[:2].tolist() == [1, 3]
    assert last.states[2, 6] == State.PROMPT
    first = frames[1]
    assert first.doubt is not None
    wrong = (draft != torch.tensor(truth)) & free
    torch.testing.assert_close(first.doubt, torch.where(wrong, 0.98, 0.004).masked_fill(~free, 0.0))
    assert (first.states == State.REMASKED).equal(wrong)


def test_from_an_empty_canvas_it_reopens_its_own_mistakes() -> None:
    """The draws are often wrong (0.5 right), the doubts never: the text is right all the same."""
    truth = [0, 1, 2, 3, 4, 0, 1, 2]
    known = oracle(truth)
    known.table[MASK] = 0.1
    for place, right in enumerate(truth):
        known.table[MASK, place] = torch.tensor([0.12] * 5 + [0.0001])
        known.table[MASK, place, right] = 0.5199
    canvas = torch.full((200, 8), MASK)
    right = torch.tensor(truth)
    share = {
        revise: float((run(known, canvas, "willing", revise)[-1].tokens == right).double().mean())
        for revise in ("", "doubt:times=1", "doubt:times=20")
    }
    assert abs(share[""] - 0.52) < 0.05
    assert abs(share["doubt:times=1"] - (1 - 0.48**2)) < 0.05
    assert share["doubt:times=20"] > 0.99


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    length=st.integers(1, 12),
    sampler=st.sampled_from(["willing", "factor", "confidence", "ancestral", "first_hitting", "random"]),
    times=st.integers(1, 3),
    block=st.sampled_from([None, 3]),
)
def test_no_cycle_lasts_for_ever(seed: int, length: int, sampler: str, times: int, block: int | None) -> None:
    """A model that calls everything wrong, whatever stands there: each position is reopened at most `times` times."""
    table = torch.full((VOCAB, length, VOCAB), 0.01)
    table[..., MASK] = 0.95
    table[MASK] = torch.rand(length, VOCAB, generator=torch.Generator().manual_seed(seed)) + 0.01
    canvas = torch.randint(0, VOCAB, (3, length), generator=torch.Generator().manual_seed(seed))
    canvas[0] = MASK
    given_tokens = canvas != MASK
    reopened = torch.zeros_like(canvas)
    frames = list(
        denoise(
            Known(table / table.sum(-1, keepdim=True)),
            canvas,
            build_sampler(sampler, "linear", f"doubt:times={times}", block),
            steps=torch.tensor([60, 90, 7]),
            seeds=torch.arange(3),
            controls=Controls.of(3),
        )
    )
    for before, after in zip(frames, frames[1:], strict=False):
        again = after.states == State.REMASKED
        reopened += again
        moved = before.tokens != after.tokens
        assert (again | (after.states == State.NEW))[moved].all()
        assert (after.tokens[again] == MASK).all()
    last = frames[-1]
    assert not (last.tokens == MASK).any()
    assert (reopened <= times).all()
    assert last.tokens[given_tokens].equal(canvas[given_tokens])
    assert not reopened[given_tokens].any()
    if sampler in ("willing", "factor"):
        # each reopening is followed by a filling; then one look at the whole
        assert int(last.nfe.max()) <= length * (times + 1) * 2 + (length + 2)


def test_out_of_range_is_refused() -> None:
    for wrong in ({"threshold": 1.5}, {"threshold": -0.1}, {"times": 0}):
        with pytest.raises(ValueError, match=r"threshold|times"):
            Doubt(**wrong)

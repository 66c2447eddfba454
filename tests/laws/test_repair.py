"""Seed 001's repair noise and its loss, case by case."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.diffusion.corruption import Corrupted, Repair
from unmask.diffusion.denoiser import Denoised
from unmask.diffusion.objectives import RepairLoss
from unmask.diffusion.schedules import SCHEDULES

LINEAR = SCHEDULES["linear"]()


def corrupt(rows: int, length: int, vocab: int, mask: int, seed: int = 0, lengths: object = None) -> Corrupted:
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.randint(0, vocab - 1, (rows, length), generator=generator)
    x0 = x0 + (x0 >= mask).long()
    t = torch.rand(rows, generator=generator)
    return Repair(LINEAR, vocab, mask).corrupt(x0, t, generator, lengths=lengths)


def test_rates_are_the_seeds() -> None:
    """rate_mask ~ U(0, 0.99); rate_random ~ U(0, 0.99 - rate_mask); both to five standard errors."""
    rows, length = 20_000, 100
    found = corrupt(rows, length, 30, 29)
    masked, wrong = (part.double().mean(-1) for part in (found.masked, found.replaced))
    # counts are rounded down: half a token less on average
    assert abs(float(masked.mean()) - (0.495 - 0.005)) < 5 * 0.29 / rows**0.5
    assert abs(float(wrong.mean()) - (0.2475 - 0.005)) < 5 * 0.25 / rows**0.5
    u = (masked + 0.005) / 0.99
    assert float((u.sort().values - torch.arange(rows) / rows).abs().max()) < 0.02
    share = (wrong + 0.005) / (0.99 - 0.99 * found.t.double())
    some = share[found.t < 0.8]
    assert float((some.sort().values - torch.arange(len(some)) / len(some)).abs().max()) < 0.03


@settings(max_examples=50, deadline=None)
@given(length=st.integers(1, 40), vocab=st.integers(3, 12), place=st.integers(0, 11), seed=st.integers(0, 999))
def test_targets_and_tokens(length: int, vocab: int, place: int, seed: int) -> None:
    mask = place % vocab
    lengths = torch.tensor([length, max(1, length // 2), 1])
    found = corrupt(3, length, vocab, mask, seed, lengths)
    masked, wrong = found.masked, found.replaced
    untouched = ~masked & ~wrong
    assert not (masked & wrong).any()
    assert not ((masked | wrong) & ~found.valid).any()
    assert (found.xt[masked] == mask).all()
    assert (found.xt[wrong] != found.x0[wrong]).all()
    assert (found.xt[wrong] != mask).all()
    assert ((found.xt >= 0) & (found.xt < vocab)).all()
    assert (found.xt[untouched] == found.x0[untouched]).all()
    assert (found.target[wrong] == mask).all()
    assert (found.target[~wrong] == found.x0[~wrong]).all()
    assert (found.scored == found.valid).all()
    assert (masked.sum(-1) == (lengths * (0.99 * found.t)).long()).all()


def test_every_other_token_comes_equally_often() -> None:
    vocab, mask = 6, 2
    found = corrupt(3000, 60, vocab, mask)
    for token in (0, 1, 3, 4, 5):
        drawn = found.xt[found.replaced & (found.x0 == token)]
        counts = torch.bincount(drawn, minlength=vocab).double()
        others = counts[[other for other in (0, 1, 3, 4, 5) if other != token]]
        assert counts[token] == counts[mask] == 0
        assert float(((others - others.mean()) ** 2 / others.mean()).sum()) < 22  # chi2, 3 degrees, p < 1e-4


# what stands there, what is right, what the model says -> weight; tokens 0 and 1, mask 2
CASES = [
    ("masked", "mask", 0.25),
    ("masked", "right", 1.0),
    ("masked", "other", 1.0),
    ("wrong", "mask", 1.0),
    ("wrong", "right", 1.0),
    ("wrong", "other", 1.0),
    ("untouched", "mask", 0.5),
    ("untouched", "right", 1.0),
    ("untouched", "other", 1.0),
]


@pytest.mark.parametrize(("input_", "says", "weight"), CASES)
def test_each_case_of_the_loss(input_: str, says: str, weight: float) -> None:
    x0 = torch.tensor([[0]])
    is_masked, is_wrong = torch.tensor([[input_ == "masked"]]), torch.tensor([[input_ == "wrong"]])
    corrupted = Corrupted(
        x0=x0,
        xt=torch.tensor([[2 if input_ == "masked" else 1 if input_ == "wrong" else 0]]),
        t=torch.tensor([0.5]),
        masked=is_masked,
        replaced=is_wrong,
        target=torch.tensor([[2 if input_ == "wrong" else 0]]),
        scored=torch.tensor([[True]]),
        valid=torch.tensor([[True]]),
        importance=torch.ones(1),
    )
    answer = {"mask": 2, "right": 0, "other": 1}[says]
    log_probs = torch.tensor([[0.2, 0.2, 0.2]])
    log_probs[0, answer] = 0.6
    log_probs = log_probs.log()
    loss = RepairLoss(2)(Denoised(log_probs, corrupted.scored), corrupted)
    target = int(corrupted.target[0, 0])
    assert float(loss.value) == pytest.approx(weight * -float(log_probs[0, target]))
    if input_ == "masked":
        assert float(loss.metrics["masked_ce"]) == pytest.approx(
            -float(log_probs[0, 0] - torch.log1p(-log_probs[0, 2].exp())), abs=1e-5
        )


@pytest.mark.parametrize("name", ["penalty_keep_mask", "penalty_mask_correct"])
@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_penalties_are_shares(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be in"):
        RepairLoss(2, **{name: value})
    from unmask.config import read_config

    with pytest.raises(ValueError, match=f"{name} must be in"):
        read_config({"diffusion": {"corruption": "repair", "objective": "repair", name: value}})


def test_a_repair_model_trains_is_measured_and_fills_masks(corpus_file: object, tmp_path: object) -> None:
    from conftest import tiny_config
    from unmask.config import read_config
    from unmask.pipeline import Pipeline
    from unmask.training.trainer import train

    values = tiny_config(corpus_file, steps=150, batch_size=16, eval_every=50, save_every=150).to_dict()
    values["diffusion"] |= {"corruption": "repair", "objective": "repair"}
    result = train(read_config(values), tmp_path / "run")
    assert result.likelihood is not None
    assert result.likelihood.nelbo.mean < 2.6  # a uniform guess: log 24 = 3.2
    pipe = Pipeline.from_pretrained(result.run, "cpu")
    (filled,) = pipe.infill("To [MASK:2], or")
    assert pipe.tokenizer.mask_id not in filled.tokens

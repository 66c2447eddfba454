"""The autoregressive twin: the same transformer as a GPT."""

from pathlib import Path

import pytest
import torch

import unmask
from conftest import TEXT, random_model, tiny_config
from unmask.backbones.reading import empty_cache, read_on
from unmask.backbones.transformer import Transformer
from unmask.config import CachedReader, read_config
from unmask.diffusion.denoiser import LeftToRight
from unmask.evaluation.likelihood import evaluate_likelihood
from unmask.pipeline import Pipeline
from unmask.recipes import load_recipe, recipe_names
from unmask.sampling.continuation import write_on
from unmask.sampling.controls import Controls
from unmask.sampling.draws import Purpose, categorical, uniforms
from unmask.sampling.frame import State

SHAPES = {
    "default": {},
    "learned": {"positions": "learned", "norm": "layer", "bias": True},
    "grouped": {"kv_heads": 2, "qk_norm": False},
    "timed": {"time": "adaln"},
}
MASK = 11


@pytest.mark.parametrize("shape", SHAPES)
def test_reading_on_is_reading_all_at_once(shape: str) -> None:
    """Prompts of different lengths, then token by token; some rows leave on the way."""
    model = random_model(attention="causal", **SHAPES[shape])
    tokens = torch.randint(0, 12, (3, 16), generator=torch.Generator().manual_seed(0))
    full = model(tokens, torch.zeros(3))
    cache, lengths = empty_cache(model, 3), torch.tensor([4, 1, 6])
    logits = read_on(model, tokens[:, :6], cache, lengths)
    rows, place = torch.arange(3), lengths.clone()
    torch.testing.assert_close(logits, full[rows, place - 1], atol=1e-4, rtol=1e-4)
    for step in range(10):
        if step == 5:
            cache.keep(torch.tensor([0, 2]))
            rows, place = rows[[0, 2]], place[[0, 2]]
        ones = torch.ones_like(rows)
        logits = read_on(model, tokens[rows, place][:, None], cache, ones)
        torch.testing.assert_close(logits, full[rows, place], atol=1e-4, rtol=1e-4)
        place = place + 1


def test_cached_generation_is_the_uncached_one() -> None:
    """Naively: the whole text through the model for every token."""
    model = random_model(attention="causal")
    canvas = torch.full((3, 16), MASK)
    canvas[0, :3] = torch.tensor([1, 2, 3])
    canvas[2, :7] = 4
    lengths = torch.tensor([16, 9, 12])
    seeds = torch.tensor([5, 6, 7])
    controls = Controls.of(3, temperature=0.7, top_k=5)
    reader = CachedReader(model, 3, MASK)
    frames = list(write_on(reader, canvas, MASK, seeds=seeds, controls=controls, lengths=lengths))
    last = frames[-1]
    denoiser = LeftToRight(model, MASK)
    for row in range(3):
        text, start = canvas[row : row + 1, : int(lengths[row])].clone(), int((canvas[row] != MASK).sum())
        for step, place in enumerate(range(start, int(lengths[row]))):
            select = torch.zeros_like(text, dtype=torch.bool)
            select[0, place] = True
            with torch.no_grad():
                log_probs = denoiser(text, torch.ones(1), select=select).log_probs
            u = uniforms(seeds[row : row + 1], step, 16, Purpose.TOKEN)[:, place]
            text[0, place] = categorical(controls.tempered(log_probs, torch.tensor([row])), u)
        assert last.tokens[row, : int(lengths[row])].tolist() == text[0].tolist()
        assert int(last.nfe[row]) == int(lengths[row]) - start
    assert (frames[0].tokens == canvas).all()
    for before, after in zip(frames, frames[1:], strict=False):
        assert ((before.tokens == after.tokens) | (after.states == State.NEW)).all()


def test_it_sees_only_what_came_before() -> None:
    denoiser = LeftToRight(random_model(attention="causal"), MASK)
    tokens = torch.randint(0, 11, (1, 10), generator=torch.Generator().manual_seed(1))
    every = torch.ones_like(tokens, dtype=torch.bool)
    changed = tokens.clone()
    changed[0, 6] = (tokens[0, 6] + 1) % 11
    one, other = (denoiser(item, torch.ones(1), select=every).log_probs for item in (tokens, changed))
    torch.testing.assert_close(one[:7], other[:7])
    assert not torch.allclose(one[7:], other[7:])
    assert one[:, MASK].isneginf().all()


def test_its_likelihood_is_the_chain_rule() -> None:
    """All texts of two tokens: their probabilities sum to one, and the evaluation gives each one's own."""
    from unmask.diffusion.corruption import Clean
    from unmask.diffusion.objectives import Autoregressive
    from unmask.diffusion.schedules import SCHEDULES

    model = random_model(attention="causal", length=2)
    schedule = SCHEDULES["linear"]()
    texts = torch.cartesian_prod(torch.arange(11), torch.arange(11))
    total = 0.0
    for text in texts:
        found = evaluate_likelihood(
            LeftToRight(model, MASK),
            text[None],
            Clean(schedule, 12, MASK),
            Autoregressive(schedule),
            exact_k=False,
            draws=1,
        )
        total += float(torch.exp(torch.tensor(-2 * found.nelbo.mean, dtype=torch.float64)))
    assert total == pytest.approx(1, abs=1e-4)


def gpt_config(source: Path, **train: object) -> object:
    values = tiny_config(source, **train).to_dict()
    values["model"]["attention"] = "causal"
    values["diffusion"] |= {"corruption": "none", "objective": "autoregressive"}
    return read_config(values)


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    root = tmp_path_factory.mktemp("twin")
    (root / "corpus.txt").write_text(TEXT * 40, "utf-8")
    config = gpt_config(root / "corpus.txt", steps=200, batch_size=16, eval_every=200, save_every=200)
    return Pipeline.from_pretrained(unmask.train(config, root / "run").run, "cpu")


def test_a_twin_learns_and_writes(twin: Pipeline) -> None:
    (result,) = twin.generate("To be, or", temperature=0.0)
    assert result.text == "To be, or not to"
    assert result.nfe == 7
    many = twin.generate("To", num_samples=3, seed=4, length=12)
    assert twin.generate("To", seed=5, length=12)[0].tokens == many[1].tokens
    requests = [twin.request_generate("To be", length=9, seed=3), twin.request_generate("n", seed=1, temperature=1.5)]
    together = twin.batch(requests)
    for request, found in zip(requests, together, strict=True):
        assert twin.batch([request])[0][0].tokens == found[0].tokens
    stopped = twin.generate("To be, or", temperature=0.0, stop="t")[0]
    assert stopped.text == "To be, or no"
    assert stopped.finish == "stop"
    assert stopped.nfe == 4
    best = twin.generate("or", num_samples=1, best_of=5, temperature=1.5, length=12, seed=2)[0]
    assert best.bound is not None
    stopped = twin.generate("or", num_samples=4, best_of=8, temperature=1.5, stop=["e"], seed=2)
    assert all(item.bound is not None and item.bound < 20 for item in stopped)
    assert len(list(twin.stream("To be", length=8))) == 4


@pytest.mark.parametrize(
    ("call", "options", "message"),
    [
        ("infill", {"text": "To [MASK:2], or"}, "nothing can be given after a hole"),
        ("generate", {"suffix": "not"}, "nothing can be given after a hole"),
        ("generate", {"block": 4}, "block is for models trained with masks; this one writes from left to right"),
        ("generate", {"revise": "gibbs"}, "revise is for diffusion models"),
        ("infill", {"text": "To [MASK:2-4]"}, "holes of open length are for models trained with masks"),
        ("score", {"text": "To be"}, "scores are for models trained with masks"),
        ("edit", {"text": "To be", "share": 0.5}, "give a span"),
    ],
)
def test_what_a_twin_cannot_do_is_said(twin: Pipeline, call: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(twin, call)(**options)


def test_causal_and_corruption_must_agree(corpus_file: Path) -> None:
    values = tiny_config(corpus_file).to_dict()
    values["model"]["attention"] = "causal"
    with pytest.raises(ValueError, match="a causal model cannot fill masks"):
        read_config(values)
    values["model"]["attention"] = "bidirectional"
    values["diffusion"] |= {"corruption": "none", "objective": "autoregressive"}
    with pytest.raises(ValueError, match="an autoregressive model must be causal"):
        read_config(values)
    values["diffusion"]["objective"] = "cross_entropy"
    with pytest.raises(ValueError, match="does not go with corruption none: use autoregressive or nelbo"):
        read_config(values)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in recipe_names()
        if not name.endswith(("-gpt", "-repair")) and name != "masked-lm" and "thought" not in name
    ],
)
def test_every_recipe_has_a_twin_of_equal_size_and_budget(name: str) -> None:
    diffusion, gpt = load_recipe(name), load_recipe(f"{name}-gpt")
    assert (diffusion.data, diffusion.optim, diffusion.train) == (gpt.data, gpt.optim, gpt.train)
    sizes = []
    for config in (diffusion, gpt):
        with torch.device("meta"):
            model = Transformer(config.model, 1000)
        count = sum(parameter.numel() for name, parameter in model.named_parameters() if not name.startswith("time."))
        sizes.append(count)
    assert sizes[0] == sizes[1]

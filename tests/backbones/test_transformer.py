"""The transformer's shapes, invariances and the parameter table of seed 003."""

import pytest
import torch

from conftest import random_model
from unmask.backbones.transformer import Transformer, TransformerConfig, initialize
from unmask.recipes import load_recipe

T = torch.ones(3)


def tokens(length: int = 10, rows: int = 3, vocab: int = 12) -> torch.Tensor:
    return torch.randint(vocab, (rows, length), generator=torch.Generator().manual_seed(1))


SHAPES = {
    "default": {},
    "gpt": {
        "positions": "learned",
        "norm": "layer",
        "activation": "gelu_tanh",
        "bias": True,
        "qk_norm": False,
        "tied": True,
    },
    "llama": {"activation": "swiglu", "kv_heads": 2, "qk_norm": False},
    "gelu": {"activation": "gelu", "kv_heads": 1},
    "additive": {"time": "additive"},
    "adaln": {"time": "adaln"},
    "causal": {"attention": "causal"},
}


@pytest.mark.parametrize("name", SHAPES)
def test_select_gives_the_rows_of_the_full_answer(name: str) -> None:
    model = random_model(**SHAPES[name])
    x = tokens()
    select = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.4
    full, some = model(x, T), model(x, T, select=select)
    assert full.shape == (3, 10, 12)
    torch.testing.assert_close(some, full[select], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SHAPES)
def test_padding_changes_nothing(name: str) -> None:
    model = random_model(**SHAPES[name])
    x, lengths = tokens(), torch.tensor([10, 6, 3])
    out = model(x, T, lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = model(x[row : row + 1, :length], T[:1])
        torch.testing.assert_close(out[row, :length], alone[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SHAPES)
def test_gradient_checkpointing_gives_the_same_gradients(name: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = random_model(**SHAPES[name]).train()
        model.checkpointing = checkpointing
        model(tokens(), T, select=torch.ones(3, 10, dtype=torch.bool)).square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_causal_sees_only_the_past_and_bidirectional_both_sides() -> None:
    for attention, expected in (("causal", False), ("bidirectional", True)):
        model = random_model(attention=attention)
        x = tokens()
        changed = x.clone()
        changed[:, -1] = (x[:, -1] + 1) % 12
        same = torch.allclose(model(x, T)[:, :-1], model(changed, T)[:, :-1], atol=1e-6)
        assert same is not expected


@pytest.mark.parametrize(("name", "reads"), [("default", False), ("additive", True), ("adaln", True)])
def test_time_is_read_exactly_when_asked(name: str, reads: bool) -> None:
    model = random_model(**SHAPES[name])
    early, late = (model(tokens(), torch.full((3,), t)) for t in (0.1, 0.9))
    assert (not torch.allclose(early, late, atol=1e-4)) is reads


def test_additive_time_has_a_vector_for_each_of_300_parts() -> None:
    model = random_model(time="additive")
    assert model.time.embedding.weight.shape == (300, 32)
    near, far = (model(tokens(), torch.full((3,), t)) for t in (0.50001, 0.504))
    torch.testing.assert_close(model(tokens(), torch.full((3,), 0.503)), near)
    assert not torch.allclose(near, far)
    assert torch.isfinite(model(tokens(), torch.ones(3))).all()


def test_an_untrained_model_says_log_v() -> None:
    model = Transformer(TransformerConfig(layers=2, width=32, heads=4, length=16, time="adaln"), 12)
    initialize(model, torch.Generator().manual_seed(0))
    assert (model(tokens(), T) == 0).all()


def test_rope_depends_on_distance_only() -> None:
    """Shifting a text inside a longer canvas, with the rest hidden, changes nothing."""
    model = random_model(layers=1)
    x = tokens(6)
    table = model.table
    plain = model(x, T)
    model.table = torch.roll(table, -5, dims=1)  # positions 5.. in place of 0..
    torch.testing.assert_close(model(x, T), plain, rtol=1e-4, atol=1e-5)


def test_the_canvas_has_a_limit() -> None:
    with pytest.raises(ValueError, match="more than the model's length"):
        random_model()(tokens(17), T)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"width": 30, "heads": 4}, "multiple of model.heads"),
        ({"width": 12, "heads": 4}, "even head size"),
        ({"heads": 4, "kv_heads": 3}, "multiple of model.kv_heads"),
        ({"dropout": 1.0}, "dropout"),
        ({"layers": 0}, "at least 1"),
    ],
)
def test_shapes_that_cannot_be_built_are_refused(shape: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**({"width": 32, "heads": 4} | shape))


def table_of(recipe: str, vocab_size: int) -> dict[str, int]:
    with torch.device("meta"):
        model = Transformer(load_recipe(recipe).model, vocab_size)

    def count(part: str) -> int:
        return sum(parameter.numel() for name, parameter in model.named_parameters() if part in name)

    total = sum(parameter.numel() for parameter in model.parameters())
    rows = {name: count(f"{name}.") for name in ("attention", "mlp", "head", "time")}
    return rows | {"embedding": model.embedding.weight.numel(), "norms": count("norm"), "total": total}


def test_bpe_49m_is_seed_003s_table_row_by_row() -> None:
    """Token 19.3M, time 0.12M, attention 3.5M, MLP 7.1M, head 19.3M; 49.3M in all, 78 % of it embeddings."""
    table = table_of("bpe-49m", 50_258)
    assert table["embedding"] == 50_258 * 384
    assert table["time"] == 300 * 384
    assert table["attention"] == 6 * 4 * 384**2
    assert table["mlp"] == 6 * 8 * 384**2
    assert table["head"] == 50_258 * 384
    assert table["total"] - table["norms"] == sum(
        table[row] for row in ("embedding", "time", "attention", "mlp", "head")
    )
    assert round(table["total"] / 1e6, 1) == 49.3
    assert [round(table[row] / 1e6, 1) for row in ("embedding", "attention", "mlp", "head")] == [19.3, 3.5, 7.1, 19.3]
    assert round((table["embedding"] + table["head"]) / table["total"], 2) == 0.78


def test_char_11m_is_seed_003s_first_model() -> None:
    table = table_of("char-11m", 66)
    assert table["embedding"] == table["head"] == 66 * 384
    assert round(table["total"] / 1e6) == 11


def test_neighbours_are_mixed_in_within_the_row_only() -> None:
    model = random_model(neighbours=1, layers=1)
    weight = model.neighbours.weight.detach()
    x = torch.randn(2, 5, 32)
    out = model.neighbours(x)
    expected = x[:, 2] + weight[0] * x[:, 1] + weight[1] * x[:, 2] + weight[2] * x[:, 3]
    assert torch.allclose(out[:, 2], expected, atol=1e-6)
    assert torch.allclose(out[:, 0], x[:, 0] + weight[1] * x[:, 0] + weight[2] * x[:, 1], atol=1e-6)
    tokens = torch.randint(0, 12, (2, 16), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([16, 7])
    together = model(tokens, torch.rand(2), lengths=lengths)
    alone = model(tokens[1:, :7], torch.rand(1))
    assert torch.allclose(together[1, :7], alone[0], atol=1e-5)


def test_neighbours_are_not_for_models_that_may_not_see_what_follows() -> None:
    with pytest.raises(ValueError, match="neighbours is for bidirectional"):
        TransformerConfig(attention="causal", neighbours=1)
    with pytest.raises(ValueError, match="neighbours must be 0 or more"):
        TransformerConfig(neighbours=-1)

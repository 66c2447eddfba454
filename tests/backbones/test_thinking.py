"""The thought transformer: the plain one until its gates open, and then a reader of what the stack holds."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from conftest import random_model
from unmask.backbones.thinking import ThoughtTransformer
from unmask.backbones.transformer import TransformerConfig, initialize
from unmask.config import build_network
from unmask.recipes import load_recipe
from unmask.thought.attention import turned
from unmask.thought.config import ThoughtConfig
from unmask.thought.memory import Memory
from unmask.thought.stack import ThoughtStack

THOUGHT = ThoughtConfig(dims=(4, 3, 2), slots=3)


def thinker(seed: int = 0, thought: ThoughtConfig = THOUGHT, **shape: object) -> ThoughtTransformer:
    """Random weights that say something, gates open."""
    sizes = {"layers": 3, "width": 32, "heads": 4, "length": 16} | shape
    model = ThoughtTransformer(TransformerConfig(**sizes), 12, thought)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3, generator=generator)
    return model.eval()


def tokens(rows: int = 3, length: int = 16, seed: int = 0) -> Tensor:
    return torch.randint(0, 12, (rows, length), generator=torch.Generator().manual_seed(seed))


def filled(rows: int = 3, pushes: int = 2, seed: int = 0) -> ThoughtStack:
    generator = torch.Generator().manual_seed(seed)
    stack = ThoughtStack.empty(rows, 3, (4, 3, 2))
    for _ in range(pushes):
        stack = stack.push(torch.randn(rows, 4, 3, 2, generator=generator))
    return stack


def test_with_a_plain_models_weights_it_is_that_model_whatever_it_remembers() -> None:
    plain = random_model(layers=3)
    model = ThoughtTransformer(plain.config, 12, THOUGHT)
    initialize(model, torch.Generator().manual_seed(1))
    model.load_state_dict(plain.state_dict(), strict=False)
    model.eval()
    t = torch.rand(3)
    memory = model.remember(filled(), torch.randn(3, 4, 3, 2))
    assert model(tokens(), t, memory=memory).equal(plain(tokens(), t))
    # and its gates feel a gradient, so that it can learn to read
    model.head.weight.data.normal_()
    model(tokens(), t, memory=memory).square().mean().backward()
    gates = [
        parameter.grad for name, parameter in model.named_parameters() if name.endswith("reader.attention.out.weight")
    ]
    assert len(gates) == 2
    assert all(gate is not None and gate.abs().max() > 0 for gate in gates)


def test_readers_stand_in_the_chosen_blocks() -> None:
    model = thinker(layers=5, thought=ThoughtConfig(dims=(4, 3, 2), slots=3, every=2))
    assert [block.reader is not None for block in model.blocks] == [True, False, True, False, True]


def test_thoughts_are_known_by_age_not_by_place() -> None:
    model, stack = thinker(), filled(pushes=5)
    turned = ThoughtStack(stack.data.roll(1, 1), (stack.head + 1) % 3, stack.count)
    t = torch.rand(3)
    first = model(tokens(), t, memory=model.remember(stack))
    assert torch.allclose(first, model(tokens(), t, memory=model.remember(turned)), atol=1e-5)
    thoughts, _ = stack.ordered()
    swapped = ThoughtStack(thoughts.flip(1), torch.zeros(3, dtype=torch.long), stack.count)
    assert (first - model(tokens(), t, memory=model.remember(swapped))).abs().max() > 1e-3


def test_the_past_stands_where_it_stood() -> None:
    model = thinker()
    memory = model.remember(filled(pushes=2), torch.zeros(3, 4, 3, 2))
    assert memory.places is not None
    # nothing, the present thought over the 16 tokens at hand, then the ring: the first pushed is one segment further back
    assert memory.places[0, 0] == 0
    assert memory.places[0, 1:5].tolist() == [2, 6, 10, 14]
    assert memory.places[0, 5:9].tolist() == [-30, -26, -22, -18]
    assert memory.places[0, 9:13].tolist() == [-14, -10, -6, -2]
    # and the distance counts: the same memory elsewhere says something else
    t = torch.rand(3)
    moved = Memory(memory.tokens, memory.visible, memory.places - 5)
    assert (model(tokens(), t, memory=memory) - model(tokens(), t, memory=moved)).abs().max() > 1e-3


def test_turning_is_by_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 1, 1, 1, 8, generator=generator)
    near, far = (
        (turned(x, torch.tensor([[place]])) * turned(y, torch.tensor([[place - 3.0]]))).sum() for place in (0.0, 40.0)
    )
    assert torch.allclose(near, far, atol=1e-4)
    assert torch.allclose(turned(x, torch.zeros(1, 1)), x)


def test_what_is_not_valid_is_not_seen() -> None:
    model, stack = thinker(), filled(pushes=1)
    noisy = ThoughtStack(torch.where(stack.valid[:, :, None, None, None], stack.data, 9.0), stack.head, stack.count)
    t = torch.rand(3)
    one, other = (model(tokens(), t, memory=model.remember(each)) for each in (stack, noisy))
    assert one.equal(other)
    empty = model(tokens(), t, memory=model.remember(model.empty_stack(3)))
    assert empty.isfinite().all()
    assert (empty - one).abs().max() > 1e-3


def test_the_present_thought_counts_where_it_is_shown_and_says_how_noisy_it_is() -> None:
    model, stack, t = thinker(), filled(), torch.rand(3)
    present = torch.randn(3, 4, 3, 2, generator=torch.Generator().manual_seed(5))
    without = model(tokens(), t, memory=model.remember(stack))
    shown = torch.tensor([True, False, True])
    some = model(tokens(), t, memory=model.remember(stack, present, torch.rand(3), shown))
    assert torch.allclose(some[1], without[1], atol=1e-5)
    assert (some[0] - without[0]).abs().max() > 1e-3
    clean, noisy = (model.remember(stack, present, torch.full((3,), level)) for level in (0.0, 1.0))
    assert (clean.tokens - noisy.tokens).abs().max() > 1e-3


@pytest.mark.parametrize("pool", [0, 2])
def test_a_row_is_read_and_written_alike_among_any_neighbours(pool: int) -> None:
    model = thinker(thought=ThoughtConfig(dims=(4, 3, 2), slots=3, pool=pool))
    lengths = torch.tensor([16, 5, 9])
    stack, t = filled(), torch.rand(3)
    together = model.write(tokens(), stack, lengths=lengths)
    logits = model(tokens(), t, lengths=lengths, memory=model.remember(stack))
    for row in range(3):
        own = slice(row, row + 1)
        size = int(lengths[row])
        alone = ThoughtStack(stack.data[own], stack.head[own], stack.count[own])
        cut = tokens()[own, :size]
        assert torch.allclose(model.write(cut, alone), together[own], atol=1e-4)
        expected = model(cut, t[own], memory=model.remember(alone))
        assert torch.allclose(expected, logits[own, :size], atol=1e-4)


def test_one_pass_gives_logits_and_what_thoughts_are_told_from() -> None:
    model, stack, t = thinker(), filled(), torch.zeros(3)
    memory = model.remember(stack)
    select = tokens(seed=4) > 5
    insight = model.think(tokens(), t, memory=memory, select=select)
    assert torch.allclose(insight.logits, model(tokens(), t, memory=memory, select=select), atol=1e-5)
    assert model.decoder(insight.pooled, stack).allclose(model.write(tokens(), stack), atol=1e-5)
    told = model.clean_thought(torch.randn(3, 4, 3, 2), torch.rand(3), insight.pooled)
    assert told.shape == (3, 4, 3, 2)


def test_thoughts_lie_on_the_sphere_and_carry_gradients_back_through_the_stack() -> None:
    model = thinker()
    first = model.write(tokens(), model.empty_stack(3))
    assert torch.allclose(first.flatten(2).square().mean(-1), torch.ones(3, 4), atol=1e-3)
    first.retain_grad()
    second = model.write(tokens(seed=1), model.empty_stack(3).push(first))
    model(tokens(seed=2), torch.rand(3), memory=model.remember(model.empty_stack(3).push(second))).sum().backward()
    assert first.grad is not None
    assert first.grad.abs().max() > 0


def test_another_stack_than_the_models_is_refused() -> None:
    model = thinker()
    for stack in (ThoughtStack.empty(1, 3, (4, 6)), ThoughtStack.empty(1, 2, (4, 3, 2))):
        with pytest.raises(ValueError, match="does not fit a model whose stack holds 3 of"):
            model.remember(stack)


@pytest.mark.parametrize("dims", [(4,), (0, 3)])
def test_thoughts_without_tokens_or_numbers_are_refused(dims: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"such as \[8, 8, 4\]"):
        ThoughtConfig(dims=dims)


def count(parts: dict[str, int], *names: str) -> int:
    return sum(size for name, size in parts.items() if any(word in name for word in names))


def test_the_large_preset_has_the_seeds_parts() -> None:
    with torch.device("meta"):
        model = build_network(load_recipe("thought-500m"), 50_258)
    assert isinstance(model, ThoughtTransformer)
    assert model.thought.dims == (32, 32, 16)
    parts = {name: parameter.numel() for name, parameter in model.named_parameters()}
    diffusion = count(parts, "denoiser.", "modulation", "time.")
    thought = count(parts, "encoder.", "decoder.", "reader.", "aligner.")
    text = sum(parts.values()) - diffusion - thought
    assert text == pytest.approx(400e6, rel=0.05)
    assert thought == pytest.approx(50e6, rel=0.1)
    assert diffusion == pytest.approx(50e6, rel=0.1)


def test_the_small_preset_is_the_seeds_phase_1(tmp_path: Path) -> None:
    config = load_recipe("thought-mini")
    assert (config.model.width, config.model.layers, config.model.length) == (256, 4, 64)
    assert config.thought.dims == (8, 8, 4)
    assert config.data.vocab_size == 1000

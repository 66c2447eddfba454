"""The stack against lists."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unmask.thought.stack import ThoughtStack


def lists(stack: ThoughtStack) -> list[list[float]]:
    """Each row's thoughts by their first number, oldest first."""
    thoughts, valid = stack.ordered()
    assert valid.sum(-1).equal(stack.count)
    flat = thoughts.flatten(2)
    # every number of a thought is the same here
    assert (flat == flat[..., :1])[valid].all()
    return [row[ok].tolist() for row, ok in zip(flat[..., 0], valid, strict=True)]


def thought(values: list[float], dims: tuple[int, ...]) -> Tensor:
    return torch.tensor(values).view(-1, *[1] * len(dims)).expand(-1, *dims)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), rows=st.integers(1, 4), slots=st.integers(1, 5), dims=st.sampled_from([(1,), (3,), (2, 3)]))
def test_it_does_what_lists_do(data: st.DataObject, rows: int, slots: int, dims: tuple[int, ...]) -> None:
    stack, model = ThoughtStack.empty(rows, slots, dims), [list[float]() for _ in range(rows)]
    number = 0.0
    for action in data.draw(st.lists(st.sampled_from(["push", "some", "reset", "evolve", "merge"]), max_size=12)):
        chosen = data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
        flags = torch.tensor(chosen)
        values = [number + row for row in range(rows)]
        number += rows
        if action == "push":
            stack = stack.push(thought(values, dims))
            model = [[*row, value][-slots:] for row, value in zip(model, values, strict=True)]
        elif action == "some":
            stack = stack.push(thought(values, dims), flags)
            model = [
                [*row, value][-slots:] if on else row for row, value, on in zip(model, values, chosen, strict=True)
            ]
        elif action == "reset":
            stack = stack.reset(flags)
            model = [[] if on else row for row, on in zip(model, chosen, strict=True)]
        elif action == "evolve":
            stack = stack.evolve(thought(values, dims))
            model = [[*row[:-1], value] if row else row for row, value in zip(model, values, strict=True)]
        else:
            other = ThoughtStack.empty(rows, data.draw(st.integers(1, 4)), dims)
            more = [list[float]() for _ in range(rows)]
            for _ in range(data.draw(st.integers(0, 5))):
                other = other.push(thought(values, dims), flags)
                more = [[*r, v][-other.slots :] if on else r for r, v, on in zip(more, values, chosen, strict=True)]
                values = [value + 0.5 for value in values]
            stack = stack.merge(other)
            model = [[*row, *extra][-slots:] for row, extra in zip(model, more, strict=True)]
        assert lists(stack) == model
        newest = stack.newest().flatten(1)[:, 0].tolist()
        assert newest == [row[-1] if row else 0.0 for row in model]
        for row, held in enumerate(model):
            by_age = {int(age): float(stack.data[row, slot].flatten()[0]) for slot, age in enumerate(stack.age[row])}
            assert [by_age[age] for age in range(len(held))] == held[::-1]
            assert int(stack.valid[row].sum()) == len(held)


def test_gradients_reach_back_through_pushes_and_stop_at_a_cut() -> None:
    first, second = (torch.ones(2, 3, requires_grad=True) for _ in range(2))
    stack = ThoughtStack.empty(2, 4, (3,)).push(first)
    cut = stack.detach().push(second)
    cut.data.sum().backward()
    assert first.grad is None
    assert second.grad is not None
    stack.push(second).reset(torch.tensor([True, False])).data.sum().backward()
    assert first.grad is not None
    assert first.grad.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_a_push_leaves_the_old_stack_as_it_was() -> None:
    old = ThoughtStack.empty(1, 2, (2,)).push(torch.ones(1, 2))
    old.push(torch.full((1, 2), 5.0))
    assert lists(old) == [[1.0]]


def test_precision_moves_and_pushes_keep_it() -> None:
    stack = ThoughtStack.empty(1, 2, (2,)).to(dtype=torch.bfloat16)
    assert stack.push(torch.ones(1, 2)).data.dtype == torch.bfloat16
    assert stack.to("cpu").head.dtype == torch.long


def test_what_does_not_fit_is_refused() -> None:
    stack = ThoughtStack.empty(2, 3, (4, 2))
    with pytest.raises(ValueError, match=r"a thought of \(4, 3\) does not fit a stack of \(4, 2\)"):
        stack.push(torch.zeros(2, 4, 3))
    with pytest.raises(ValueError, match="cannot be merged"):
        stack.merge(ThoughtStack.empty(3, 3, (4, 2)))
    for slots, dims in ((0, (2,)), (2, ()), (2, (0,))):
        with pytest.raises(ValueError, match="at least one slot"):
            ThoughtStack.empty(1, slots, dims)

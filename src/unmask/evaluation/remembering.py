"""What thoughts are worth: the bound of segments with the stack that was written before them, and with others."""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.backbones.thinking import ThoughtTransformer
from unmask.config import Bound
from unmask.evaluation.likelihood import Estimate, evaluate_likelihood
from unmask.thought.memory import Memory
from unmask.thought.stack import ThoughtStack


def rows_of(stack: ThoughtStack, rows: Int[Tensor, " R"]) -> ThoughtStack:
    """The stacks of some rows, in that order."""
    return ThoughtStack(stack.data[rows], stack.head[rows], stack.count[rows])


@torch.no_grad()
def stacks_before(model: ThoughtTransformer, segments: Int[Tensor, "N K L"], batch_size: int = 32) -> ThoughtStack:
    """The stack before each segment, (N K) rows in row-major order: the document's own thoughts so far."""
    parts: list[ThoughtStack] = []
    for rows in segments.split(batch_size):
        stack, before = model.empty_stack(len(rows)), list[ThoughtStack]()
        for segment in rows.unbind(1):
            before.append(stack)
            stack = stack.push(model.write(segment, stack))
        parts.append(ThoughtStack.side_by_side(before))
    return ThoughtStack(*(torch.cat([getattr(part, name) for part in parts]) for name in ("data", "head", "count")))


@torch.no_grad()
def encode(model: ThoughtTransformer, stacks: ThoughtStack, batch_size: int = 32) -> Memory:
    """The memory of each row's stack."""
    index = torch.arange(len(stacks.head), device=stacks.head.device)
    parts = [model.remember(rows_of(stacks, rows)) for rows in index.split(batch_size)]
    return Memory.join(parts)


def remember_segments(model: ThoughtTransformer, segments: Int[Tensor, "N K L"], batch_size: int = 32) -> Memory:
    """The memory of each segment, (N K) rows in row-major order."""
    return encode(model, stacks_before(model, segments, batch_size), batch_size)


@dataclass(frozen=True)
class Worth:
    """Bounds of segments from the second of each window on, nats a token.

    Attributes:
        own: given the document's own thoughts.
        zeroed: given as many thoughts, all zero.
        another: given another document's thoughts.
        empty: given no thoughts.
        gain_over: what own thoughts save against each of the others, row by row.
        own_rows: each segment's own bound.
    """

    own: Estimate
    zeroed: Estimate
    another: Estimate
    empty: Estimate
    gain_over: dict[str, Estimate]
    own_rows: Float[Tensor, " R"] = field(repr=False, compare=False)


def worth_of_thoughts(
    model: ThoughtTransformer,
    bound: Bound,
    segments: Int[Tensor, "N K L"],
    *,
    draws: int = 8,
    batch_size: int = 32,
    seed: int = 0,
) -> Worth:
    """Measure the same segments under the same noise with four stacks.

    Raises:
        ValueError: fewer than two windows, or windows of one segment.
    """
    count, number, _ = segments.shape
    if count < 2 or number < 2:
        raise ValueError(f"{count} windows of {number} segments say nothing of thoughts: give at least 2 of 2")
    stacks = stacks_before(model, segments, batch_size)
    later = torch.arange(count * number, device=segments.device).view(count, number)[:, 1:].flatten()
    own = rows_of(stacks, later)
    kinds = {
        "own": own,
        "zeroed": replace(own, data=torch.zeros_like(own.data)),
        # half way round, at the same place in it: windows of one document lie side by side
        "another": rows_of(own, torch.arange(len(later), device=later.device).roll(count // 2 * (number - 1))),
        "empty": model.empty_stack(len(later)),
    }
    rows: dict[str, Float[Tensor, " R"]] = {}
    for name, stack in kinds.items():
        rows[name] = evaluate_likelihood(
            bound.denoiser,
            segments.flatten(0, 1)[later],
            bound.corruption,
            bound.objective,
            exact_k=bound.exact_k,
            draws=draws,
            batch_size=batch_size,
            seed=seed,
            memory=encode(model, stack, batch_size),
        ).per_row
    gains = {name: Estimate.over_rows(rows[name] - rows["own"]) for name in ("zeroed", "another", "empty")}
    means = {name: Estimate.over_rows(values) for name, values in rows.items()}
    return Worth(**means, gain_over=gains, own_rows=rows["own"])

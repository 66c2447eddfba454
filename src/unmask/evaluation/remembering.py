"""What thoughts are worth: the bound of segments with the stack that was written before them, and without."""

import torch
from jaxtyping import Int
from torch import Tensor

from unmask.backbones.thinking import ThoughtTransformer
from unmask.thought.memory import Memory
from unmask.thought.stack import ThoughtStack


@torch.no_grad()
def stacks_before(model: ThoughtTransformer, segments: Int[Tensor, "N K L"], batch_size: int = 32) -> ThoughtStack:
    """The stack before each segment, (N K) rows in row-major order: the document's own thoughts so far."""
    parts: list[ThoughtStack] = []
    for rows in segments.split(batch_size):
        stack, before = model.empty_stack(len(rows)), list[ThoughtStack]()
        for segment in rows.unbind(1):
            before.append(stack)
            stack = stack.push(model.write(segment, stack))
        parts.append(side_by_side(before))
    return ThoughtStack(*(torch.cat([getattr(part, name) for part in parts]) for name in ("data", "head", "count")))


def side_by_side(stacks: list[ThoughtStack]) -> ThoughtStack:
    """K stacks of B rows as one of B K rows, in row-major order."""
    return ThoughtStack(
        *(torch.stack([getattr(one, name) for one in stacks], 1).flatten(0, 1) for name in ("data", "head", "count"))
    )


@torch.no_grad()
def remember_segments(model: ThoughtTransformer, segments: Int[Tensor, "N K L"], batch_size: int = 32) -> Memory:
    """The memory of each segment, (N K) rows in row-major order."""
    stacks = stacks_before(model, segments, batch_size)
    parts = [
        model.remember(ThoughtStack(stacks.data[rows], stacks.head[rows], stacks.count[rows]))
        for rows in torch.arange(len(stacks.head), device=segments.device).split(batch_size)
    ]
    return Memory(torch.cat([part.tokens for part in parts]), torch.cat([part.visible for part in parts]))

"""A stack of thoughts, encoded for the text to read: all slots at once."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unmask.thought.attention import CrossAttention, ThoughtBlock
from unmask.thought.config import ThoughtConfig
from unmask.thought.memory import Memory
from unmask.thought.stack import ThoughtStack
from unmask.types import Times


class Level(nn.Module):
    """How noisy a thought is, as a vector: linear in the shares of signal and noise."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(2, width, bias=False)

    def forward(self, t: Times) -> Float[Tensor, "B D"]:
        """T in [0, 1], 0 clean."""
        return self.mix(torch.stack([1 - t, t], -1))


class ThoughtEncoder(nn.Module):
    """Stack to memory.

    A memory token is its numbers, projected, plus who it is in its thought and how old the thought is: by age, not by
    where the ring buffer happens to hold it. Thoughts of all ages then attend to each other, and, if asked, learned
    queries pool them. A vector that stands for no thought at all is always there.

    Args:
        config: the thoughts.
        width: D of the text model.
        heads: attention heads.
        length: L, tokens of a segment: a memory token stands where its part of the text stood, so that the text that is being
            written sees the past at its distance.
    """

    def __init__(self, config: ThoughtConfig, width: int, heads: int, length: int) -> None:
        super().__init__()
        self.config, self.length = config, length
        self.lift = nn.Linear(config.features, width, bias=False)
        self.who = nn.Parameter(torch.zeros(config.tokens, width))
        # the last age is that of a thought which is being had
        self.age = nn.Parameter(torch.zeros(config.slots + 1, width))
        self.nothing = nn.Parameter(torch.zeros(1, width))
        self.level = Level(width)
        self.layers = nn.ModuleList(ThoughtBlock(width, heads) for _ in range(config.layers))
        self.norm = nn.RMSNorm(width)
        self.queries = nn.Parameter(torch.zeros(config.pool, width)) if config.pool else None
        self.pooling = CrossAttention(width, heads) if config.pool else None

    def forward(
        self,
        stack: ThoughtStack,
        present: Float[Tensor, "B *D"] | None = None,
        t: Times | None = None,
        shown: Bool[Tensor, " B"] | None = None,
    ) -> Memory:
        """Encode a stack, and perhaps the thought that belongs to the text at hand.

        Args:
            stack: what came before.
            present: the present thought, noisy.
            t: how noisy, in [0, 1]; None: clean.
            shown: rows in which it is there; None: in all.

        Raises:
            ValueError: a stack of other dims or depth than the model's.
        """
        config = self.config
        check_stack(stack, config)
        rows = len(stack.head)
        # an invalid slot's age is S; it is not visible, so which vector it gets does not matter
        x = self._lifted(stack.data.flatten(3)) + self.age[stack.age][:, :, None]
        x = x.flatten(1, 2)
        visible = stack.valid.repeat_interleave(config.tokens, 1)
        part = (torch.arange(config.tokens, device=x.device) + 0.5) * self.length / config.tokens
        places = (part - (stack.age[:, :, None] + 1) * self.length).flatten(1)
        if present is not None:
            t = torch.zeros(rows, device=x.device) if t is None else t
            now = self._lifted(present.flatten(2)) + self.age[config.slots] + self.level(t)[:, None]
            shown = torch.ones_like(visible[:, 0]) if shown is None else shown
            x = torch.cat([now, x], 1)
            visible = torch.cat([shown[:, None].expand(-1, config.tokens), visible], 1)
            places = torch.cat([part.expand(rows, -1), places], 1)
        x = torch.cat([self.nothing.expand(rows, 1, -1), x], 1)
        visible = torch.cat([torch.ones_like(visible[:, :1]), visible], 1)
        places = torch.cat([torch.zeros_like(places[:, :1]), places], 1)
        for layer in self.layers:
            x = layer(x, visible)
        x = self.norm(x)
        if self.pooling is not None and self.queries is not None:
            x = self.pooling(self.queries.expand(rows, -1, -1), x, visible)
            return Memory(x, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device))
        return Memory(x, visible, places if config.distances else None)

    def _lifted(self, tokens: Float[Tensor, "*B M F"]) -> Float[Tensor, "*B M D"]:
        return self.lift(tokens.to(self.lift.weight.dtype)) + self.who


def check_stack(stack: ThoughtStack, config: ThoughtConfig) -> None:
    """Refuse a stack that is not the model's."""
    if stack.dims != tuple(config.dims) or stack.slots != config.slots:
        raise ValueError(
            f"a stack of {stack.slots} thoughts of {list(stack.dims)} does not fit a model whose stack holds "
            f"{config.slots} of {list(config.dims)}"
        )

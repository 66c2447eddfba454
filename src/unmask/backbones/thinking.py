"""A transformer that reads a stack of thoughts and writes new ones."""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unmask.backbones.transformer import Block, Transformer, TransformerConfig
from unmask.thought.aligner import Aligner
from unmask.thought.attention import Reader
from unmask.thought.config import ThoughtConfig
from unmask.thought.decoder import ThoughtDecoder, ThoughtDenoiser
from unmask.thought.encoder import ThoughtEncoder
from unmask.thought.memory import Memory
from unmask.thought.stack import ThoughtStack
from unmask.types import Lengths, Positions, Times, Tokens


@dataclass(frozen=True)
class Insight:
    """One pass over text: logits at the selected positions (N, V), and the text's pooled states (B, M, D)."""

    logits: Tensor
    pooled: Float[Tensor, "B M D"]


class ThoughtTransformer(Transformer):
    """The plain transformer with three parts more: an encoder of the stack, readers in some blocks, and a decoder.

    Its readers' gates start at zero, so that with a plain model's weights it is that model, whatever the stack holds.

    Args:
        config: the shape.
        vocab_size: V, the mask included.
        thought: the shape of its thoughts.
    """

    def __init__(self, config: TransformerConfig, vocab_size: int, thought: ThoughtConfig) -> None:
        super().__init__(config, vocab_size)
        self.thought = thought
        heads = thought.heads or config.heads
        if config.width % heads:
            raise ValueError(f"model.width {config.width} must be a multiple of thought.heads {heads}")
        self.encoder = ThoughtEncoder(thought, config.width, heads, config.length)
        self.decoder = ThoughtDecoder(thought, config.width, heads)
        self.denoiser = ThoughtDenoiser(thought, config.width, heads)
        self.aligner = Aligner(thought, config.width)
        for index in range(config.layers - 1, -1, -thought.every):
            cast(Block, self.blocks[index]).reader = Reader(config.width, heads)

    def forward(
        self,
        tokens: Tokens,
        t: Times,
        *,
        lengths: Lengths | None = None,
        select: Positions | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        """Like the plain model's; without a memory, as at a document's beginning."""
        memory = self.remember(self.empty_stack(len(tokens))) if memory is None else memory
        return super().forward(tokens, t, lengths=lengths, select=select, memory=memory)

    def empty_stack(self, rows: int) -> ThoughtStack:
        """No thoughts yet, on the model's device."""
        return ThoughtStack.empty(rows, self.thought.slots, self.thought.dims, device=self.embedding.weight.device)

    def remember(
        self,
        stack: ThoughtStack,
        present: Float[Tensor, "B *D"] | None = None,
        t: Times | None = None,
        shown: Bool[Tensor, " B"] | None = None,
    ) -> Memory:
        """Encode a stack, and perhaps the (noisy) thought of the text at hand; see `ThoughtEncoder`."""
        return self.encoder(stack, present, t, shown)

    def think(
        self,
        tokens: Tokens,
        t: Times,
        *,
        memory: Memory,
        lengths: Lengths | None = None,
        select: Positions | None = None,
    ) -> Insight:
        """Logits at `select` and the pooled states, in one pass."""
        states, packing = self.states(tokens, t, lengths=lengths, memory=memory)
        rows = states if packing is None else packing.spread(states)
        pooled = self.decoder.pooled(rows, None if packing is None else packing.visible)
        return Insight(self.head(rows if select is None else rows[select]), pooled)

    def write(
        self, tokens: Tokens, stack: ThoughtStack, *, memory: Memory | None = None, lengths: Lengths | None = None
    ) -> Float[Tensor, "B *D"]:
        """The thought of clean text that follows what the stack holds; push it."""
        memory = self.remember(stack) if memory is None else memory
        time = torch.zeros(len(tokens), device=tokens.device)
        states, packing = self.states(tokens, time, lengths=lengths, memory=memory)
        rows = states if packing is None else packing.spread(states)
        return self.decoder(self.decoder.pooled(rows, None if packing is None else packing.visible), stack)

    def embed(self, tokens: Tokens) -> Float[Tensor, "B D"]:
        """A text's mean token embedding: what a thought is compared with."""
        return self.embedding(tokens).mean(1)

    def clean_thought(
        self, noisy: Float[Tensor, "B *D"], t: Times, pooled: Float[Tensor, "B M D"]
    ) -> Float[Tensor, "B *D"]:
        """The expected clean thought of the text at hand, from a noisy one and the text's pooled states."""
        return self.denoiser(noisy, t, pooled)

"""One transformer for everything: a GPT or a diffusion model, by configuration."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unmask.backbones.attention import Attention
from unmask.backbones.cache import Reading
from unmask.backbones.layers import (
    Activation,
    AdditiveTime,
    FeedForward,
    FourierTime,
    Neighbours,
    Norm,
    build_norm,
    rotary_table,
)
from unmask.backbones.packing import Packing
from unmask.thought.attention import Reader
from unmask.thought.memory import Memory
from unmask.types import Lengths, Positions, Times, Tokens


@dataclass(frozen=True)
class TransformerConfig:
    """The shape of a transformer.

    Args:
        layers: blocks.
        width: D, the size of a position's vector.
        heads: attention heads; width / heads must be even for RoPE.
        kv_heads: key/value heads of grouped-query attention; null: as many as heads.
        hidden: the feed-forward width; null: 4 * width (swiglu: 8/3 * width, rounded up to a multiple of 64).
        length: the longest canvas, in tokens.
        attention: bidirectional for diffusion, causal for a GPT.
        neighbours: positions on either side whose embeddings are mixed into each one's before the first block; 0: none.
        positions: rope (no parameters) or learned.
        norm: rms or layer.
        norm_eps: added inside the norm's root.
        activation: gelu, gelu_tanh (GPT-2's), swiglu or relu2 (squared ReLU).
        qk_norm: normalise queries and keys.
        bias: biases in linear layers and layer norms.
        tied: the output head is the token embedding.
        time: how the network learns t: none (it counts masks), additive (seed 003) or adaln (DiT).
        time_steps: embeddings of additive time.
        rope_theta: the base of RoPE's frequencies.
        dropout: dropout probability in [0, 1).
    """

    layers: int = 6
    width: int = 384
    heads: int = 6
    kv_heads: int | None = None
    hidden: int | None = None
    length: int = 256
    attention: Literal["bidirectional", "causal"] = "bidirectional"
    neighbours: int = 0
    positions: Literal["rope", "learned"] = "rope"
    norm: Norm = "rms"
    norm_eps: float = 1e-6
    activation: Activation = "relu2"
    qk_norm: bool = True
    bias: bool = False
    tied: bool = False
    time: Literal["none", "additive", "adaln"] = "none"
    time_steps: int = 300
    rope_theta: float = 10000.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse shapes that cannot be built."""
        for name in ("layers", "width", "heads", "kv_heads", "hidden", "length", "time_steps"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ValueError(f"model.{name} must be at least 1, not {size}")
        if self.width % self.heads:
            raise ValueError(f"model.width {self.width} must be a multiple of model.heads {self.heads}")
        if self.positions == "rope" and self.width // self.heads % 2:
            raise ValueError(f"rope needs an even head size, but width / heads is {self.width // self.heads}")
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"model.heads {self.heads} must be a multiple of model.kv_heads {self.kv_heads}")
        if self.neighbours < 0:
            raise ValueError(f"model.neighbours must be 0 or more, not {self.neighbours}")
        if self.neighbours and self.attention == "causal":
            raise ValueError("model.neighbours is for bidirectional models: a causal one may not see what follows")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout must be in [0, 1), not {self.dropout}")

    @property
    def hidden_size(self) -> int:
        """The feed-forward width that is meant."""
        if self.hidden is not None:
            return self.hidden
        return -(-8 * self.width // 3 // 64) * 64 if self.activation == "swiglu" else 4 * self.width


def shifted(x: Tensor, time: Sequence[Tensor] | None) -> Tensor:
    """adaLN: x (1 + scale) + shift, with time = (shift, scale, ...)."""
    return x if time is None else x * (1 + time[1]) + time[0]


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)); adaLN shifts, scales and gates both by time."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.attention_norm = build_norm(config.norm, width, config.norm_eps, config.bias)
        self.attention = Attention(
            width,
            config.heads,
            config.kv_heads or config.heads,
            causal=config.attention == "causal",
            qk_norm=config.qk_norm,
            bias=config.bias,
            dropout=config.dropout,
        )
        self.mlp_norm = build_norm(config.norm, width, config.norm_eps, config.bias)
        self.mlp = FeedForward(width, config.hidden_size, config.activation, config.bias)
        self.modulation = nn.Linear(width, 6 * width) if config.time == "adaln" else None
        self.reader: Reader | None = None
        self.dropout = config.dropout

    def forward(
        self,
        x: Float[Tensor, "*B D"],
        table: Tensor | None,
        packing: Packing | None,
        condition: Float[Tensor, "B D"] | None,
        select: Bool[Tensor, "*B"] | None = None,
        reading: Reading | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        """One block on (B, L, D) or packed (T, D); with `select`, the feed-forward runs only there and gives (N, D)."""
        time = None
        if self.modulation is not None:
            rows = self.modulation(condition)
            time = (rows[:, None] if packing is None else rows[packing.owner]).chunk(6, -1)
        h = shifted(self.attention_norm(x), time)
        h = self.drop(self.attention(h, table, packing, reading))
        x = x + h if time is None else x + h * (1 + time[2])
        if self.reader is not None and memory is not None:
            x = x + self.drop(self._read(self.reader, x, memory, packing))
        if time is not None:
            time = time[3:]
        if select is not None:
            time = None if time is None else [part.expand_as(x)[select] for part in time]
            x = x[select]
        h = self.drop(self.mlp(shifted(self.mlp_norm(x), time)))
        return x + h if time is None else x + h * (1 + time[2])

    def _read(self, reader: Reader, x: Tensor, memory: Memory, packing: Packing | None) -> Tensor:
        """What thoughts say to each position."""
        if packing is None:
            return reader(x, memory)
        return packing.gather(reader(packing.spread(x), memory))

    def drop(self, x: Tensor) -> Tensor:
        """Dropout on a branch."""
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Transformer(nn.Module):
    """Tokens to logits.

    Args:
        config: the shape.
        vocab_size: V, the mask included.
    """

    def __init__(self, config: TransformerConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.checkpointing = False
        width = config.width
        self.embedding = nn.Embedding(vocab_size, width)
        self.position = nn.Embedding(config.length, width) if config.positions == "learned" else None
        self.neighbours = Neighbours(width, config.neighbours) if config.neighbours else None
        self.time = (
            AdditiveTime(config.time_steps, width)
            if config.time == "additive"
            else FourierTime(width)
            if config.time == "adaln"
            else None
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = build_norm(config.norm, width, config.norm_eps, config.bias)
        self.head = nn.Linear(width, vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.embedding.weight
        if config.positions == "rope":
            table = rotary_table(config.length, width // config.heads, config.rope_theta)
            self.register_buffer("table", table, persistent=False)
        else:
            self.table = None

    def forward(
        self,
        tokens: Tokens,
        t: Times,
        *,
        lengths: Lengths | None = None,
        select: Positions | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        """Logits (N, V) at `select`, in row-major order; (B, L, V) when it is not given.

        Positions beyond `lengths` are padding: they are not computed, and must not be selected. A `memory` is read by the
        blocks that have a reader (see `ThoughtTransformer`).
        """
        states, packing = self.states(tokens, t, lengths=lengths, select=select, memory=memory)
        logits = self.head(states)
        return logits if packing is None or select is not None else packing.spread(logits)

    def states(
        self,
        tokens: Tokens,
        t: Times,
        *,
        lengths: Lengths | None = None,
        select: Positions | None = None,
        memory: Memory | None = None,
    ) -> tuple[Tensor, Packing | None]:
        """What the head reads: (N, D) at `select`, or (B, L, D), or packed (T, D) with the packing when there are `lengths`."""
        length = tokens.shape[1]
        if length > self.config.length:
            raise ValueError(f"{length} tokens are more than the model's length of {self.config.length}")
        packing = None if lengths is None else Packing(lengths, length)
        place = slice(length) if packing is None else packing.place
        x = self.embedding(tokens if packing is None else packing.gather(tokens))
        if self.neighbours is not None:
            x = self.neighbours(x) if packing is None else packing.gather(self.neighbours(packing.spread(x)))
        if self.position is not None:
            x = x + self.position.weight[place]
        condition = None
        if self.time is not None:
            condition = self.time(t)
            if self.config.time == "additive":
                x = x + (condition[:, None] if packing is None else condition[packing.owner])
        table = self.table[:, place] if self.table is not None else None
        if packing is not None and select is not None:
            select = packing.gather(select)
        if self.config.dropout:
            x = F.dropout(x, self.config.dropout, self.training)
        for index, block in enumerate(self.blocks):
            chosen = select if index == len(self.blocks) - 1 else None
            if self.checkpointing and self.training:
                x = checkpoint(block, x, table, packing, condition, chosen, None, memory, use_reentrant=False)
            else:
                x = block(x, table, packing, condition, chosen, None, memory)
        return self.norm(x), packing


def show_only(model: Transformer, visible: Bool[Tensor, "L L"] | None) -> None:
    """Let each position see only these, in whole rows of length L; None: all that the model's own attention sees."""
    for block in model.blocks:
        cast(Block, block).attention.visible = visible


def initialize(model: Transformer, generator: torch.Generator) -> None:
    """Normal weights of 1/sqrt(fan-in); embeddings of 0.02; whatever ends a residual branch, and the head, start at zero.

    So the untrained model is the identity and says log V exactly.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            continue
        ends_branch = name.endswith(("attention.out.weight", "mlp.down.weight", "modulation.weight"))
        is_table = name in ("embedding.weight", "position.weight", "time.embedding.weight")
        if ends_branch or name == "head.weight":
            nn.init.zeros_(parameter)
        else:
            # a neighbour must weigh about as much as the position itself: with 0.1, binding stalls all the same
            std = 0.02 if is_table else 0.5 if name == "neighbours.weight" else parameter.shape[1] ** -0.5
            nn.init.normal_(parameter, 0.0, std, generator=generator)

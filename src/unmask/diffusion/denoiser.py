"""A backbone read as a distribution over clean tokens."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from unmask.thought.memory import Memory
from unmask.types import Lengths, Logits, Positions, Times, Tokens


@runtime_checkable
class Backbone(Protocol):
    """Any callable from tokens to logits."""

    def __call__(self, tokens: Tokens, t: Times, *, lengths: Lengths | None, select: Positions) -> Tensor:
        """Logits (N, V) at the selected positions, row by row."""
        ...


@dataclass(frozen=True)
class Denoised:
    """What a denoiser says of clean text.

    Attributes:
        log_probs: log p(x_0 | x_t) at the selected positions; the mask has probability 0.
        select: the positions, (B, L); `log_probs` holds them in row-major order.
    """

    log_probs: Logits
    select: Positions


@runtime_checkable
class Denoiser(Protocol):
    """What samplers and evaluations see of a model."""

    @property
    def mask_id(self) -> int:
        """The token that stands for nothing yet."""
        ...

    @property
    def time_dependent(self) -> bool:
        """Whether predictions change when only t changes; if not, they may be used again."""
        ...

    def __call__(self, xt: Tokens, t: Times, *, lengths: Lengths | None = None, select: Positions) -> Denoised:
        """Log p(x_0 | x_t) at the selected positions; one that reads thoughts also takes `memory`."""
        ...


def ask(
    backbone: Backbone, xt: Tokens, t: Times, lengths: Lengths | None, select: Positions, memory: Memory | None
) -> Tensor:
    """A backbone's logits, in float32 or better; `memory` is for those that read thoughts."""
    extra = {} if memory is None else {"memory": memory}
    logits = backbone(xt, t, lengths=lengths, select=select, **extra)
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


@dataclass(frozen=True)
class Given:
    """Logits that are known already, as a backbone."""

    logits: Tensor

    def __call__(self, tokens: Tokens, t: Times, *, lengths: Lengths | None, select: Positions) -> Tensor:
        """Those logits."""
        return self.logits


@dataclass(frozen=True)
class Subs:
    """MDLM's SUBS: the mask is never predicted, and known tokens are carried over (they are not even computed).

    Attributes:
        backbone: tokens to logits.
        mask_id: the mask.
        time_dependent: whether predictions change when only t changes; if not, they may be used again.
    """

    backbone: Backbone
    mask_id: int
    time_dependent: bool = False

    def __call__(
        self,
        xt: Tokens,
        t: Times,
        *,
        lengths: Lengths | None = None,
        select: Positions,
        memory: Memory | None = None,
    ) -> Denoised:
        """Log p(x_0 | x_t) at `select`, in float32 or better."""
        logits = ask(self.backbone, xt, t, lengths, select, memory)
        forbidden = torch.zeros(logits.shape[-1], dtype=logits.dtype, device=logits.device)
        forbidden[self.mask_id] = -torch.inf
        return Denoised(torch.log_softmax(logits + forbidden, -1), select)


@dataclass(frozen=True)
class Shifted:
    """A backbone whose logits speak of the next position, as one whose logits speak of their own.

    Attributes:
        backbone: tokens to logits of what follows each.
        begin_id: what stands before the first token; the backbone reads one token more.
    """

    backbone: Backbone
    begin_id: int

    def __call__(self, tokens: Tokens, t: Times, *, lengths: Lengths | None = None, select: Positions) -> Tensor:
        """Logits (N, V) of the tokens at `select`."""
        read = torch.cat([torch.full_like(tokens[:, :1], self.begin_id), tokens], 1)
        select = torch.cat([select, torch.zeros_like(select[:, :1])], 1)
        return self.backbone(read, t, lengths=None if lengths is None else lengths + 1, select=select)


@dataclass(frozen=True)
class LeftToRight:
    """A causal backbone: log p(x_i | x_1 .. x_{i-1}).

    Attributes:
        backbone: tokens to logits of what follows each; must be causal, or it would see the answer.
        mask_id: the mask; never predicted.
        begin_id: what stands before the first token; None: the mask.
        time_dependent: always false.
    """

    backbone: Backbone
    mask_id: int
    begin_id: int | None = None
    time_dependent: bool = False

    def __call__(self, xt: Tokens, t: Times, *, lengths: Lengths | None = None, select: Positions) -> Denoised:
        """Log p of each selected token given those before it."""
        begin = torch.full_like(xt[:, :1], self.mask_id if self.begin_id is None else self.begin_id)
        read = torch.cat([begin, xt[:, :-1]], 1)
        return Subs(self.backbone, self.mask_id)(read, t, lengths=lengths, select=select)


@dataclass(frozen=True)
class Frank:
    """A backbone that may answer with the mask: "not yet" where it stands, "this is wrong" where another token does.

    Attributes:
        backbone: tokens to logits.
        mask_id: the mask.
        time_dependent: whether predictions change when only t changes.
    """

    backbone: Backbone
    mask_id: int
    time_dependent: bool = False

    def __call__(
        self,
        xt: Tokens,
        t: Times,
        *,
        lengths: Lengths | None = None,
        select: Positions,
        memory: Memory | None = None,
    ) -> Denoised:
        """Log p of each answer at `select`, the mask's among them, in float32 or better."""
        logits = ask(self.backbone, xt, t, lengths, select, memory)
        return Denoised(torch.log_softmax(logits, -1), select)

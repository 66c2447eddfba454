"""Corruptions: from clean text to noisy text, and one step back.

Each corrupts every token on its own with the schedule's probability, and knows its posterior exactly.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.diffusion.schedules import Schedule
from unmask.types import Lengths, Positions, Times, Tokens


@dataclass(frozen=True)
class Corrupted:
    """A batch after corruption.

    Attributes:
        x0: the clean tokens.
        xt: the noisy tokens at time t.
        t: one time a row.
        masked: where xt shows the mask.
        replaced: where xt shows another token than x0, the mask aside.
        target: what the model should say at each position.
        scored: the positions that the objective reads; the head runs only there.
        valid: the positions that are text, not padding.
        importance: 1 / (density with which each row's t was drawn), 1 for uniform t.
    """

    x0: Tokens
    xt: Tokens
    t: Times
    masked: Positions
    replaced: Positions
    target: Tokens
    scored: Positions
    valid: Positions
    importance: Times


@runtime_checkable
class Corruption(Protocol):
    """A forward process over tokens with a known posterior."""

    @property
    def schedule(self) -> Schedule:
        """How much is corrupted when."""
        ...

    @property
    def vocab_size(self) -> int:
        """V, the mask included."""
        ...

    def corrupt(
        self,
        x0: Tokens,
        t: Times,
        generator: torch.Generator,
        *,
        lengths: Lengths | None = None,
        importance: Times | None = None,
    ) -> Corrupted:
        """Draw xt ~ q(x_t | x_0); padding beyond `lengths` is left alone."""
        ...

    def posterior(self, xt: Tokens, x0_probs: Float[Tensor, "B L V"], s: Times, t: Times) -> Float[Tensor, "B L V"]:
        """q(x_s | x_t), averaged over x_0 ~ x0_probs; each position sums to 1."""
        ...


def valid_positions(x0: Tokens, lengths: Lengths | None) -> Positions:
    """True at text, false at the padding beyond each row's length."""
    if lengths is None:
        return torch.ones_like(x0, dtype=torch.bool)
    return torch.arange(x0.shape[1], device=x0.device) < lengths[:, None]


def bernoulli(x0: Tokens, chance: Times, valid: Positions, generator: torch.Generator) -> Positions:
    """Each valid position on its own with its row's chance."""
    draw = torch.rand(x0.shape, generator=generator, device=x0.device)
    return (draw < chance[:, None]) & valid


@dataclass(frozen=True)
class Absorbing:
    """Tokens become [MASK] and stay so: masked diffusion (D3PM's absorbing state; MDLM; MD4)."""

    schedule: Schedule
    vocab_size: int
    mask_id: int

    def corrupt(
        self,
        x0: Tokens,
        t: Times,
        generator: torch.Generator,
        *,
        lengths: Lengths | None = None,
        importance: Times | None = None,
    ) -> Corrupted:
        """Mask each token with probability 1 - alpha(t)."""
        valid = valid_positions(x0, lengths)
        masked = bernoulli(x0, self.schedule.masked(t), valid, generator)
        return Corrupted(
            x0=x0,
            xt=torch.where(masked, self.mask_id, x0),
            t=t,
            masked=masked,
            replaced=torch.zeros_like(masked),
            target=x0,
            scored=masked,
            valid=valid,
            importance=torch.ones_like(t) if importance is None else importance,
        )

    def posterior(self, xt: Tokens, x0_probs: Float[Tensor, "B L V"], s: Times, t: Times) -> Float[Tensor, "B L V"]:
        """A visible token stays; a masked one is revealed with probability (alpha_s - alpha_t) / (1 - alpha_t)."""
        reveal = 1 - (self.schedule.masked(s) / self.schedule.masked(t))[:, None, None]
        is_mask = torch.nn.functional.one_hot(torch.full_like(xt, self.mask_id), self.vocab_size)
        stay = torch.nn.functional.one_hot(xt, self.vocab_size).to(x0_probs)
        return torch.where((xt == self.mask_id)[..., None], reveal * x0_probs + (1 - reveal) * is_mask, stay)


@dataclass(frozen=True)
class Uniform:
    """Tokens become any other token: uniform diffusion over the vocabulary without the mask, which is the last id."""

    schedule: Schedule
    vocab_size: int
    mask_id: int

    @property
    def kinds(self) -> int:
        """How many tokens noise chooses from."""
        return self.vocab_size - 1

    def corrupt(
        self,
        x0: Tokens,
        t: Times,
        generator: torch.Generator,
        *,
        lengths: Lengths | None = None,
        importance: Times | None = None,
    ) -> Corrupted:
        """Redraw each token with probability 1 - alpha(t); one in `kinds` redraws gives the same token again."""
        valid = valid_positions(x0, lengths)
        redrawn = bernoulli(x0, self.schedule.masked(t), valid, generator)
        noise = torch.randint(self.kinds, x0.shape, generator=generator, device=x0.device)
        xt = torch.where(redrawn, noise, x0)
        return Corrupted(
            x0=x0,
            xt=xt,
            t=t,
            masked=torch.zeros_like(valid),
            replaced=xt != x0,
            target=x0,
            scored=valid,
            valid=valid,
            importance=torch.ones_like(t) if importance is None else importance,
        )

    def posterior(self, xt: Tokens, x0_probs: Float[Tensor, "B L V"], s: Times, t: Times) -> Float[Tensor, "B L V"]:
        """Sum over x0 of p(x0) q(x_t|x_s) q(x_s|x_0) / q(x_t|x_0), in O(V)."""
        alpha_s, alpha_t = (self.schedule.alpha(time)[:, None, None] for time in (s, t))
        step = alpha_t / alpha_s
        shown = torch.nn.functional.one_hot(xt, self.vocab_size).to(x0_probs)
        # q(x_t | x_0 = v) for each v, then the two factors of q(x_s | x_t, x_0) that depend on x_s
        marginal = alpha_t * shown + (1 - alpha_t) / self.kinds
        forward = step * shown + (1 - step) / self.kinds
        share = x0_probs / marginal
        result = forward * (alpha_s * share + (1 - alpha_s) / self.kinds * share.sum(-1, keepdim=True))
        result[..., self.mask_id] = 0
        return result


@dataclass(frozen=True)
class Clean:
    """No noise: the text of an autoregressive model, which predicts every token from those before it."""

    schedule: Schedule
    vocab_size: int
    mask_id: int

    def corrupt(
        self,
        x0: Tokens,
        t: Times,
        generator: torch.Generator,
        *,
        lengths: Lengths | None = None,
        importance: Times | None = None,
    ) -> Corrupted:
        """The text as it is; every token is scored."""
        valid = valid_positions(x0, lengths)
        none = torch.zeros_like(valid)
        ones = torch.ones_like(t)
        return Corrupted(
            x0=x0, xt=x0, t=t, masked=none, replaced=none, target=x0, scored=valid, valid=valid, importance=ones
        )

    def posterior(self, xt: Tokens, x0_probs: Float[Tensor, "B L V"], s: Times, t: Times) -> Float[Tensor, "B L V"]:
        """Nothing changes."""
        return torch.nn.functional.one_hot(xt, self.vocab_size).to(x0_probs)


@dataclass(frozen=True)
class Repair:
    """Seed 001's noise: some tokens are masked, others are wrong, and the model must say which is which.

    Of each row the share 0.99 t is masked, and a share drawn from U(0, 0.99 - 0.99 t) is replaced by random other tokens: with t
    uniform these are the seed's rates. The positions are disjoint and the counts exact. What the model should say is the
    original where masked or untouched, and the mask where the token is wrong.
    """

    schedule: Schedule
    vocab_size: int
    mask_id: int

    def corrupt(
        self,
        x0: Tokens,
        t: Times,
        generator: torch.Generator,
        *,
        lengths: Lengths | None = None,
        importance: Times | None = None,
    ) -> Corrupted:
        """Mask and replace; every token is scored."""
        valid = valid_positions(x0, lengths)
        size = valid.sum(-1)
        rate_mask = 0.99 * t
        rate_random = (0.99 - rate_mask) * torch.rand(t.shape, generator=generator, device=t.device)
        last_masked, last_wrong = (size * rate_mask).long(), (size * rate_mask).long() + (size * rate_random).long()
        # a random order of each row: its head is masked, what follows is replaced
        order = torch.rand(x0.shape, generator=generator, device=x0.device).masked_fill(~valid, 2.0)
        place = order.argsort(dim=-1).argsort(dim=-1)
        masked = (place < last_masked[:, None]) & valid
        wrong = (place < last_wrong[:, None]) & valid & ~masked
        # a turn of 1 .. K-1 through the K tokens that are not the mask never comes back to the token itself
        kinds = self.vocab_size - 1
        turn = torch.randint(1, kinds, x0.shape, generator=generator, device=x0.device)
        other = (x0 - (x0 > self.mask_id).long() + turn) % kinds
        other = other + (other >= self.mask_id).long()
        ones = torch.ones_like(t)
        return Corrupted(
            x0=x0,
            xt=torch.where(masked, self.mask_id, torch.where(wrong, other, x0)),
            t=t,
            masked=masked,
            replaced=wrong,
            target=torch.where(wrong, self.mask_id, x0),
            scored=valid,
            valid=valid,
            importance=ones if importance is None else importance,
        )

    def posterior(self, xt: Tokens, x0_probs: Float[Tensor, "B L V"], s: Times, t: Times) -> Float[Tensor, "B L V"]:
        """That of masking alone: the wrong tokens are not a Markov process, and are reopened by the sampler instead."""
        return Absorbing(self.schedule, self.vocab_size, self.mask_id).posterior(xt, x0_probs, s, t)


CORRUPTIONS: dict[str, type[Absorbing] | type[Uniform] | type[Clean] | type[Repair]] = {
    "absorbing": Absorbing,
    "uniform": Uniform,
    "none": Clean,
    "repair": Repair,
}

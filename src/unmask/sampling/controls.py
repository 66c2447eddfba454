"""How a token is drawn from a distribution, each row by its own settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.sampling.draws import categorical
from unmask.types import Logits, Positions, Tokens

Hook = Callable[[Logits, Tokens, Int[Tensor, " N"], Int[Tensor, " N"]], Logits]
"""(log_probs, canvases, row and place of each) -> log_probs or any logits."""

RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "temperature": (lambda value: 0 <= value < float("inf"), "0 or more"),
    "top_k": (lambda value: value >= 0, "0 (off) or more"),
    "top_p": (lambda value: 0 < value <= 1, "in (0, 1]"),
    "min_p": (lambda value: 0 <= value < 1, "in [0, 1)"),
    "repetition_penalty": (lambda value: 1 <= value < float("inf"), "1 (off) or more"),
    "guidance": (lambda value: 0 <= value < float("inf"), "0 (off) or more"),
}


@dataclass(frozen=True)
class Controls:
    """Settings, one a row.

    Attributes:
        temperature: 0 takes the likeliest token, 1 the model's own distribution.
        top_k: keep the k likeliest; 0 keeps all.
        top_p: keep the likeliest that together reach this probability; 1 keeps all.
        min_p: keep those at least this share as likely as the likeliest; 0 keeps all.
        repetition_penalty: log p of tokens that stand on the canvas is multiplied by it (Keskar et al., 2019); 1 is off.
        guidance: the weight w of u + (1 + w) (c - u), with c given the prompt and u without it (Nisonoff et al., 2024,
            LLaDA); twice the forward passes; 0 is off.
        bias: added to log p, a row of V each; -inf bans a token. None is no bias.
        hooks: functions of (log_probs, tokens, row, place) that return new log_probs, for every row.
    """

    temperature: Float[Tensor, " B"]
    top_k: Int[Tensor, " B"]
    top_p: Float[Tensor, " B"]
    min_p: Float[Tensor, " B"]
    repetition_penalty: Float[Tensor, " B"]
    guidance: Float[Tensor, " B"]
    bias: Float[Tensor, "B V"] | None = None
    hooks: tuple[Hook, ...] = ()

    @staticmethod
    def of(
        rows: int,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        guidance: float = 0.0,
        bias: Float[Tensor, " V"] | None = None,
        hooks: Sequence[Hook] = (),
    ) -> "Controls":
        """The same settings in every row.

        Raises:
            ValueError: a value out of range.
        """
        values = {
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "repetition_penalty": repetition_penalty,
            "guidance": guidance,
        }
        for name, value in values.items():
            fits, range_ = RANGES[name]
            if not fits(value):
                raise ValueError(f"{name} must be {range_}, not {value}")
        tensors = {name: torch.full((rows,), value) for name, value in values.items()}
        return Controls(**tensors, bias=None if bias is None else bias.expand(rows, -1), hooks=tuple(hooks))

    @staticmethod
    def join(parts: "Sequence[Controls]") -> "Controls":
        """The rows of several, one after the other; hooks must be the same in all.

        Raises:
            ValueError: they are not.
        """
        if any(part.hooks != parts[0].hooks for part in parts):
            raise ValueError("requests of one batch must have the same hooks")
        tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in RANGES}
        widths = [part.bias.shape[1] for part in parts if part.bias is not None]
        bias = None
        if widths:
            none = [torch.zeros(len(part.top_k), widths[0]) for part in parts]
            bias = torch.cat([zero if part.bias is None else part.bias for part, zero in zip(parts, none, strict=True)])
        return Controls(**tensors, bias=bias, hooks=parts[0].hooks)

    def row(self, index: int) -> "Controls":
        """One row's settings."""
        tensors = {name: getattr(self, name)[index : index + 1] for name in RANGES}
        return replace(self, **tensors, bias=None if self.bias is None else self.bias[index : index + 1])

    def to(self, device: torch.device) -> "Controls":
        """The same on another device."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)})

    # asked for once a run, not once a step: on a GPU every answer halts the queue
    @cached_property
    def _penalises(self) -> bool:
        return bool((self.repetition_penalty != 1).any())

    @cached_property
    def _truncates(self) -> bool:
        return bool(((self.top_k > 0) | (self.top_p < 1) | (self.min_p > 0)).any())

    def shape(
        self, log_probs: Logits, tokens: Tokens, visible: Positions, owner: Int[Tensor, " N"], place: Int[Tensor, " N"]
    ) -> Logits:
        """The distributions after repetition penalty, bias and hooks, in that order, normalised again."""
        shaped = log_probs
        if self._penalises:
            seen = torch.zeros(len(tokens), log_probs.shape[-1], dtype=torch.bool, device=tokens.device)
            row, at = visible.nonzero().unbind(-1)
            seen[row, tokens[row, at]] = True
            penalty = self.repetition_penalty[owner].to(log_probs.dtype)[:, None]
            shaped = torch.where(seen[owner], shaped * penalty, shaped)
        if self.bias is not None:
            shaped = shaped + self.bias[owner].to(log_probs.dtype)
        for hook in self.hooks:  # a hook may write into what it is given
            shaped = hook(shaped.clone(), tokens, owner, place)
        return log_probs if shaped is log_probs else torch.log_softmax(shaped, -1)

    def tempered(self, log_probs: Logits, rows: Int[Tensor, " N"]) -> Logits:
        """The distributions after temperature and truncation; at temperature 0 only after truncation."""
        temperature = self.temperature[rows]
        divisor = torch.where(temperature == 0, 1.0, temperature.clamp(min=1e-6)).to(log_probs.dtype)
        scaled = log_probs / divisor[:, None]
        if not self._truncates:
            return scaled
        return truncate(scaled, self.top_k[rows], self.top_p[rows], self.min_p[rows])

    def hesitation(self, rest: Logits, mask: Float[Tensor, " N"], rows: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        """The probability of the mask in a draw from p(mask) and (1 - p(mask)) p(token), each row by its own settings.

        `rest` is log p(token), `mask` log p(mask); temperature holds for both, truncation for the tokens.
        """
        temperature = self.temperature[rows].to(rest.dtype)
        any_token = torch.log1p(-mask.exp().clamp(max=1 - 1e-7))
        frozen = mask > rest.amax(-1) + any_token
        divisor = torch.where(temperature == 0, 1.0, temperature.clamp(min=1e-6))
        odds = (mask - any_token) / divisor - self.tempered(rest, rows).logsumexp(-1)
        return torch.where(temperature == 0, frozen.to(rest.dtype), odds.sigmoid())

    def draw(self, log_probs: Logits, rows: Int[Tensor, " N"], u: Float[Tensor, " N"]) -> Int[Tensor, " N"]:
        """A token for each distribution; `rows` says whose settings hold, `u` is its uniform random number."""
        likeliest = log_probs.argmax(-1)
        return torch.where(self.temperature[rows] == 0, likeliest, categorical(self.tempered(log_probs, rows), u))


def truncate(
    log_probs: Logits, top_k: Int[Tensor, " N"], top_p: Float[Tensor, " N"], min_p: Float[Tensor, " N"]
) -> Logits:
    """-inf outside the top k, outside the smallest set of likeliest tokens that reaches top_p, and below min_p."""
    # log 0 is -inf: nothing is below it
    floor = log_probs.amax(-1, keepdim=True) + min_p.to(log_probs.dtype).log()[:, None]
    log_probs = log_probs.masked_fill(log_probs < floor, -torch.inf)
    ordered, order = log_probs.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(ordered.shape[-1], device=ordered.device)
    probs = ordered.double().softmax(-1)
    before = probs.cumsum(-1) - probs
    keep = (rank < torch.where(top_k > 0, top_k, len(rank))[:, None]) & (
        (before < top_p[:, None]) | (top_p == 1)[:, None]
    )
    # rounding may never leave nothing: the likeliest always stays
    keep[:, 0] = True
    return torch.full_like(log_probs, -torch.inf).scatter(-1, order, ordered.masked_fill(~keep, -torch.inf))


def token_bias(vocab_size: int, bias: Mapping[int, float], banned: Sequence[int] = ()) -> Float[Tensor, " V"] | None:
    """A row of bias from single tokens' values; None if there are none.

    Raises:
        ValueError: a token that does not exist, a value that is no number, or all tokens banned.
    """
    if not bias and not banned:
        return None
    row = torch.zeros(vocab_size)
    for token, value in [*bias.items(), *((token, -torch.inf) for token in banned)]:
        if not 0 <= token < vocab_size:
            raise ValueError(f"token {token} does not exist: there are {vocab_size}")
        if value != value or value == float("inf"):
            raise ValueError(f"the bias of token {token} must be a number or -inf, not {value}")
        row[token] = value
    if bool(row.isneginf().all()):
        raise ValueError("all tokens are banned: nothing is left to write")
    return row

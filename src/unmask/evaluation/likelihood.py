"""The bound on held-out text, with its error bar.

Masked diffusion's NELBO does not depend on the schedule, so it is estimated where the variance is small: the number k of
masked tokens is uniform on 1..L, spread evenly over the draws, and the bound per token is the expected *mean*
cross-entropy of the k masked tokens (exact-k: LLaDA's estimator).
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.diffusion.corruption import Corruption
from unmask.diffusion.denoiser import Denoised, Denoiser
from unmask.diffusion.objectives import Objective, row_sum, token_nll
from unmask.diffusion.schedules import Schedule
from unmask.thought.memory import Memory
from unmask.types import Times, Tokens

Z95 = 1.96
Denoise = Callable[..., Denoised]
"""A denoiser, perhaps with what its rows remember."""


@dataclass(frozen=True)
class Estimate:
    """A mean with half the width of its 95 % interval, over rows."""

    mean: float
    ci95: float

    @staticmethod
    def over_rows(rows: Float[Tensor, " B"]) -> "Estimate":
        """From one number a row."""
        spread = float(rows.double().std()) if len(rows) > 1 else math.inf
        return Estimate(float(rows.double().mean()), Z95 * spread / math.sqrt(len(rows)))

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.ci95:.4f}"

    def scaled(self, factor: float) -> "Estimate":
        """In other units."""
        return Estimate(self.mean * factor, self.ci95 * factor)


@dataclass(frozen=True)
class Likelihood:
    """What a model says of held-out text.

    Attributes:
        nelbo: upper bound on -log p, nats a token.
        bits_per_byte: the same bound in bits a byte of UTF-8; None when the bytes are not known.
        perplexity_bound: exp(nelbo), a token.
        masked_ce: seed 003's mean cross-entropy over masked tokens, nats. Not a bound.
        rows, length, draws: the blocks of text, their tokens, and how often each was corrupted.
        per_row: each block's bound, nats a token; not part of `to_dict`.
    """

    nelbo: Estimate
    bits_per_byte: Estimate | None
    perplexity_bound: float
    masked_ce: Estimate
    rows: int
    length: int
    draws: int
    per_row: Float[Tensor, " B"] = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; an interval that one row cannot give is None."""
        return finite({name: value for name, value in asdict(self).items() if name != "per_row"})


def finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: None in their place."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def evaluate_likelihood(
    denoiser: Denoiser,
    rows: Tokens,
    corruption: Corruption,
    bound: Objective,
    *,
    exact_k: bool = True,
    bytes_per_token: float | None = None,
    draws: int = 4,
    batch_size: int = 32,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
    memory: Memory | None = None,
) -> Likelihood:
    """Bound -log p of rows of text.

    Args:
        denoiser: the model; put it in eval mode first.
        rows: whole blocks of tokens, on the model's device.
        corruption: the model's own noise.
        bound: the NELBO of that noise.
        exact_k: estimate the NELBO by masking exactly k tokens; only right for noise that masks.
        bytes_per_token: for bits a byte.
        draws: corruptions of each row.
        batch_size: rows in one forward pass.
        seed: of the corruptions.
        progress: called with the rows done.
        memory: what each row remembers, for a model that reads thoughts.
    """
    generator = torch.Generator(rows.device).manual_seed(seed)
    plain = cast(Denoise, denoiser)
    places = torch.arange(len(rows), device=rows.device)
    nelbo, masked_ce = (torch.zeros(draws, len(rows), device=rows.device) for _ in range(2))
    with torch.no_grad():
        for draw in range(draws):
            u = even_spread(len(rows), draw, draws, generator)
            for start in range(0, len(rows), batch_size):
                part = slice(start, start + batch_size)
                x0 = rows[part]
                asked = plain if memory is None else partial(plain, memory=memory.rows(places[part]))
                nelbo[draw, part], masked_ce[draw, part] = schedule_rows(
                    asked, x0, corruption, bound, u[part], generator
                )
                if exact_k:
                    nelbo[draw, part] = exact_k_rows(
                        asked, x0, corruption.schedule, u[part], denoiser.mask_id, generator
                    )
                progress(len(x0))
    estimate = Estimate.over_rows(nelbo.mean(0))
    seen = masked_ce.nanmean(0)
    return Likelihood(
        nelbo=estimate,
        bits_per_byte=estimate.scaled(1 / math.log(2) / bytes_per_token) if bytes_per_token else None,
        perplexity_bound=math.exp(min(estimate.mean, 700.0)),
        masked_ce=Estimate.over_rows(seen[seen.isfinite()]),
        rows=len(rows),
        length=rows.shape[1],
        draws=draws,
        per_row=nelbo.mean(0),
    )


def even_spread(rows: int, draw: int, draws: int, generator: torch.Generator) -> Float[Tensor, " B"]:
    """Numbers in (0, 1]: each row's draws fall into equal parts, neighbouring rows far apart (golden ratio)."""
    golden = (math.sqrt(5) - 1) / 2
    device = generator.device
    shift = torch.rand(1, generator=generator, device=device, dtype=torch.float64)
    index = torch.arange(rows, device=device, dtype=torch.float64)
    return (1 - ((golden * index + draw / draws + shift / draws) % 1)).float()


def exact_k_rows(
    denoise: Denoise, x0: Tokens, schedule: Schedule, u: Times, mask_id: int, generator: torch.Generator
) -> Float[Tensor, " B"]:
    """Each row's bound, nats a token, from ceil(u L) masked tokens."""
    length = x0.shape[1]
    k = (u * length).ceil().clamp(1, length)
    order = torch.rand(x0.shape, generator=generator, device=x0.device).argsort(dim=-1).argsort(dim=-1)
    masked = order < k[:, None]
    # the network hears the time at which this share is masked
    t = schedule.inverse(1 - k / length)
    denoised = denoise(torch.where(masked, mask_id, x0), t, select=masked)
    nll = -denoised.log_probs.gather(-1, x0[masked][:, None])[:, 0]
    return nll.new_zeros(len(k)).index_add(0, masked.nonzero()[:, 0], nll) / k


def schedule_rows(
    denoise: Denoise, x0: Tokens, corruption: Corruption, bound: Objective, t: Times, generator: torch.Generator
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Each row's bound and mean cross-entropy at time t of the model's own noise; the latter NaN where nothing is masked."""
    corrupted = corruption.corrupt(x0, t, generator)
    denoised = denoise(corrupted.xt, t, select=corrupted.scored)
    total = row_sum(token_nll(denoised, corrupted), corrupted)
    return bound(denoised, corrupted).row, total / corrupted.scored.sum(-1)

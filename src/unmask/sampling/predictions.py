"""The denoiser's answers at the open positions: asked for once, and kept while a row's canvas stays as it is."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser
from unmask.types import Lengths, Logits, Positions, Times, Tokens


class Predictions:
    """Rows without open positions are never computed; rows that did not change are not computed again.

    A model that does not read t says the same of the same canvas: a step that reveals nothing costs no forward pass.

    Args:
        denoiser: the model.
        lengths: real tokens of each row.
        guidance: each row's weight of classifier-free guidance; 0 is none.
        prompt: the given positions, masked in guidance's second canvas.
        window: predictions to which `drift` looks back; 0 for no drift.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        lengths: Lengths,
        guidance: Float[Tensor, " B"],
        prompt: Positions,
        window: int = 0,
    ) -> None:
        self.denoiser, self.lengths, self.prompt = denoiser, lengths, prompt
        self.guidance = guidance if bool((guidance > 0).any()) else None
        self.nfe = torch.zeros_like(lengths)
        self._index = torch.full(prompt.shape, -1, device=prompt.device)
        self._log_probs: Tensor | None = None
        self._drifts = torch.full((window, *prompt.shape), torch.inf, device=prompt.device) if window else None

    @property
    def drift(self) -> Float[Tensor, "B L"] | None:
        """The largest KL between successive predictions in the window, nats; inf where there were not enough."""
        return None if self._drifts is None else self._drifts.amax(0)

    def at(self, tokens: Tokens, wanted: Positions, t: Times, changed: Bool[Tensor, " B"]) -> Logits:
        """Log p(x_0 | x_t) at `wanted`, in row-major order; `changed` says which rows' canvases are new."""
        if self.denoiser.time_dependent:
            changed = torch.ones_like(changed)
        # what is not asked for any more is not known later
        self._index = torch.where(wanted, self._index, -1)
        ask = changed & wanted.any(-1)
        rows = ask.nonzero()[:, 0]
        if not len(rows):
            assert self._log_probs is not None
            return self._log_probs[self._index[wanted]]
        everyone = len(rows) == len(ask)
        fresh = self._ask(tokens, wanted, t, rows, everyone)
        self.nfe = self.nfe + ask * (1 if self.guidance is None else 1 + (self.guidance > 0).long())
        select = wanted if everyone else wanted & ask[:, None]
        if self._drifts is not None:
            self._note_drift(fresh, select, ask)
        keep = wanted & ~ask[:, None]
        if self._log_probs is not None and not everyone and bool(keep.any()):
            # old rows first, new ones behind them
            old = self._log_probs[self._index[keep]]
            self._index[keep] = torch.arange(len(old), device=old.device)
            self._index[select] = torch.arange(len(old), len(old) + len(fresh), device=old.device)
            self._log_probs = torch.cat([old, fresh])
            return self._log_probs[self._index[wanted]]
        self._index[select] = torch.arange(len(fresh), device=fresh.device)
        self._log_probs = fresh
        return fresh

    def _ask(self, tokens: Tokens, wanted: Positions, t: Times, rows: Int[Tensor, " R"], everyone: bool) -> Logits:
        lengths = self.lengths if everyone else self.lengths[rows]
        canvas, select, t = (part if everyone else part[rows] for part in (tokens, wanted, t))
        guided = torch.zeros(0, dtype=torch.long, device=rows.device)
        if self.guidance is not None:
            guided = (self.guidance[rows] > 0).nonzero()[:, 0]
            blind = canvas[guided].masked_fill(self.prompt[rows[guided]], self.denoiser.mask_id)
            # both canvases in one forward pass
            canvas, select = torch.cat([canvas, blind]), torch.cat([select, select[guided]])
            t, lengths = torch.cat([t, t[guided]]), torch.cat([lengths, lengths[guided]])
        width = int(lengths.max())
        canvas, select = canvas[:, :width], select[:, :width]
        padded = None if bool((lengths == width).all()) else lengths
        with torch.no_grad():
            log_probs = self.denoiser(canvas, t, lengths=padded, select=select).log_probs
        if not len(guided):
            return log_probs
        assert self.guidance is not None
        owner = select.nonzero()[:, 0]
        own, free = log_probs[owner < len(rows)], log_probs[owner >= len(rows)]
        owner = owner[owner < len(rows)]
        weight = self.guidance[rows][owner].to(own.dtype)
        has = weight > 0
        given = own[has]
        mixed = free + (1 + weight[has])[:, None] * (given - free)
        # what is impossible (the mask) stays so; -inf - -inf is not a number
        mixed = mixed.masked_fill(given.isneginf(), -torch.inf)
        result = own.clone()
        result[has] = torch.log_softmax(mixed, -1)
        return result

    def _note_drift(self, fresh: Logits, select: Positions, ask: Bool[Tensor, " B"]) -> None:
        assert self._drifts is not None
        latest = torch.full(select.shape, torch.inf, device=select.device)
        known = select & (self._index >= 0)
        if self._log_probs is not None:
            before = self._log_probs[self._index[known]]
            now = fresh[known[select]]
            change = torch.where(now.isneginf(), 0.0, now.exp() * (now - before))
            latest[known] = change.sum(-1).float()
        moved = torch.cat([self._drifts[1:], latest[None]])
        self._drifts = torch.where(ask[None, :, None], moved, self._drifts)

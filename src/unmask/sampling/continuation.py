"""Writing from left to right with an autoregressive model: the twin that diffusion is measured against."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.sampling.controls import Controls
from unmask.sampling.draws import Purpose, uniforms
from unmask.sampling.frame import Frame, State
from unmask.sampling.loop import Stop
from unmask.types import Lengths, Tokens


@runtime_checkable
class Reader(Protocol):
    """A causal model that remembers what it has read."""

    def read(self, tokens: Tokens, lengths: Lengths) -> Float[Tensor, "B V"]:
        """Read `lengths` more tokens of each row; log p of what follows, the mask at -inf."""
        ...

    def keep(self, rows: Int[Tensor, " R"]) -> None:
        """Forget all other rows."""
        ...


def write_on(
    reader: Reader,
    canvas: Tokens,
    mask_id: int,
    *,
    begin_id: int | None = None,
    seeds: Int[Tensor, " B"],
    controls: Controls,
    lengths: Lengths | None = None,
    stop: Stop | None = None,
) -> Iterator[Frame]:
    """Fill the masks at the end of each row, one token after the other; rows that are done leave the batch.

    Args:
        reader: the model; nothing read yet.
        canvas: (B, L): a prompt and masks, then padding beyond `lengths`.
        mask_id: the mask.
        begin_id: what stands before the first token; None: the mask.
        seeds: one a row; a row depends on its own prompt, settings and seed only.
        controls: temperature, truncation and penalties of each row.
        lengths: real tokens of each row.
        stop: says where rows end early.

    Yields:
        The canvas as given, then one frame a token.

    Raises:
        ValueError: something is given after a mask.
        FloatingPointError: the model's output is not a number.
    """
    rows, length = canvas.shape
    lengths = torch.full((rows,), length, device=canvas.device) if lengths is None else lengths
    inside = torch.arange(length, device=canvas.device) < lengths[:, None]
    masked = (canvas == mask_id) & inside
    given = lengths - masked.sum(-1)
    if bool((masked & (torch.arange(length, device=canvas.device) < given[:, None])).any()):
        raise ValueError("an autoregressive model writes from left to right: nothing can be given after a hole")
    tokens, confidence, nfe = canvas, (~masked).float(), torch.zeros_like(lengths)
    states = torch.where(masked, State.MASKED, State.PROMPT)
    total = masked.sum(-1).clamp(min=1)
    yield Frame(0, masked.sum(-1) / total, tokens, states, confidence, nfe, lengths)
    alive = masked.any(-1).nonzero()[:, 0]
    begin = torch.full_like(canvas[:, :1], mask_id if begin_id is None else begin_id)
    unread, sizes, step = torch.cat([begin, canvas], 1)[:, : int(given.max()) + 1], given + 1, 0
    if len(alive) < rows:
        reader.keep(alive)
    while len(alive):
        log_probs = reader.read(unread[alive], sizes[alive])
        if bool(log_probs[:, 0].isnan().any()):
            raise FloatingPointError(f"the model's output is not a number at step {step + 1}")
        place = (given + step)[alive]
        visible = inside & ~masked
        log_probs = controls.shape(log_probs, tokens, visible, alive, place)
        drawn = controls.draw(log_probs, alive, uniforms(seeds, step, length, Purpose.TOKEN)[alive, place])
        tokens, confidence, masked, nfe = tokens.clone(), confidence.clone(), masked.clone(), nfe.clone()
        tokens[alive, place] = drawn
        confidence[alive, place] = log_probs.gather(-1, drawn[:, None])[:, 0].exp().float()
        masked[alive, place] = False
        nfe[alive] += 1
        states = torch.where(states == State.NEW, State.KEPT, states)
        states[alive, place] = State.NEW
        if stop is not None:
            lengths = stop(tokens, masked, lengths)
            masked = masked & (torch.arange(length, device=canvas.device) < lengths[:, None])
        step += 1
        yield Frame(step, masked.sum(-1) / total, tokens, states, confidence, nfe, lengths)
        unread, sizes = torch.full_like(begin, mask_id), torch.ones_like(lengths)
        unread[alive, 0] = drawn
        on = masked.any(-1)[alive]
        if not bool(on.all()):
            reader.keep(on.nonzero()[:, 0])
        alive = alive[on]

"""Any masked language model (BERT and its kin) as a backbone: one pass gives logits and hidden states."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unmask.types import Lengths, Positions, Times, Tokens

WINDOWS = 16
"""A text may be this many times as long as the model's canvas; it is then read through overlapping windows."""
MIXING = ("convbert", "fnet", "nystromformer", "yoso")
"""Kinds that mix what is attended with what is not: rows of different lengths cannot share a pass."""


@dataclass(frozen=True)
class Surround:
    """What a masked language model is used to see around a text: [CLS] before it, [SEP] after it, [PAD] to fill up."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    padding: int


@dataclass(frozen=True)
class View:
    """One pass over text: logits (N, V) at the selected positions, and the states that the head reads, (B, L, D)."""

    logits: Tensor
    states: Float[Tensor, "B L D"]


class MaskedLM(nn.Module):
    """A network of transformers' AutoModelForMaskedLM as tokens to logits.

    Args:
        network: takes input_ids and attention_mask; its `base_model` gives the states that its head reads.
        surround: the special tokens around a text.
        vocab_size: V, the tokenizer's; what the network's table has beyond it is never meant.
        length: the longest canvas, in tokens, without the special ones.
    """

    def __init__(self, network: nn.Module, surround: Surround, vocab_size: int, length: int) -> None:
        super().__init__()
        self.network, self.surround = network, surround
        self.vocab_size, self.length = vocab_size, length
        self.longest = WINDOWS * length
        self.mixing = getattr(getattr(network, "config", None), "model_type", None) in MIXING

    @property
    def checkpointing(self) -> bool:
        """Whether activations are recomputed in the backward pass."""
        return bool(getattr(self.network, "is_gradient_checkpointing", False))

    @checkpointing.setter
    def checkpointing(self, wanted: bool) -> None:
        if wanted:
            cast(Any, self.network).gradient_checkpointing_enable()

    def architecture(self) -> dict[str, Any]:
        """What rebuilds the network without its weights, and the surround."""
        config: dict[str, Any] = cast(Any, self.network).config.to_dict()
        return {"config": config, "surround": [*map(list, (self.surround.before, self.surround.after))]}

    def forward(
        self, tokens: Tokens, t: Times, *, lengths: Lengths | None = None, select: Positions | None = None
    ) -> Tensor:
        """Logits (N, V) at `select`, in row-major order; (B, L, V) when it is not given. t is not read: masks are counted.

        Raises:
            ValueError: more tokens than `longest`, or a network that keeps no state for each token.
        """
        everywhere = torch.ones_like(tokens, dtype=torch.bool) if select is None else select
        logits = self.view(tokens, lengths=lengths, select=everywhere).logits
        return logits.view(*tokens.shape, -1) if select is None else logits

    def view(self, tokens: Tokens, *, lengths: Lengths | None = None, select: Positions) -> View:
        """Logits at `select` and all states, in one pass; a long text is read through windows that overlap by half."""
        rows, length = tokens.shape
        if length > self.longest:
            raise ValueError(f"{length} tokens are more than the {self.longest} that this model can read in windows")
        sizes = torch.full((rows,), length, device=tokens.device) if lengths is None else lengths
        if length <= self.length:
            return self._alike(tokens, sizes, select) if self.mixing else self._look(tokens, sizes, select)
        windows = Windows.over(sizes, length, self.length)
        # each position is answered by the window in whose middle it stands
        found = self._look(
            tokens[windows.row, windows.place], windows.size, select[windows.row, windows.place] & windows.own
        )
        states = torch.zeros(rows, length, found.states.shape[-1], dtype=found.states.dtype, device=tokens.device)
        owner, at = windows.own.nonzero().unbind(-1)
        states[windows.row[owner, 0], windows.place[owner, at]] = found.states[owner, at]
        return View(found.logits, states)

    def _alike(self, tokens: Tokens, lengths: Lengths, select: Positions) -> View:
        """Rows of each length in a pass of their own, for networks whose padding would change what they say."""
        answers: list[tuple[Tensor, View]] = []
        for size in cast(Sequence[int], lengths.unique().tolist()):
            rows = (lengths == size).nonzero()[:, 0]
            part = self._look(tokens[rows, :size], lengths[rows], select[rows, :size])
            answers.append((rows, part))
        first = answers[0][1]
        states = first.states.new_zeros(*tokens.shape, first.states.shape[-1])
        logits = first.logits.new_zeros(*tokens.shape, first.logits.shape[-1])
        for rows, part in answers:
            width = part.states.shape[1]
            states[rows, :width] = part.states
            wide = logits.new_zeros(len(rows), width, logits.shape[-1])
            wide[select[rows, :width]] = part.logits
            logits[rows, :width] = wide
        return View(logits[select], states)

    def _look(self, tokens: Tokens, lengths: Lengths, select: Positions) -> View:
        """One pass over rows that fit; the head runs only at `select`."""
        before, after = self.surround.before, self.surround.after
        lead, length = len(before), tokens.shape[1]
        inside = torch.arange(length, device=tokens.device) < lengths[:, None]
        read = tokens.new_full((len(tokens), lead + length + len(after)), self.surround.padding)
        read[:, :lead] = tokens.new_tensor(before)
        read[:, lead : lead + length] = torch.where(inside, tokens, self.surround.padding)
        ends = lead + lengths[:, None] + torch.arange(len(after), device=tokens.device)
        read.scatter_(1, ends, tokens.new_tensor(after).expand(len(tokens), -1))
        attended = torch.arange(read.shape[1], device=tokens.device) < (lengths + lead + len(after))[:, None]
        states: list[Tensor] = []

        def narrow(module: nn.Module, given: Any, output: Any) -> Any:
            """Hand the head the selected positions only, as one row."""
            if output[0].shape[1] != read.shape[1]:
                raise ValueError(
                    "this network has no state for each token, so its head cannot be asked for some of them"
                )
            states.append(output[0][:, lead : lead + length])
            output.last_hidden_state = states[0][select][None]
            return output

        handle = cast(nn.Module, self.network.base_model).register_forward_hook(narrow)
        try:
            output: Any = self.network(input_ids=read, attention_mask=attended.long(), return_dict=True)
        finally:
            handle.remove()
        return View(output.logits[0][:, : self.vocab_size], states[0])


@dataclass(frozen=True)
class Windows:
    """Overlapping windows of equal width over rows of any lengths.

    Attributes:
        row: the row of each window, (M, 1).
        place: the positions that it sees, (M, W).
        size: how many of them are real.
        own: the positions that it answers for, (M, W): each position of a row belongs to exactly one window.
    """

    row: Int[Tensor, "M 1"]
    place: Int[Tensor, "M W"]
    size: Int[Tensor, " M"]
    own: Bool[Tensor, "M W"]

    @staticmethod
    def over(lengths: Lengths, length: int, width: int) -> "Windows":
        """Windows that begin every half width, the last one at the row's end; where two overlap they meet in the middle.

        What lies beyond a row's length belongs to its last window, if that sees it.
        """
        spans: list[tuple[int, int, int, int, int]] = []
        for row, size in enumerate(cast(Sequence[int], lengths.tolist())):
            starts = [*range(0, max(size - width, 0), max(width // 2, 1)), max(size - width, 0)]
            edges = [0, *((a + b + width) // 2 for a, b in zip(starts, starts[1:], strict=False)), length]
            spans += [
                (row, start, min(width, size), first, last)
                for start, first, last in zip(starts, edges, edges[1:], strict=False)
            ]
        row, start, size, first, last = torch.tensor(spans, device=lengths.device).unbind(-1)
        place = start[:, None] + torch.arange(width, device=lengths.device)
        own = (place >= first[:, None]) & (place < last[:, None]) & (place < length)
        return Windows(row[:, None], place.clamp(max=length - 1), size, own)

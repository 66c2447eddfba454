"""Words that a text must contain, put where the model finds them likeliest before anything else is written."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser
from unmask.sampling.draws import Purpose, categorical, uniforms
from unmask.types import Lengths, Tokens


def place_words(
    denoiser: Denoiser,
    canvas: Tokens,
    words: Sequence[Sequence[Sequence[int]]],
    *,
    seeds: Int[Tensor, " B"],
    lengths: Lengths,
) -> tuple[Tokens, Int[Tensor, " B"]]:
    """Write each row's words, the longest first, over masks of its canvas.

    The place is drawn with the probability that the model gives the word there, given what stands already.

    Args:
        denoiser: the model.
        canvas: (B, L) with masks.
        words: token ids of each word of each row.
        seeds: one a row.
        lengths: real tokens of each row.

    Returns:
        The canvas with the words, and the forward passes that each row took: one a word.

    Raises:
        ValueError: no run of masks is long enough for a word.
    """
    canvas = canvas.clone()
    ordered = [sorted(row, key=len, reverse=True) for row in words]
    nfe = torch.tensor([len(row) for row in ordered], device=canvas.device)
    inside = torch.arange(canvas.shape[1], device=canvas.device) < lengths[:, None]
    for turn in range(int(nfe.max()) if len(ordered) else 0):
        rows = (nfe > turn).nonzero()[:, 0]
        masked = (canvas[rows] == denoiser.mask_id) & inside[rows]
        t = torch.ones(len(rows), device=canvas.device)
        with torch.no_grad():
            seen = denoiser(canvas[rows], t, lengths=lengths[rows], select=masked).log_probs
        owner, place = masked.nonzero().unbind(-1)
        u = uniforms(seeds[rows], turn, 1, Purpose.PLACE)[:, 0]
        for index, row in enumerate(rows.tolist()):
            word = torch.tensor(ordered[row][turn], device=canvas.device)
            at = torch.full((canvas.shape[1], len(word)), -torch.inf, device=canvas.device, dtype=seen.dtype)
            mine = owner == index
            at[place[mine]] = seen[mine][:, word]
            # the word's log p at each start: its j-th token j places on
            starts = max(0, canvas.shape[1] - len(word) + 1)
            total = sum((at[j : j + starts, j] for j in range(len(word))), torch.zeros(starts, device=canvas.device))
            rest = [len(later) for later in ordered[row][turn + 1 :]]
            fits = [room_for(runs_left(masked[index].tolist(), start, len(word)), rest) for start in range(starts)]
            total = total.masked_fill(~torch.tensor(fits, device=canvas.device), -torch.inf)
            if not starts or bool(total.isneginf().all()):
                raise ValueError(f"there is no room for a forced word of {len(word)} tokens: leave a larger hole")
            start = int(categorical(total[None], u[index : index + 1])[0])
            canvas[row, start : start + len(word)] = word
    return canvas, nfe


def runs_left(masked: Sequence[bool], start: int, size: int) -> list[int]:
    """The lengths of the runs of masks that are left when `size` of them from `start` are filled."""
    runs = [0]
    for place, is_open in enumerate(masked):
        if is_open and not start <= place < start + size:
            runs[-1] += 1
        elif runs[-1]:
            runs.append(0)
    return runs


def room_for(runs: Sequence[int], words: Sequence[int]) -> bool:
    """Whether words of these sizes, the longest first, fit into runs of these lengths, each into the fullest that holds it."""
    left = list(runs)
    for word in words:
        holding = [run for run in left if run >= word]
        if not holding:
            return False
        left[left.index(min(holding))] -= word
    return True

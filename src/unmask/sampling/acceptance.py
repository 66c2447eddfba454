"""Global acceptance (seed 000): proposals are kept only if the whole gains in coherence.

Nothing here knows words: `Embed` turns runs of token ids into vectors of length 1, as many at once as it is given.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.sampling.picking import Proposal
from unmask.types import Positions, Tokens

Run = tuple[int, ...]
Embed = Callable[[Sequence[Run]], Float[Tensor, "N E"]]
"""Runs of tokens -> their embeddings, each of length 1."""

AHEAD = 3
"""Prefixes of a row's queue that are tried in one call: what lies behind a fall was embedded for nothing."""


def accept(
    embed: Embed,
    theme: Float[Tensor, "B E"],
    proposal: Proposal,
    chosen: Int[Tensor, " N"],
    base: Tokens,
    written: Positions,
) -> Int[Tensor, " N"]:
    """Each proposal in order of its own gain, kept only if the text is no less coherent with it than without.

    The text before any of them is `base`, with the likeliest token everywhere; where a proposal falls, that stays. One by one
    this takes a call for each proposal of each row; here a call embeds the next few prefixes of every row's queue, and after a
    row's first fall the rest of its queue is asked again without it. The results are the same.

    Args:
        embed: runs of tokens to vectors.
        theme: what each row is about.
        proposal: the positions.
        chosen: a token for each.
        base: the canvases with the likeliest tokens.
        written: what counts as the text.
    """
    owner, place = proposal.owner, proposal.place
    before = base[owner, place]
    changing = (chosen != before).nonzero()[:, 0]
    alone = base[owner[changing]].clone()
    alone[torch.arange(len(changing), device=alone.device), place[changing]] = chosen[changing]
    asked = [*runs(base, written), *runs(alone, written[owner[changing]])]
    found = rounded(embed(asked), torch.cat([theme, theme[owner[changing]]]))
    current: list[float] = found[: len(base)].tolist()
    gains: list[float] = (found[len(base) :] - found[: len(base)][owner[changing]]).tolist()
    queues: dict[int, list[int]] = {}
    for i in sorted(range(len(changing)), key=lambda i: (-gains[i], i)):
        queues.setdefault(int(owner[changing[i]]), []).append(int(changing[i]))
    text, result = base.clone(), before.clone()
    while queues:
        heads = {row: queue[:AHEAD] for row, queue in queues.items()}
        scores = iter(prefix_scores(embed, theme, text, written, place, chosen, heads))
        later: dict[int, list[int]] = {}
        for row, head in heads.items():
            values = [next(scores) for _ in head]
            kept = 0
            while kept < len(head) and values[kept] >= current[row]:
                current[row] = values[kept]
                kept += 1
            for index in head[:kept]:
                text[row, place[index]] = result[index] = chosen[index]
            fallen = kept < len(head)
            if rest := queues[row][kept + fallen :]:
                later[row] = rest
        queues = later
    return result


def prefix_scores(
    embed: Embed,
    theme: Float[Tensor, "B E"],
    text: Tokens,
    written: Positions,
    place: Int[Tensor, " N"],
    chosen: Int[Tensor, " N"],
    queues: dict[int, list[int]],
) -> list[float]:
    """The coherence of each row with the first proposal of its queue, with the first two, and so on; queue after queue."""
    prefixes: list[Run] = []
    owners: list[int] = []
    for row, queue in queues.items():
        trial, seen = text[row].clone(), written[row][None]
        for index in queue:
            trial[place[index]] = chosen[index]
            prefixes += runs(trial[None], seen)
        owners += [row] * len(queue)
    return rounded(embed(prefixes), theme[torch.tensor(owners, device=theme.device)]).tolist()


def run(tokens: Sequence[int], seen: Sequence[bool], start: int, end: int) -> Run:
    """The tokens of [start, end) that are seen."""
    return tuple(token for token, known in zip(tokens[start:end], seen[start:end], strict=True) if known)


def runs(tokens: Tokens, seen: Positions) -> list[Run]:
    """The tokens of each row that are seen."""
    return [run(row, known, 0, len(row)) for row, known in zip(tokens.tolist(), seen.tolist(), strict=True)]


def rounded(embeddings: Float[Tensor, "*S E"], theme: Float[Tensor, "*T E"]) -> Float[Tensor, "*S"]:
    """Cosines to 2^-14: far coarser than the rounding errors of a batch, far finer than any difference worth heeding."""
    return ((embeddings * theme).sum(-1).double() * 2.0**14).round() / 2.0**14

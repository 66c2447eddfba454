"""Coherence (seed 000): candidates weighed by meaning at three scales."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.sampling.acceptance import Embed, Run, accept, rounded, run, runs
from unmask.sampling.adaptive import check_share
from unmask.sampling.picking import Narrowing, Proposal, settle, shortlist
from unmask.types import Positions, Tokens

NEIGHBOURS = 1
"""Tokens on either side that the local scale sees: a run of three."""


@dataclass(frozen=True)
class Scales:
    """How much each scale counts: a run of three tokens, a window, all that is written; and whether the window grows.

    What was given is the theme, and no part of the whole: it would drown what is written.
    """

    local: float = 0.3
    phrase: float = 0.3
    whole: float = 0.4
    window: int = 5
    expanding: bool = True

    def __post_init__(self) -> None:
        """Refuse weights that weigh nothing."""
        if min(self.local, self.phrase, self.whole) < 0 or self.local + self.phrase + self.whole <= 0:
            raise ValueError("the weights of the three scales must be 0 or more, and not all 0")
        if self.window < 1:
            raise ValueError(f"context_window must be at least 1, not {self.window}")

    def reach(self, number: int, steps: int) -> int:
        """Tokens on either side that the phrase scale sees at a step: up to twice the window at the last one."""
        growth = number / (steps - 1) if self.expanding and steps > 1 else 0.0
        return max(1, int(self.window * (1 + min(growth, 1.0))))


@dataclass(frozen=True)
class Matrix:
    """Seed 000's matrix of length x batch x candidates x embedding, held for the open positions only.

    Attributes:
        owner: the row of each open position, (N,).
        place: where it stands there.
        candidates: the tokens that are weighed, (N, C).
        embeddings: what the text would mean with each: the scales' embeddings, weighted and added up, (N, C, E). Its product
            with a direction of length 1 is the weighted sum of the scales' cosines.
    """

    owner: Int[Tensor, " N"]
    place: Int[Tensor, " N"]
    candidates: Int[Tensor, "N C"]
    embeddings: Float[Tensor, "N C E"]

    def scores(self, theme: Float[Tensor, "B E"]) -> Float[Tensor, "N C"]:
        """The coherence of each candidate with its row's theme; rounded, so that a batch's rounding errors decide nothing."""
        return rounded(self.embeddings, theme[self.owner][:, None])

    def dense(self, rows: int, length: int) -> Float[Tensor, "L B C E"]:
        """The whole matrix; zeros where nothing is open."""
        whole = self.embeddings.new_zeros(length, rows, *self.embeddings.shape[1:])
        whole[self.place, self.owner] = self.embeddings
        return whole


@dataclass(frozen=True)
class Coherent:
    """Draws among the candidates that keep to the theme, and keeps what does not take the text away from it.

    Attributes:
        embed: runs of tokens to vectors.
        narrowing: the width of each step.
        scales: the scales' weights.
        candidates: at most this many are weighed at a position.
        min_threshold: a candidate's coherence must be at least this share of the best one's.
        weight: what a coherence of 1 adds to a candidate's log-probability, before the temperature.
        accepting: whether proposals are dropped that make the whole text less coherent than the likeliest token would.
        shortlist: weigh the larger scales for this many candidates a position, chosen by the tokens' own embeddings, which then
            stand in for the smallest scale; 0: for all.
        memory: what is added to a row's theme; None: nothing.
    """

    embed: Embed
    narrowing: Narrowing = field(default_factory=Narrowing)
    scales: Scales = field(default_factory=Scales)
    candidates: int = 50
    min_threshold: float = 0.9
    weight: float = 10.0
    accepting: bool = True
    shortlist: int = 0
    memory: Float[Tensor, " E"] | None = None

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.candidates < 1:
            raise ValueError(f"num_candidates must be at least 1, not {self.candidates}")
        check_share("min_threshold", self.min_threshold)
        if self.shortlist and not self.scales.phrase + self.scales.whole:
            raise ValueError("a shortlist is weighed at the larger scales: give one of them a weight")

    def __call__(self, proposal: Proposal) -> Int[Tensor, " N"]:
        """A token for each position."""
        width = min(self.candidates, self.narrowing.at(proposal.number, proposal.log_probs.shape[-1]))
        candidates, log_probs = shortlist(proposal, width)
        likeliest = proposal.log_probs.argmax(-1)
        base = proposal.tokens.clone()
        base[proposal.owner, proposal.place] = likeliest
        known = known_positions(proposal)
        written = known & ~proposal.given
        theme = self.theme(proposal)
        possible, own = log_probs.isfinite(), None
        if self.shortlist:
            own = self.embed([(token,) for token in candidates.flatten().tolist()]).view(*candidates.shape, -1)
            near = rounded(own, theme[proposal.owner][:, None])
            possible &= best_of(log_probs + self.weight * near, self.shortlist)
        matrix = self.matrix(proposal, candidates, possible, base, known, written, own)
        coherence = matrix.scores(theme).masked_fill(~possible, -torch.inf)
        best = coherence.amax(-1, keepdim=True)
        # below nothing a share of the best is no lower bound
        keeps = coherence >= torch.where(best > 0, self.min_threshold * best, best)
        temperature = proposal.controls.temperature[proposal.owner].double()[:, None]
        weighed = log_probs.double() + self.weight * coherence / torch.where(temperature == 0, 1.0, temperature)
        drawn = settle(proposal, weighed.masked_fill(~keeps, -torch.inf))
        chosen = candidates.gather(-1, drawn[:, None])[:, 0]
        return accept(self.embed, theme, proposal, chosen, base, written) if self.accepting else chosen

    def theme(self, proposal: Proposal) -> Float[Tensor, "B E"]:
        """What each row is about: what the request gave, and what is remembered of such texts."""
        given = self.embed(runs(proposal.tokens, proposal.given))
        if self.memory is None:
            return given
        return torch.nn.functional.normalize(given + self.memory.to(given), dim=-1)

    def matrix(
        self,
        proposal: Proposal,
        candidates: Int[Tensor, "N C"],
        possible: Bool[Tensor, "N C"],
        base: Tokens,
        known: Positions,
        written: Positions,
        own: Float[Tensor, "N C E"] | None = None,
    ) -> Matrix:
        """Every candidate's text at three scales, all in one call; `own` stands in for the smallest scale, where it is given."""
        scales = self.scales
        reach = scales.reach(proposal.number, self.narrowing.steps)
        near, far, tokens = known.tolist(), written.tolist(), base.tolist()
        views = [(scales.local, NEIGHBOURS, near), (scales.phrase, reach, near), (scales.whole, base.shape[1], far)]
        wanted = [view for view in views[0 if own is None else 1 :] if view[0]]
        asked: list[Run] = []
        for index, (row, place) in enumerate(zip(proposal.owner.tolist(), proposal.place.tolist(), strict=True)):
            around = [
                (
                    run(tokens[row], seen[row], max(place - side, 0), place),
                    run(tokens[row], seen[row], place + 1, place + 1 + side),
                )
                for _, side, seen in wanted
            ]
            for token, fits in zip(candidates[index].tolist(), possible[index].tolist(), strict=True):
                if fits:
                    asked += [(*before, token, *after) for before, after in around]
        found = self.embed(asked)
        weights = found.new_tensor([weight for weight, _, _ in wanted])
        embeddings = found.new_zeros(*candidates.shape, found.shape[-1])
        embeddings[possible] = (found.view(-1, len(wanted), found.shape[-1]) * weights[:, None]).sum(1)
        if own is not None:
            embeddings = embeddings + scales.local * own
        total = sum(weight for weight, _, _ in views)
        return Matrix(proposal.owner, proposal.place, candidates, embeddings / total)


def known_positions(proposal: Proposal) -> Positions:
    """What has a token once the revealed positions are filled."""
    known = proposal.visible.clone()
    known[proposal.owner, proposal.place] = True
    return known


def best_of(score: Float[Tensor, "N C"], count: int) -> Bool[Tensor, "N C"]:
    """The highest `count` of each row."""
    chosen = score.topk(min(count, score.shape[-1]), -1).indices
    return torch.zeros_like(score, dtype=torch.bool).scatter(-1, chosen, True)

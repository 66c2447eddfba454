"""The state of a batch on its way from masks to text, and one step of it."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser
from unmask.diffusion.schedules import Schedule
from unmask.sampling.controls import Controls
from unmask.sampling.doubt import set_apart
from unmask.sampling.draws import Purpose, uniforms
from unmask.sampling.frame import Frame, State
from unmask.sampling.picking import Proposal
from unmask.sampling.predictions import Predictions
from unmask.sampling.review import Review
from unmask.sampling.sampler import Sampler
from unmask.sampling.scores import entropies
from unmask.sampling.step import Candidates, Look, Step
from unmask.types import Lengths, Logits, Positions, Times, Tokens


class Walk:
    """Each row is in its own block, at its own time; see `denoise` for the arguments."""

    def __init__(
        self,
        denoiser: Denoiser,
        canvas: Tokens,
        sampler: Sampler,
        steps: Int[Tensor, " B"],
        seeds: Int[Tensor, " B"],
        controls: Controls,
        lengths: Lengths,
        trained_with: Schedule | None,
        free: Positions | None,
    ) -> None:
        self.sampler, self.seeds, self.controls = sampler, seeds, controls
        self.lengths, self.trained_with, self.mask_id = lengths, trained_with, denoiser.mask_id
        self.tokens = canvas
        self.valid = torch.arange(canvas.shape[1], device=canvas.device) < lengths[:, None]
        self.masked = (canvas == self.mask_id) & self.valid
        self.holes = self.masked if free is None else self.masked | (free & self.valid)
        self.states = torch.where(self.masked, State.MASKED, torch.where(self.holes, State.KEPT, State.PROMPT))
        self.confidence = (~self.masked).float()
        # what the model says of visible tokens in this step, and how often each was reopened for it
        self.doubt = None if sampler.doubt is None else torch.zeros_like(self.confidence)
        self.reopenings = torch.zeros_like(canvas)
        prompt = self.valid & ~self.holes
        self.predictions = Predictions(denoiser, lengths, controls.guidance, prompt, sampler.window)
        self.changed = torch.ones_like(seeds, dtype=torch.bool)
        self.size, self.total = sampler.block or canvas.shape[1], self.holes.sum(-1)
        self.block_of = ((self.holes.cumsum(-1) - 1) // self.size).masked_fill(~self.holes, -1)
        self.blocks = self.block_of.amax(-1) + 1
        self.steps = steps
        # the row's block, the steps it took there, its time there, and the review turns after the last block
        self.block, self.index, self.turns = (torch.zeros_like(seeds) for _ in range(3))
        self.t = torch.ones(len(seeds), dtype=torch.float64, device=canvas.device)
        # what stood where a review looks again; -1 elsewhere
        self.old = torch.full_like(canvas, -1)
        self.drawn, self.edited = torch.zeros_like(self.holes), torch.zeros_like(seeds)
        self.entropy = torch.zeros_like(self.confidence)
        self.done = self.blocks == 0
        self.number = 0

    def frame(self) -> Frame:
        """The state as it is."""
        blocks = self.blocks.clamp(min=1)
        t = torch.where(self.ended | self.done, 0.0, (self.t + blocks - 1 - self.block) / blocks).float()
        return Frame(
            self.number, t, self.tokens, self.states, self.confidence, self.predictions.nfe, self.lengths, self.doubt
        )

    @property
    def ended(self) -> Bool[Tensor, " B"]:
        """Rows whose last block is full: only reviews are left."""
        return self.block >= self.blocks

    def goes_on(self) -> bool:
        """Whether any row is not done."""
        return not bool(self.done.all())

    def advance(self) -> None:
        """One step of every row that is not done: predict, choose, draw, reopen."""
        here = (self.block_of == self.block[:, None]) | self.ended[:, None]
        active = self.holes & here & ~self.done[:, None]
        wanted = self.masked & active
        asked = wanted if self.doubt is None else active
        log_probs = self.predictions.at(self.tokens, asked, self._heard(), self.changed)
        # one value that is not a number spoils a whole distribution: a column shows it
        if bool(log_probs[:, 0].isnan().any()):
            raise FloatingPointError(f"the model's output is not a number at step {self.number + 1}")
        owner, place = wanted.nonzero().unbind(-1)
        mask = None
        if self.sampler.frank:
            log_probs, mask = set_apart(log_probs, self.mask_id)
        if self.doubt is not None and mask is not None:
            self.doubt = torch.zeros_like(self.doubt)
            self.doubt[asked] = torch.where(wanted[asked], 0.0, mask.exp()).float()
            log_probs, mask = log_probs[wanted[asked]], mask[wanted[asked]]
        visible = self.valid & ~self.masked
        log_probs = self.controls.shape(log_probs, self.tokens, visible, owner, place)
        if bool(log_probs[:, 0].isnan().any()):
            raise ValueError(f"bias and hooks left no token to choose from at step {self.number + 1}")
        step, reopened = self._step(active)
        self._reveal(step, log_probs, mask, owner, place)
        if reopened is not None:
            self._reopen(reopened)
        self._move_on(step.s)

    def cut(self, lengths: Lengths) -> None:
        """End rows early where their text is shorter than their canvas."""
        shorter = lengths < self.lengths
        self.lengths = torch.where(shorter, lengths, self.lengths)
        self.valid = torch.arange(self.tokens.shape[1], device=self.tokens.device) < self.lengths[:, None]
        self.holes, self.masked = self.holes & self.valid, self.masked & self.valid
        self.done = self.done | (shorter & ~self.masked.any(-1))

    def _heard(self) -> Times:
        """The time that a model which reads it is told."""
        if self.trained_with is None:
            return self.frame().t
        share = self.masked.sum(-1) / self.lengths.clamp(min=1)
        return self.trained_with.inverse(1 - share).clamp(0, 1)

    def _step(self, active: Positions) -> tuple[Step, Positions | None]:
        """What the rule sees, and what remasking reopens by chance."""
        sampler, masked, settled = self.sampler, self.masked & active, active & ~self.masked
        # a block's share of the steps is its share of the masks, but at least one
        ends = (torch.stack([self.block, self.block + 1]) * self.size).clamp(max=self.total)
        first, last = ends * self.steps // self.total.clamp(min=1)
        budget = (last - first).clamp(min=1)
        u = uniforms(self.seeds, self.number, 1, Purpose.TIME)[:, 0]
        s = torch.where(self.ended, 0.0, sampler.clock(self.t, self.index, budget, masked.sum(-1), u))
        before, after, start = (sampler.schedule.masked(time) for time in (self.t, s, torch.ones_like(s)))
        sigma, reopened = torch.zeros_like(self.confidence), None
        if sampler.remask is not None:
            # nothing is reopened by chance once the text is whole
            sigma = sampler.remask(before, after, self.t, settled, self.confidence) * (s > 0)[:, None]
            chance = uniforms(self.seeds, self.number, sigma.shape[1], Purpose.REMASK)
            reopened = settled & (chance < sigma)
        if sampler.doubt is not None and self.doubt is not None:
            doubted = sampler.doubt.reopen(self.doubt, settled, self.reopenings) & (s > 0)[:, None]
            self.reopenings = self.reopenings + doubted
            reopened = doubted if reopened is None else doubted | reopened
        step = Step(
            number=self.number,
            seeds=self.seeds,
            index=self.index,
            budget=budget,
            t=self.t,
            s=s,
            before=before,
            after=torch.where(s == 0, 0.0, after),
            start=start,
            masked=masked,
            total=active.sum(-1),
            sigma=sigma,
            reopening=torch.zeros_like(self.index) if reopened is None else reopened.sum(-1),
            drift=self.predictions.drift,
            again=self.old >= 0,
        )
        return step, reopened

    def _reveal(
        self,
        step: Step,
        log_probs: Logits,
        mask: Float[Tensor, " N"] | None,
        owner: Int[Tensor, " N"],
        place: Int[Tensor, " N"],
    ) -> None:
        """Choose positions by the rule, confirm what a review accepts, draw the rest."""
        sampler, controls = self.sampler, self.controls
        u = step.uniforms(Purpose.TOKEN)[owner, place]
        drawn = controls.draw(log_probs, owner, u) if sampler.drawn else None
        seen = log_probs
        if sampler.scores == "controlled":
            seen = torch.log_softmax(controls.tempered(log_probs, owner), -1)
        score = torch.full(self.masked.shape, -torch.inf, dtype=torch.float64, device=self.tokens.device)
        not_yet = None
        if sampler.hesitant and mask is not None:
            not_yet = controls.hesitation(log_probs, mask, owner)
        candidates = Candidates(seen, step.uniforms(Purpose.SCORE)[owner, place], place, drawn, not_yet)
        score[owner, place] = sampler.score(candidates)
        reveal = step.masked & (sampler.rule(score, step) | (step.s == 0)[:, None])

        confirmed = torch.zeros_like(reveal)
        if sampler.review is not None:
            old = self.old[owner, place]
            now = log_probs.gather(-1, old.clamp(min=0)[:, None])[:, 0].exp()
            confirmed[owner, place] = (old >= 0) & sampler.review.confirms(now, log_probs.amax(-1).exp())
            reveal = reveal | confirmed
        chosen = reveal[owner, place]
        owner, place, log_probs = owner[chosen], place[chosen], log_probs[chosen]
        if sampler.picker is not None:
            given = self.valid & ~self.holes
            new = sampler.picker(
                Proposal(
                    self.number,
                    self.tokens,
                    self.valid & ~self.masked,
                    given,
                    owner,
                    place,
                    log_probs,
                    u[chosen],
                    controls,
                )
            )
        else:
            new = controls.draw(log_probs, owner, u[chosen]) if drawn is None else drawn[chosen]
        new = torch.where(confirmed[owner, place], self.old[owner, place], new)

        differs = torch.zeros_like(reveal)
        differs[owner, place] = new != self.old[owner, place]
        self.edited = differs.sum(-1)
        if sampler.review is not None:
            self.entropy = self.entropy.clone()
            self.entropy[owner, place] = entropies(log_probs).float()
        self.old = self.old.masked_fill(step.masked, -1)
        self.tokens, self.confidence = self.tokens.clone(), self.confidence.clone()
        self.tokens[owner, place] = new
        self.confidence[owner, place] = log_probs.gather(-1, new[:, None])[:, 0].exp().float()
        states = torch.where(self.states == State.NEW, State.KEPT, self.states)
        self.states = torch.where(states == State.REMASKED, State.MASKED, states).masked_fill(reveal, State.NEW)
        self.drawn = reveal & ~confirmed
        self.masked, self.changed = self.masked & ~reveal, reveal.any(-1)

    def _reopen(self, positions: Positions) -> None:
        """Mask settled positions again."""
        self.tokens = self.tokens.masked_fill(positions, self.mask_id)
        self.confidence = self.confidence.masked_fill(positions, 0.0)
        self.states = self.states.masked_fill(positions, State.REMASKED)
        self.masked, self.changed = self.masked | positions, self.changed | positions.any(-1)

    def _move_on(self, s: Times) -> None:
        """The next time; the next block where one is full; what is to be reviewed."""
        self.number += 1
        self.t, self.index, self.turns = s, self.index + 1, self.turns + (self.ended & ~self.done)
        review = self.sampler.review
        if review is not None:
            self._look_again(review, ~self.ended & ~self.done)
        open_here = (self.masked & (self.block_of == self.block[:, None])).any(-1)
        # reopening by chance goes on until the block's time is over, by doubt until a pass over whole text finds none
        goes_on = torch.full_like(open_here, self.sampler.remask is not None)
        if self.doubt is not None:
            goes_on = goes_on | self.changed
        full = ~open_here & ~self.ended & ((s <= 0) | ~goes_on)
        # the next block's positions have not been asked for yet
        self.block, self.changed = self.block + full, self.changed | full
        self.t, self.index = torch.where(full, 1.0, self.t), torch.where(full, 0, self.index)
        if review is not None:
            self._look_again(review, self.ended & ~self.done)
        self.done = self.done | (self.ended & ~self.masked.any(-1))

    def _look_again(self, review: Review, rows: Bool[Tensor, " B"]) -> None:
        """Reopen what the review asks for, in these rows."""
        # a block is looked at while it is filled, the whole text at the end
        here = (self.block_of == self.block[:, None]) | self.ended[:, None]
        look = Look(
            number=self.number,
            seeds=self.seeds,
            new=self.drawn,
            settled=self.holes & ~self.masked & here,
            confidence=self.confidence,
            ended=self.ended,
            turns=self.turns,
            changed=self.edited,
            t=self.t,
            entropy=self.entropy,
            left=(self.masked & here).sum(-1),
        )
        positions = review.reopen(look) & rows[:, None]
        self.old = torch.where(positions, self.tokens, self.old)
        self._reopen(positions)

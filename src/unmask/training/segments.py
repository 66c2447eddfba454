"""Learning with thoughts: consecutive segments, a stack that is carried along, and losses on what is written to it."""

import copy
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unmask.backbones.thinking import ThoughtTransformer
from unmask.config import (
    RunConfig,
    build_corruption,
    build_objective,
    build_times,
    build_training_denoiser,
)
from unmask.diffusion.corruption import Corrupted
from unmask.diffusion.denoiser import Denoised, Given
from unmask.text.segments import SegmentBatches
from unmask.text.shards import TokenSplit
from unmask.text.tokenizer import Tokenizer
from unmask.thought.losses import (
    alignment,
    coherence_loss,
    consistency_loss,
    curriculum,
    diversity_loss,
    sparsity_loss,
    thought_loss,
)
from unmask.thought.metrics import effective_rank, spread
from unmask.thought.noise import add_noise
from unmask.thought.stack import ThoughtStack
from unmask.training.learning import Lesson, Place, part
from unmask.types import Positions, Times, Tokens


@dataclass(frozen=True)
class Written:
    """K segments read and denoised; rows of segments are B rows times K segments, in row-major order.

    Attributes:
        logits: (N, V) at the selected positions.
        thoughts: (B K, *D), the thought that each segment was left with.
        told: (B K, *D), its clean thought as told from a noisy one; None without a teacher.
        target: (B K, *D), the clean thought that the teacher wrote; None without one.
        last: (B K, *D), the thought before; zeros where there was none.
        has: (B K,), where there was one.
        vectors: thoughts and texts in the space where they are compared, each (B K, D).
        stack: what is carried on.
    """

    logits: Tensor
    thoughts: Tensor
    told: Tensor | None
    target: Tensor | None
    last: Tensor
    has: Bool[Tensor, " R"]
    vectors: tuple[Float[Tensor, "R D"], Float[Tensor, "R D"]]
    stack: ThoughtStack


class SegmentPass(nn.Module):
    """Everything that the model computes in one step, as one call, so that whatever distributes a module can."""

    def __init__(self, model: ThoughtTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        segments: Int[Tensor, "B K L"],
        stack: ThoughtStack,
        xt: Tokens,
        t: Times,
        select: Positions,
        thought_t: Times,
        shown: Bool[Tensor, " R"],
        generator: torch.Generator,
        teacher: ThoughtTransformer | None,
    ) -> Written:
        """Write the thoughts of K segments one after the other, then denoise all segments at once."""
        model = self.model
        stacks: list[ThoughtStack] = []
        written: list[Tensor] = []
        for segment in segments.unbind(1):
            stacks.append(stack)
            written.append(model.write(segment, stack))
            stack = stack.push(written[-1])
        before = ThoughtStack.side_by_side(stacks)
        thoughts, clean = torch.stack(written, 1).flatten(0, 1), segments.flatten(0, 1)
        noise = generator.initial_seed()
        own = add_noise(thoughts, thought_t, torch.Generator(clean.device).manual_seed(noise)).noisy
        memory = model.remember(before, own, thought_t, shown)
        insight = model.think(xt, t, memory=memory, select=select)
        told = target = None
        if teacher is not None:
            with torch.no_grad():
                target = teacher.write(clean, before)
            noisy = add_noise(target, thought_t, torch.Generator(clean.device).manual_seed(noise)).noisy
            told = model.clean_thought(noisy, thought_t, insight.pooled)
        return Written(
            logits=insight.logits,
            thoughts=thoughts,
            told=told,
            target=target,
            last=before.newest(),
            has=before.count > 0,
            vectors=model.aligner(thoughts, model.embed(clean)),
            stack=stack,
        )


class SegmentLearner:
    """Consecutive segments of documents, with a stack a row.

    Args:
        config: the run; it has thoughts.
        model: the network.
        split: what is learned.
        tokenizer: its tokenizer.
        place: this process.
    """

    def __init__(
        self, config: RunConfig, model: ThoughtTransformer, split: TokenSplit, tokenizer: Tokenizer, place: Place
    ) -> None:
        self.config, self.model, self.tokenizer, self.place = config, model, tokenizer, place
        train, thinking = config.train, config.thinking
        self.tokens = train.batch_size * thinking.segments * config.canvas
        self.batches = SegmentBatches(
            split,
            train.batch_size,
            config.canvas,
            thinking.segments,
            seed=train.seed,
            rank=place.rank,
            world=place.world,
        )
        self.times = build_times(config.diffusion)
        self.corruption = build_corruption(config.diffusion, tokenizer.vocab_size, tokenizer.mask_id)
        self.objective = build_objective(config.diffusion, tokenizer.mask_id)
        self.stack = model.empty_stack(train.batch_size)
        asked = config.thinking.thought or config.thinking.coherence
        self.teacher = copy.deepcopy(model).requires_grad_(False).eval() if asked else None
        self.passing: nn.Module = SegmentPass(model)

    def network(self) -> nn.Module:
        """The model, with K segments a call."""
        return self.passing

    def connect(self, network: nn.Module) -> None:
        """Use the wrapped one."""
        self.passing = network

    def lesson(self, index: int, generator: torch.Generator, step: int) -> Lesson:
        """Go on where the rows are."""
        thinking, device = self.config.thinking, self.place.device
        pieces = self.batches.at(index)
        segments, fresh = pieces.tokens.to(device), pieces.fresh.to(device)
        clean = segments.flatten(0, 1)
        t, importance = self.times.sample(len(clean), generator)
        # times are spread evenly over the batch: not over one row's segments
        order = torch.randperm(len(clean), generator=generator, device=device)
        t, importance = t[order], importance[order]
        corrupted = self.corruption.corrupt(clean, t, generator, importance=importance)
        thought_t = torch.rand(len(clean), generator=generator, device=device)
        shown = torch.rand(len(clean), generator=generator, device=device) < thinking.present
        shown[0] = False  # the bound that is reported is of segments that do not see their own thought
        with self.place.autocast():
            stack = self.stack.detach().reset(fresh)
            written: Written = self.passing(
                segments, stack, corrupted.xt, t, corrupted.scored, thought_t, shown, generator, self.teacher
            )
        self.stack = written.stack.detach()
        denoiser = build_training_denoiser(self.config, Given(written.logits), self.tokenizer)
        denoised = denoiser(corrupted.xt, t, select=corrupted.scored)
        loss = self.objective(denoised, corrupted)
        extra, metrics = self._thought_losses(written, step)
        honest = self._honest(denoised, corrupted, ~shown)
        return Lesson(replace(loss, value=loss.value + extra, metrics=loss.metrics | honest | metrics), t)

    def after(self, step: int, lesson: Lesson) -> None:
        """Which times are hard; and the teacher follows."""
        self.times.update(self.place.gather(lesson.t), self.place.gather(lesson.loss.row.detach()))
        if self.teacher is None:
            return
        decay = min(self.config.thinking.teacher, (1 + step) / (10 + step))
        with torch.no_grad():
            for slow, fast in zip(self.teacher.parameters(), self.model.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)

    def watch(self) -> dict[str, float]:
        """In how many directions the last thoughts differ, and by how much: both fall when thoughts collapse."""
        thoughts = self.stack.newest()
        return {"thought_rank": effective_rank(thoughts), "thought_spread": spread(thoughts)}

    def state_dict(self) -> dict[str, Tensor]:
        """Times, the stacks of all processes, and the teacher."""
        stack = {name: self.place.gather(getattr(self.stack, name)) for name in ("data", "head", "count")}
        teacher = {} if self.teacher is None else self.teacher.state_dict()
        return {
            **{f"times.{name}": value for name, value in self.times.state_dict().items()},
            **{f"stack.{name}": value for name, value in stack.items()},
            **{f"teacher.{name}": value.clone() for name, value in teacher.items()},
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take them back; with another number of rows the stacks start anew."""
        self.times.load_state_dict(part(state, "times."))
        if self.teacher is not None:
            self.teacher.load_state_dict(part(state, "teacher."))
        rows, rank, device = self.config.train.batch_size, self.place.rank, self.place.device
        stack = part(state, "stack.")
        if len(stack["head"]) == rows * self.place.world:
            own = slice(rank * rows, (rank + 1) * rows)
            self.stack = ThoughtStack(*(stack[name][own].to(device) for name in ("data", "head", "count")))

    def _thought_losses(self, written: Written, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """What is added to the text's loss, and every part by its name."""
        thinking = self.config.thinking
        aligned = alignment(*written.vectors)
        parts: dict[str, Tensor] = {}
        if written.told is not None and written.target is not None:
            parts["thought"] = thought_loss(written.told, written.target)
            parts["coherence"] = coherence_loss(written.told, written.target, thinking.compression)
        parts |= {
            "alignment": aligned.loss,
            "consistency": consistency_loss(written.thoughts, written.last, written.has),
            "diversity": diversity_loss(written.thoughts),
            "sparsity": sparsity_loss(written.thoughts),
        }
        weighted = [getattr(thinking, name) * value for name, value in parts.items() if getattr(thinking, name)]
        extra = curriculum(step, thinking.ramp) * torch.stack(weighted).sum() if weighted else torch.zeros(())
        metrics = {f"{name}_loss": value.detach() for name, value in parts.items()}
        return extra.to(self.place.device), metrics | {"thought_retrieval": aligned.accuracy.detach()}

    def _honest(self, denoised: Denoised, corrupted: Corrupted, rows: Bool[Tensor, " R"]) -> dict[str, Tensor]:
        """The bound of the segments that could not see their own thought."""
        with torch.no_grad():
            chosen = replace(
                corrupted,
                **{
                    name: getattr(corrupted, name)[rows]
                    for name in ("x0", "xt", "t", "masked", "replaced", "target", "scored", "valid", "importance")
                },
            )
            owner = corrupted.scored.nonzero()[:, 0]
            seen = Denoised(denoised.log_probs[rows[owner]], chosen.scored)
            return self.objective(seen, chosen).metrics

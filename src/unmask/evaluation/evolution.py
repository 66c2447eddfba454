"""How thoughts evolve: over the segments of a document, and while one segment is denoised (seeds 002 and 004)."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.backbones.thinking import ThoughtTransformer
from unmask.evaluation.remembering import rows_of, stacks_before
from unmask.thought.metrics import (
    effective_rank,
    entropy,
    recovered_by_dimension,
    retrieval_accuracy,
    spread,
    stability,
    step_variance,
)
from unmask.thought.noise import less_noise


@dataclass(frozen=True)
class Evolution:
    """Thoughts of N documents' K segments.

    Attributes:
        segments: (K, N, *D), what was written, segment after segment.
        denoising: (T, N, *D), what the last segment's thought is expected to be, step after step.
        times: t of each of those steps.
        texts: (N K, D), the segments' mean token embeddings.
        vectors: thoughts and texts where they are compared, (N K, D) each.
    """

    segments: Float[Tensor, "K N *D"]
    denoising: Float[Tensor, "T N *D"]
    times: list[float]
    texts: Float[Tensor, "R W"]
    vectors: tuple[Float[Tensor, "R W"], Float[Tensor, "R W"]]

    def report(self) -> dict[str, Any]:
        """The seeds' four thought metrics, in numbers.

        stability: correlation between successive steps (target above 0.8) and the variance of a step; compression: how much of
        the text's embedding a linear probe recovers, by dimensions kept; alignment: retrieval accuracy and its chance;
        diversity: entropy, effective rank and spread.
        """
        written = self.segments.transpose(0, 1).flatten(0, 1)
        numbers = written[0].numel()
        kept = [count for count in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if count <= numbers]
        return {
            "thoughts": len(written),
            "numbers": numbers,
            "stability": {
                "denoising": stability(self.denoising),
                "denoising_step_variance": step_variance(self.denoising),
                "segments": stability(self.segments) if len(self.segments) > 1 else None,
                "segments_step_variance": step_variance(self.segments) if len(self.segments) > 1 else None,
            },
            "compression": recovered_by_dimension(written, self.texts, kept),
            "alignment": {"accuracy": retrieval_accuracy(*self.vectors), "chance": 1 / len(written)},
            "diversity": {
                "entropy": entropy(written),
                "effective_rank": effective_rank(written),
                "spread": spread(written),
            },
        }


@torch.no_grad()
def evolve(
    model: ThoughtTransformer,
    windows: Int[Tensor, "N K L"],
    mask_id: int,
    *,
    steps: int = 20,
    seed: int = 0,
    batch_size: int = 32,
) -> Evolution:
    """Read documents and write their thoughts; then denoise each last segment's thought beside its text.

    The text appears in a random order, evenly over the steps, while the thought goes from noise to clean.

    Raises:
        ValueError: fewer than 4 thoughts, or fewer than two steps.
    """
    count, segments, length = windows.shape
    if count * segments < 4 or steps < 2:
        raise ValueError(
            f"{count * segments} thoughts in {steps} steps say nothing of evolution: give at least 4, and 2 steps"
        )
    stacks = stacks_before(model, windows, batch_size)
    clean = windows.flatten(0, 1)
    parts = torch.arange(len(clean), device=clean.device).split(batch_size)
    thoughts = torch.cat([model.write(clean[rows], rows_of(stacks, rows)) for rows in parts])
    texts = torch.cat([model.embed(clean[rows]) for rows in parts])

    last = torch.arange(segments - 1, len(clean), segments, device=clean.device)
    stack, target = rows_of(stacks, last), clean[last]
    generator = torch.Generator(clean.device).manual_seed(seed)
    noisy = torch.randn(count, *model.thought.dims, generator=generator, device=clean.device)
    order = torch.rand(count, length, generator=generator, device=clean.device)
    path: list[Tensor] = []
    times = [1 - step / steps for step in range(steps)]
    for t in times:
        time, later = (torch.full((count,), value, device=clean.device) for value in (t, max(0.0, t - 1 / steps)))
        canvas = target.masked_fill(order < t, mask_id)
        memory = model.remember(stack, noisy, time)
        insight = model.think(canvas, time, memory=memory, select=torch.zeros_like(canvas, dtype=torch.bool))
        path.append(model.clean_thought(noisy, time, insight.pooled))
        noisy = less_noise(noisy, path[-1], time, later)
    written = thoughts.unflatten(0, (count, segments)).transpose(0, 1)
    return Evolution(written, torch.stack(path), times, texts, model.aligner(thoughts, texts))

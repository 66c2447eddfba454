"""The shape of a model's thoughts."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ThoughtConfig:
    """What a model's thoughts look like, and how they are read; without dims the model is a plain one.

    Args:
        dims: of one thought: the first counts its memory tokens, the others each token's numbers (8 x 8 x 4: 8 tokens of 32).
        slots: S, the thoughts that a stack holds.
        every: every so many blocks one reads thoughts, the last among them.
        heads: attention heads of everything that reads or writes thoughts; null: the model's.
        layers: blocks of the encoder, in which thoughts of all ages attend to each other.
        pool: learned queries into which the stack is pooled; 0: the text reads every memory token itself.
        distances: whether text sees memory tokens at the distance of the text that they stand for (RoPE), as a continuation
            needs it, or by what they say alone, as recall does.
        denoiser_layers: blocks that predict a clean thought from a noisy one.
    """

    dims: tuple[int, ...] = ()
    slots: int = 8
    every: int = 2
    heads: int | None = None
    layers: int = 1
    pool: int = 0
    distances: bool = True
    denoiser_layers: int = 1

    def __post_init__(self) -> None:
        """Refuse shapes that cannot be built."""
        if self.dims and (len(self.dims) < 2 or min(self.dims) < 1):
            raise ValueError(
                f"thought.dims must be memory tokens and their sizes, such as [8, 8, 4], not {list(self.dims)}"
            )
        for name in ("slots", "every", "heads"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ValueError(f"thought.{name} must be at least 1, not {size}")
        for name in ("layers", "pool", "denoiser_layers"):
            if getattr(self, name) < 0:
                raise ValueError(f"thought.{name} must be 0 or more, not {getattr(self, name)}")

    @property
    def tokens(self) -> int:
        """Memory tokens of a thought."""
        return self.dims[0]

    @property
    def features(self) -> int:
        """Numbers of a memory token."""
        return math.prod(self.dims[1:])

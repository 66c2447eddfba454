"""Seed 000's configuration of qBERT, and what it makes of it: a sampler, and a way to pick tokens by meaning."""

import math
from dataclasses import dataclass, replace

from torch import Tensor

from unmask.diffusion.schedules import SCHEDULES
from unmask.pipeline.encoders import Embedder
from unmask.sampling.coherence import Coherent, Scales
from unmask.sampling.memory import SemanticMemory
from unmask.sampling.picking import Narrowing
from unmask.sampling.sampler import Sampler
from unmask.sampling.samplers import qbert

SHORTLIST = 3


@dataclass(frozen=True)
class QBertConfig:
    """Seed 000's configuration, and a switch for each of its enhancements.

    Args:
        max_length: tokens of a text, the prompt included.
        batch_size: texts that are written side by side.
        num_candidates: at most so many tokens are weighed by meaning at a position.
        embedding_dim: at most so many numbers of an embedding are compared.
        context_window: tokens on either side that the phrase scale sees at the first step; and in the sequential mode the last
            words that may still change.
        base_temperature: of the draws; 0 takes the best.
        min_threshold: a candidate's coherence must be at least this share of the best one's.
        top_k: the likeliest tokens among which a position is drawn at the first step; at least 5 at the last.
        compression_ratio: the share of a remembered embedding's numbers that are kept.
        max_cache_size: contexts that are remembered; 0: none.
        diffusion_steps: steps in all, where the text is filled before; the length of all that grows or narrows.
        parallel_positions: new positions a step.
        position_dropout: the share of the settled tokens that are drawn again after each step.
        convergence_threshold: a full text is done when a smaller share of its tokens changed.
        min_p: tokens must be at least this share as likely as the likeliest, after the temperature; so meaning does not make
            nonsense.
        coherence_weight: what a coherence of 1 adds to a candidate's log-probability, before the temperature; 0 with
            min_threshold 0 and acceptance off is generation without coherence.
        uncertain: draw the least sure tokens again, not any.
        progressive: narrow top_k with the steps.
        expanding: let context_window grow to its double with the steps.
        multi_scale: weigh runs of three tokens, windows and all that is written (0.3, 0.3, 0.4), not all that is written alone.
        acceptance: drop proposals that make the whole text less coherent than the likeliest tokens would.
        economical: weigh the larger scales for the best 3 of each position's candidates only, chosen by the tokens' own meanings.
    """

    max_length: int = 100
    batch_size: int = 1
    num_candidates: int = 50
    embedding_dim: int = 768
    context_window: int = 5
    base_temperature: float = 0.5
    min_threshold: float = 0.9
    top_k: int = 50
    compression_ratio: float = 0.5
    max_cache_size: int = 3
    diffusion_steps: int = 5
    parallel_positions: int = 10
    position_dropout: float = 0.2
    convergence_threshold: float = 0.01
    min_p: float = 0.03
    coherence_weight: float = 10.0
    uncertain: bool = True
    progressive: bool = True
    expanding: bool = True
    multi_scale: bool = True
    acceptance: bool = True
    economical: bool = False

    def __post_init__(self) -> None:
        """Refuse what is out of range; the parts that use a value check it too."""
        for name in ("max_length", "batch_size", "num_candidates", "embedding_dim", "context_window", "top_k"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.base_temperature < 0:
            raise ValueError(f"base_temperature must be 0 or more, not {self.base_temperature}")
        if not 0 <= self.coherence_weight < math.inf:
            raise ValueError(f"coherence_weight must be 0 or more, not {self.coherence_weight}")
        self.sampler("linear")
        SemanticMemory(self.max_cache_size, self.compression_ratio)

    def sampler(self, schedule: str) -> Sampler:
        """The sampler without coherence."""
        return qbert(
            SCHEDULES[schedule](),
            self.parallel_positions,
            self.position_dropout,
            self.diffusion_steps,
            self.convergence_threshold,
            self.top_k,
            self.uncertain,
            self.progressive,
        )

    def picker(self, embedder: Embedder, theme: Tensor | None) -> Coherent:
        """How tokens are drawn by meaning."""
        scales = Scales(window=self.context_window, expanding=self.expanding)
        if not self.multi_scale:
            scales = replace(scales, local=0.0, phrase=0.0, whole=1.0)
        narrowing = Narrowing(self.top_k, self.diffusion_steps if self.progressive else 0, min(5, self.top_k))
        return Coherent(
            embedder,
            narrowing,
            scales,
            self.num_candidates,
            self.min_threshold,
            self.coherence_weight,
            self.acceptance,
            SHORTLIST if self.economical else 0,
            theme,
        )

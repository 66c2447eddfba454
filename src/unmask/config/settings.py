"""The settings of a run, typed; each section refuses what cannot be."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from unmask.backbones.transformer import TransformerConfig
from unmask.diffusion.objectives import OBJECTIVES
from unmask.thought.config import ThoughtConfig


@dataclass(frozen=True)
class DataConfig:
    """What is learned.

    Args:
        source: shakespeare, a file, a folder, - (standard input), hf:NAME, or a folder that `unmask data prepare` wrote.
        tokenizer: byte, char, bpe (trained on the corpus), gpt2, a tokenizer.json, or a hub id.
        vocab_size: of bpe, the mask included.
        text_key: the field of JSON lines that holds the text.
        max_characters: read no more than this; null for all.
        val_fraction: the share of characters, at the end, that validates.
    """

    source: str = "shakespeare"
    tokenizer: str = "char"
    vocab_size: int = 1024
    text_key: str = "text"
    max_characters: int | None = None
    val_fraction: float = 0.1


@dataclass(frozen=True)
class DiffusionConfig:
    """The noise, and what is descended.

    Args:
        corruption: absorbing (masks), uniform (random tokens), repair (seed 001: masks and wrong tokens), or none (an
            autoregressive model).
        schedule: linear, log_linear, cosine (seed 003), cosine_md4, polynomial or geometric.
        objective: cross_entropy (the mean over masked tokens) or nelbo (the bound); the bound is reported either way.
            autoregressive goes with corruption none and a causal model, repair with corruption repair.
        times: antithetic, uniform or importance.
        prediction: what a position's logits speak of: same, the token that stands there; or next, the one after it, as in a
            GPT (and in DiffuGPT, DiffuLLaMA and Dream, which come from one); the canvas is then one token shorter.
        begin: what stands before the first token of a model that predicts the next: the mask, or the end of the text before.
        penalty_keep_mask: repair's weight of an honest "not yet" where a token is masked, in [0, 1].
        penalty_mask_correct: repair's weight of calling a right token wrong, in [0, 1].
    """

    corruption: Literal["absorbing", "uniform", "repair", "none"] = "absorbing"
    schedule: Literal["linear", "log_linear", "cosine", "cosine_md4", "polynomial", "geometric"] = "linear"
    objective: Literal["cross_entropy", "nelbo", "repair", "autoregressive"] = "cross_entropy"
    times: Literal["antithetic", "uniform", "importance"] = "antithetic"
    prediction: Literal["same", "next"] = "same"
    begin: Literal["mask", "end"] = "mask"
    penalty_keep_mask: float = 0.25
    penalty_mask_correct: float = 0.5

    def __post_init__(self) -> None:
        """Refuse an objective that the noise does not have."""
        pairs = {*OBJECTIVES, ("repair", "repair")}
        for name in ("penalty_keep_mask", "penalty_mask_correct"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"diffusion.{name} must be in [0, 1], not {getattr(self, name)}")
        if (self.corruption, self.objective) not in pairs:
            has = sorted(objective for corruption, objective in pairs if corruption == self.corruption)
            raise ValueError(
                f"diffusion.objective {self.objective} does not go with corruption {self.corruption}: use {' or '.join(has)}"
            )


@dataclass(frozen=True)
class OptimConfig:
    """How the weights move.

    Args:
        name: muon (matrices inside blocks by torch's Muon, the rest by AdamW) or adamw.
        lr: AdamW's peak learning rate.
        muon_lr: Muon's peak learning rate, in units of the matrix's own scale.
        weight_decay: decoupled decay of matrices and embeddings; vectors are never decayed.
        betas: AdamW's decay rates.
        momentum: Muon's.
        ns_steps: Newton-Schulz steps of Muon's orthogonalisation.
        schedule: after the warm-up: cosine to min_lr, linear to zero, or constant.
        warmup: steps of linear warm-up.
        min_lr: the end of cosine, as a share of the peak.
        clip: the largest gradient norm; 0 for no clipping.
    """

    name: Literal["muon", "adamw"] = "muon"
    lr: float = 3e-3
    muon_lr: float = 0.02
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    momentum: float = 0.95
    ns_steps: int = 5
    schedule: Literal["cosine", "linear", "constant"] = "linear"
    warmup: int = 50
    min_lr: float = 0.1
    clip: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values that cannot train."""
        _require(self, "optim", above_zero=("lr", "muon_lr", "ns_steps"))
        _require(self, "optim", not_negative=("weight_decay", "warmup", "min_lr", "clip"))

    def lr_scale(self, step: int, steps: int) -> float:
        """The learning rate at a step (from 0), as a share of the peak."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = min(1.0, (step - self.warmup) / max(1, steps - self.warmup))
        if self.schedule == "cosine":
            return self.min_lr + (1 - self.min_lr) * (1 + math.cos(math.pi * progress)) / 2
        return 1 - progress if self.schedule == "linear" else 1.0


@dataclass(frozen=True)
class TrainConfig:
    """How long, how large, how precise, and what is kept.

    Args:
        steps: optimizer steps.
        batch_size: rows in one forward pass of one process.
        accumulate: forward passes in one optimizer step.
        precision: bf16, fp32, or auto (bf16 where the processor computes in it).
        compile: torch.compile the model.
        checkpointing: recompute activations in the backward pass: less memory, more time.
        ema: decay of the averaged weights that are evaluated and shipped; 0 for none.
        seed: of weights, batches and noise.
        eval_every: steps between validations.
        eval_blocks: rows of the validation text in each.
        save_every: steps between checkpoints.
        log_every: steps between lines in metrics.jsonl.
        trackers: accelerate trackers beside metrics.jsonl, such as tensorboard or wandb.
    """

    steps: int = 2000
    batch_size: int = 32
    accumulate: int = 1
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool = False
    checkpointing: bool = False
    ema: float = 0.0
    seed: int = 0
    eval_every: int = 250
    eval_blocks: int = 64
    save_every: int = 500
    log_every: int = 10
    trackers: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        """Refuse values that cannot train."""
        counts = ("steps", "batch_size", "accumulate", "eval_every", "eval_blocks", "save_every", "log_every")
        _require(self, "train", above_zero=counts)
        if not 0 <= self.ema < 1:
            raise ValueError(f"train.ema must be in [0, 1), not {self.ema}")


@dataclass(frozen=True)
class AdaptConfig:
    """What a run starts from, instead of from nothing.

    Args:
        source: any model that generates, GPTs from elsewhere among them; its shape and its tokenizer are taken over, and only
            model.length and model.dropout are the run's own. null: from nothing.
        anneal: steps over which a causal model's attention opens, position by position, until every token sees every other
            (DiffuGPT and DiffuLLaMA, Gong et al., 2024); 0: at once.
        lora: the rank of adapters, which are trained and saved instead of the weights; 0: train the weights.
    """

    source: str | None = None
    anneal: int = 0
    lora: int = 0

    def __post_init__(self) -> None:
        """Refuse negative numbers, and adapters of nothing."""
        _require(self, "adapt", not_negative=("anneal", "lora"))
        if self.lora and self.source is None:
            raise ValueError("adapt.lora needs a model to adapt: name it with adapt.source")


@dataclass(frozen=True)
class ThinkingConfig:
    """How thoughts are trained, where the model has any.

    Args:
        segments: K, consecutive segments of one document that a gradient flows through; the stack is carried on after them.
        present: the share of segments that may read their own thought, noisy, while they are denoised; it makes thoughts say
            what their text says, and text can then be generated from a thought.
        teacher: decay of the averaged weights that write the clean thoughts which noisy ones are compared with.
        thought: weight of telling the clean thought from a noisy one.
        coherence: weight of keeping what is alike alike in three quarters of the numbers (compression 0.75).
        compression: that share.
        alignment: weight of a thought and its text finding each other among the batch.
        consistency: weight of the step from one thought to the next.
        diversity: weight of thoughts differing.
        sparsity: weight of few numbers saying everything.
        ramp: steps over which these weights grow from 0.
    """

    segments: int = 4
    present: float = 0.5
    teacher: float = 0.99
    thought: float = 0.5
    coherence: float = 0.1
    compression: float = 0.75
    alignment: float = 0.1
    consistency: float = 0.1
    diversity: float = 0.05
    sparsity: float = 0.0
    ramp: int = 200

    def __post_init__(self) -> None:
        """Refuse values that cannot train."""
        if self.segments < 1:
            raise ValueError(f"thinking.segments must be at least 1, not {self.segments}")
        _require(self, "thinking", not_negative=("thought", "coherence", "alignment", "consistency", "diversity"))
        _require(self, "thinking", not_negative=("sparsity", "ramp"), above_zero=("compression",))
        for name, most in (("present", 1.0), ("compression", 1.0)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"thinking.{name} must be in [0, 1], not {getattr(self, name)}")
        if not 0 <= self.teacher < 1:
            raise ValueError(f"thinking.teacher must be in [0, 1), not {self.teacher}")


@dataclass(frozen=True)
class RunConfig:
    """Everything that makes a run.

    Args:
        backbone: a masked language model (BERT and its kin: a folder, a hub id, or the name of an installed package that holds
            one) that is trained as a diffusion model instead of our transformer; of `model` only the length counts then.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: TransformerConfig = field(default_factory=TransformerConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    adapt: AdaptConfig = field(default_factory=AdaptConfig)
    thought: ThoughtConfig = field(default_factory=ThoughtConfig)
    thinking: ThinkingConfig = field(default_factory=ThinkingConfig)
    backbone: str | None = None

    def __post_init__(self) -> None:
        """Refuse a model that would see the answer, or could not see what it needs."""
        if self.thought.dims and (self.diffusion.corruption == "none" or self.diffusion.prediction == "next"):
            raise ValueError("thoughts ride along with diffusion models that predict their own positions")
        if self.thought.dims and self.adapt.lora:
            raise ValueError("adapters cannot hold thoughts: leave adapt.lora at 0")
        if self.backbone is not None:
            self._check_backbone()
        causal, clean = self.model.attention == "causal", self.diffusion.corruption == "none"
        if causal and not clean:
            raise ValueError(
                "a causal model cannot fill masks: set model.attention to bidirectional, or corruption to none"
            )
        if clean and not causal:
            raise ValueError("an autoregressive model must be causal: set model.attention to causal")

    def _check_backbone(self) -> None:
        """Refuse what a masked language model of another library cannot be."""
        if self.thought.dims or self.adapt.source is not None or self.adapt.lora:
            raise ValueError("a backbone goes with neither thoughts nor adapt: leave thought.dims and adapt out")
        if self.diffusion.corruption != "absorbing" or self.diffusion.prediction == "next":
            raise ValueError("a backbone fills masks: set diffusion.corruption to absorbing and prediction to same")

    @property
    def canvas(self) -> int:
        """The longest canvas, in tokens: a bidirectional model that predicts the next position needs one for the beginning."""
        shifted = self.diffusion.prediction == "next" and self.diffusion.corruption != "none"
        return self.model.length - shifted

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON."""
        return asdict(self)


def _require(config: Any, section: str, above_zero: Iterable[str] = (), not_negative: Iterable[str] = ()) -> None:
    for name in above_zero:
        if not getattr(config, name) > 0:
            raise ValueError(f"{section}.{name} must be above 0, not {getattr(config, name)}")
    for name in not_negative:
        if not getattr(config, name) >= 0:
            raise ValueError(f"{section}.{name} must be 0 or more, not {getattr(config, name)}")

"""Typed configuration, and the one place where the parts are joined.

A run is a `RunConfig`. It is read from YAML, JSON or the command line, checked key by key, and built by the functions
at the end of this file.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jsonargparse
import torch
from torch import nn

from unmask.backbones.transformer import Transformer, TransformerConfig, initialize
from unmask.diffusion.corruption import CORRUPTIONS, Corruption
from unmask.diffusion.denoiser import Denoiser, Subs
from unmask.diffusion.objectives import OBJECTIVES, Objective
from unmask.diffusion.schedules import SCHEDULES
from unmask.diffusion.times import TIMES, TimeSampler
from unmask.names import check_known, nearest
from unmask.sampling.sampler import Sampler
from unmask.sampling.spec import read_sampler
from unmask.text.corpus import Corpus
from unmask.text.shards import Progress, TokenData, is_prepared, open_tokens, prepare, prepared_with
from unmask.text.tokenizer import (
    Tokenizer,
    bpe_tokenizer,
    byte_tokenizer,
    char_tokenizer,
    gpt2_tokenizer,
    load_tokenizer,
)


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
        corruption: absorbing (masks) or uniform (random tokens).
        schedule: linear, log_linear, cosine (seed 003), cosine_md4, polynomial or geometric.
        objective: cross_entropy (the mean over masked tokens) or nelbo (the bound); the bound is reported either way.
        times: antithetic, uniform or importance.
    """

    corruption: Literal["absorbing", "uniform"] = "absorbing"
    schedule: Literal["linear", "log_linear", "cosine", "cosine_md4", "polynomial", "geometric"] = "linear"
    objective: Literal["cross_entropy", "nelbo"] = "cross_entropy"
    times: Literal["antithetic", "uniform", "importance"] = "antithetic"


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
class RunConfig:
    """Everything that makes a run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: TransformerConfig = field(default_factory=TransformerConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

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


def config_keys(config: type = RunConfig, prefix: str = "") -> list[str]:
    """Every key of a run, as section.name."""
    keys: list[str] = []
    for item in fields(config):
        if isinstance(item.type, type) and is_dataclass(item.type):
            keys += config_keys(item.type, f"{prefix}{item.name}.")
        else:
            keys.append(prefix + item.name)
    return keys


def check_keys(values: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse keys that no section has."""
    keys = config_keys()
    for key, value in values.items():
        name = f"{prefix}{key}"
        if any(known.startswith(f"{name}.") for known in keys):
            if not isinstance(value, Mapping):
                raise ValueError(f"the section {name} must hold keys and values, not {value!r}")
            check_keys(value, f"{name}.")
        elif name not in keys:
            sections = [] if prefix else [item.name for item in fields(RunConfig)]
            raise ValueError(f"there is no setting {name!r}{nearest(name, sections + keys)}")


def config_parser(**kwargs: Any) -> jsonargparse.ArgumentParser:
    """A parser that takes every key of a run as --section.name."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False, **kwargs)
    parser.add_class_arguments(RunConfig, as_group=True)
    return parser


def read_config(values: Mapping[str, Any]) -> RunConfig:
    """A RunConfig from plain values; what is left out has its default.

    Raises:
        ValueError: an unknown key (with the nearest known one) or a value of the wrong kind.
    """
    check_keys(values)
    parser = config_parser()
    try:
        return RunConfig(**parser.instantiate(parser.parse_object(dict(values))))
    except jsonargparse.ArgumentError as error:
        raise ValueError(explain(error)) from None


def explain(error: Exception) -> str:
    """A parser's message as one sentence."""
    text = " ".join(str(error).split())
    wrong = re.match(r'Parser key "(.+?)": Expected a (.+?)\. Got value: (.*)', text)
    if not wrong:
        return text
    key, kind, value = wrong.groups()
    choices = re.findall(r"'([^']+)'", kind) if "Literal" in kind else []
    if choices:
        return f"{key} must be one of {', '.join(choices)}, not {value}{nearest(value, choices)}"
    kind = re.sub("<class '(.+?)'>", r"\1", kind)
    return f"{key} must be of type {kind}, not {value}"


def build_tokenizer(config: DataConfig, train: Iterable[str], everything: Iterable[str]) -> Tokenizer:
    """The tokenizer that is named; bpe learns from the training text only, char must know every character."""
    match config.tokenizer:
        case "byte":
            return byte_tokenizer()
        case "char":
            return char_tokenizer(everything)
        case "bpe":
            return bpe_tokenizer(train, config.vocab_size)
        case "gpt2":
            return gpt2_tokenizer()
        case other:
            return load_tokenizer(other)


def build_corpus(config: DataConfig) -> Corpus:
    """The documents."""
    return Corpus(config.source, text_key=config.text_key, max_characters=config.max_characters)


def build_model(config: RunConfig, vocab_size: int) -> Transformer:
    """The network, with the weights that the seed gives."""
    model = Transformer(config.model, vocab_size)
    initialize(model, torch.Generator().manual_seed(config.train.seed))
    return model


def build_corruption(config: DiffusionConfig, vocab_size: int, mask_id: int) -> Corruption:
    """The forward process."""
    if config.corruption == "uniform" and mask_id != vocab_size - 1:
        raise ValueError("uniform corruption needs a tokenizer whose mask is the last token")
    return CORRUPTIONS[config.corruption](SCHEDULES[config.schedule](), vocab_size, mask_id)


def build_objective(config: DiffusionConfig) -> Objective:
    """What is descended."""
    return OBJECTIVES[config.corruption, config.objective](SCHEDULES[config.schedule]())


def build_times(config: DiffusionConfig) -> TimeSampler:
    """Which times are trained."""
    return TIMES[config.times]()


def build_denoiser(config: RunConfig, model: nn.Module, mask_id: int) -> Denoiser:
    """The network as a distribution over clean tokens."""
    return Subs(model, mask_id, time_dependent=config.model.time != "none")


def build_data(
    config: DataConfig, folder: Path, progress: Progress = lambda characters: None, *, reuse: bool = False
) -> TokenData:
    """Tokens and their tokenizer: prepared into `folder`, or opened where they are if the source is prepared already.

    With `reuse`, what an earlier call with the same config left in `folder` is taken as it is: right for a run that goes on.
    """
    source = Path(config.source).expanduser()
    data = open_tokens(source) if is_prepared(source) else None
    if data is None and reuse and prepared_with(folder, asdict(config)):
        data = open_tokens(folder)
    if data is None:
        return prepare(
            build_corpus(config),
            folder,
            lambda train, everything: build_tokenizer(config, train, everything),
            val_fraction=config.val_fraction,
            settings=asdict(config),
            progress=progress,
        )
    if data.tokenizer is not None:
        return data
    if config.tokenizer in ("char", "bpe"):
        raise ValueError(f"{source} has tokens but no tokenizer: name theirs with --data.tokenizer, for example gpt2")
    tokenizer = build_tokenizer(config, (), ())
    for split in (data.train, data.val):
        split.check_fits(tokenizer.vocab_size, str(source))
    return replace(data, tokenizer=tokenizer)


def build_sampler(sampler: str, schedule: str, revise: str = "", block: int | None = None) -> Sampler:
    """A sampler by name, following a schedule by name; see `read_sampler`.

    Raises:
        ValueError: an unknown name (the nearest is suggested), or a setting out of range.
    """
    check_known(schedule, SCHEDULES, "schedule")
    return read_sampler(sampler, SCHEDULES[schedule](), revise, block)

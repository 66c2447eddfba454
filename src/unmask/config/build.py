"""From settings to parts: the one place where all of them are joined."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from unmask.backbones.reading import empty_cache, read_on
from unmask.backbones.thinking import ThoughtTransformer
from unmask.backbones.transformer import Transformer, initialize
from unmask.config.settings import DataConfig, DiffusionConfig, RunConfig
from unmask.diffusion.corruption import CORRUPTIONS, Corruption
from unmask.diffusion.denoiser import Backbone, Denoiser, Frank, Given, LeftToRight, Shifted, Subs
from unmask.diffusion.objectives import OBJECTIVES, Objective, RepairLoss
from unmask.diffusion.schedules import SCHEDULES
from unmask.diffusion.times import TIMES, TimeSampler
from unmask.names import check_known
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


def build_network(config: RunConfig, vocab_size: int) -> Transformer:
    """The network, with any weights; with thoughts if it has them."""
    if config.thought.dims:
        return ThoughtTransformer(config.model, vocab_size, config.thought)
    return Transformer(config.model, vocab_size)


def build_model(config: RunConfig, vocab_size: int) -> Transformer:
    """The network, with the weights that the seed gives."""
    model = build_network(config, vocab_size)
    initialize(model, torch.Generator().manual_seed(config.train.seed))
    return model


def build_corruption(config: DiffusionConfig, vocab_size: int, mask_id: int) -> Corruption:
    """The forward process."""
    if config.corruption == "uniform" and mask_id != vocab_size - 1:
        raise ValueError("uniform corruption needs a tokenizer whose mask is the last token")
    return CORRUPTIONS[config.corruption](SCHEDULES[config.schedule](), vocab_size, mask_id)


def build_objective(config: DiffusionConfig, mask_id: int) -> Objective:
    """What is descended."""
    if config.corruption == "repair":
        return RepairLoss(mask_id, config.penalty_keep_mask, config.penalty_mask_correct)
    return OBJECTIVES[config.corruption, config.objective](SCHEDULES[config.schedule]())


@dataclass(frozen=True)
class Bound:
    """What measures -log p: a denoiser, a noise, its bound, and whether exactly k tokens may be masked for it."""

    denoiser: Denoiser
    corruption: Corruption
    objective: Objective
    exact_k: bool


def build_bound(config: RunConfig, model: nn.Module, tokenizer: Tokenizer) -> Bound:
    """The bound of the model's own noise; a repair model is measured as the masked model that it contains."""
    diffusion = config.diffusion
    if diffusion.corruption == "repair":
        diffusion = replace(diffusion, corruption="absorbing", objective="nelbo")
    diffusion = replace(diffusion, objective="nelbo")
    return Bound(
        build_denoiser(config, model, tokenizer),
        build_corruption(diffusion, tokenizer.vocab_size, tokenizer.mask_id),
        build_objective(diffusion, tokenizer.mask_id),
        exact_k=diffusion.corruption == "absorbing",
    )


def build_times(config: DiffusionConfig) -> TimeSampler:
    """Which times are trained."""
    return TIMES[config.times]()


def build_training_denoiser(config: RunConfig, model: nn.Module | Given, tokenizer: Tokenizer) -> Denoiser:
    """The network as the objective reads it: a repair model's answers include the mask."""
    if config.diffusion.corruption == "repair":
        backbone = build_backbone(config, model, tokenizer)
        return Frank(backbone, tokenizer.mask_id, time_dependent=config.model.time != "none")
    return build_denoiser(config, model, tokenizer)


def build_denoiser(config: RunConfig, model: nn.Module | Given, tokenizer: Tokenizer) -> Denoiser:
    """The network as a distribution over clean tokens."""
    if config.diffusion.corruption == "none":
        return LeftToRight(model, tokenizer.mask_id, begin_token(config, tokenizer))
    backbone = build_backbone(config, model, tokenizer)
    return Subs(backbone, tokenizer.mask_id, time_dependent=config.model.time != "none")


def build_backbone(config: RunConfig, model: nn.Module | Given, tokenizer: Tokenizer) -> Backbone:
    """The network, its logits speaking of their own positions."""
    return Shifted(model, begin_token(config, tokenizer)) if config.diffusion.prediction == "next" else model


def begin_token(config: RunConfig, tokenizer: Tokenizer) -> int:
    """What stands before the first token.

    Raises:
        ValueError: the end-of-text token is asked for, and there is none.
    """
    if config.diffusion.begin == "mask":
        return tokenizer.mask_id
    if tokenizer.end_id is None:
        raise ValueError("diffusion.begin is end, but the tokenizer has no end-of-text token: use mask")
    return tokenizer.end_id


class CachedReader:
    """A causal model with its key/value cache, as `write_on` wants it."""

    def __init__(self, model: Transformer, rows: int, mask_id: int, length: int | None = None) -> None:
        self.model, self.mask_id, self.cache = model, mask_id, empty_cache(model, rows, length)

    def read(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Read on; log p of what follows."""
        logits = read_on(self.model, tokens, self.cache, lengths).float()
        logits[:, self.mask_id] = -torch.inf
        return logits.log_softmax(-1)

    def keep(self, rows: Tensor) -> None:
        """Forget all other rows."""
        self.cache.keep(rows)


def build_data(
    config: DataConfig,
    folder: Path,
    progress: Progress = lambda characters: None,
    *,
    tokenizer: Tokenizer | None = None,
    reuse: bool = False,
) -> TokenData:
    """Tokens and their tokenizer: prepared into `folder`, or opened where they are if the source is prepared already.

    A `tokenizer` that is given (that of a model to start from) is used instead of the one that the config names. With `reuse`,
    what an earlier call with the same config left in `folder` is taken as it is: right for a run that goes on.
    """
    source = Path(config.source).expanduser()
    data = open_tokens(source) if is_prepared(source) else None
    if data is None and reuse and prepared_with(folder, asdict(config)):
        data = open_tokens(folder)
    if data is None:
        return prepare(
            build_corpus(config),
            folder,
            lambda train, everything: tokenizer or build_tokenizer(config, train, everything),
            val_fraction=config.val_fraction,
            settings=asdict(config),
            progress=progress,
        )
    if data.tokenizer is not None:
        if tokenizer is not None and data.tokenizer.fingerprint() != tokenizer.fingerprint():
            raise ValueError(f"{source} was prepared with another tokenizer than that of the model to start from")
        return data
    if tokenizer is None and config.tokenizer in ("char", "bpe"):
        raise ValueError(f"{source} has tokens but no tokenizer: name theirs with --data.tokenizer, for example gpt2")
    tokenizer = tokenizer or build_tokenizer(config, (), ())
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

"""Where a run starts: from nothing, from another model (a GPT becomes a diffusion model), or from its own checkpoint."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unmask.backbones.lowrank import add_low_rank
from unmask.backbones.masked import MaskedLM
from unmask.config import RunConfig, build_model
from unmask.pretrained import (
    Network,
    Pretrained,
    load_base,
    load_pretrained,
    read_model_config,
    read_model_tokenizer,
)
from unmask.pretrained.masked import CAUSAL, rebuild
from unmask.text.tokenizer import Tokenizer
from unmask.training.checkpoint import check_resumable, find_checkpoint


@dataclass(frozen=True)
class Start:
    """The beginning of a run.

    Attributes:
        config: the run's settings, with the shape of the model that it starts from.
        base: that model, at the run's length; None: from nothing, or from a checkpoint that has all weights.
        checkpoint: what is resumed; None: nothing.
    """

    config: RunConfig
    base: Pretrained | None
    checkpoint: Path | None

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer that comes with the weights; None: the config's."""
        if self.checkpoint is not None:
            own = self.config.adapt.source is None and self.config.backbone is None
            return None if own else read_model_tokenizer(self.checkpoint)
        return None if self.base is None else self.base.tokenizer

    def build(self, tokenizer: Tokenizer, device: torch.device) -> Network:
        """The network, before a checkpoint is read into it."""
        config = self.config
        if config.backbone is not None:
            found = self.base.model if self.base is not None else rebuild_from(self.checkpoint, tokenizer, config)
            found.checkpointing = config.train.checkpointing
            return found.to(device)
        model = build_model(config, tokenizer.vocab_size)
        if self.base is not None:
            # a plain model's thoughts are still to come
            model.load_state_dict(self.base.model.state_dict(), strict=not config.thought.dims)
        if config.adapt.lora:
            add_low_rank(model, config.adapt.lora, tokenizer.mask_id, torch.Generator().manual_seed(config.train.seed))
        model.checkpointing = config.train.checkpointing
        return model.to(device)


def find_start(config: RunConfig, out: Path, resume: str | None) -> Start:
    """Look at what is asked, before anything is written.

    Raises:
        ValueError: `out` holds a run that is not to be resumed, the checkpoint is of another kind of run, or there is no
            such model to start from.
    """
    last = out / "checkpoints" / "last"
    if resume is None and last.exists():
        raise ValueError(f"{out} already holds a run: go on with --resume auto, or choose another --out")
    source = None if resume is None else last if resume == "auto" else find_checkpoint(Path(resume))
    if source is not None and source.exists():
        if config.adapt.source is not None:
            saved = read_model_config(source)[0]
            adapt = replace(config.adapt, source=saved.adapt.source or config.adapt.source)
            config = replace(taking_over(config, saved), adapt=adapt)
        if config.backbone is not None:
            config = taking_backbone(config, read_model_config(source)[0])
        check_resumable(source, config)
        # a checkpoint of adapters has no other weights
        return Start(config, load_base(config) if config.adapt.lora else None, source)
    if config.backbone is not None:
        found = load_pretrained(config.backbone)
        if not isinstance(found.model, MaskedLM):
            if found.config.diffusion.corruption == "none":
                raise ValueError(CAUSAL.format(config.backbone, config.backbone))
            raise ValueError(
                f"{config.backbone} is a model of ours: start from it with --adapt.source instead of --backbone"
            )
        if config.model.length > found.model.length:
            raise ValueError(
                f"{config.backbone} reads at most {found.model.length} tokens, special ones aside: set --model.length to no more"
            )
        return Start(taking_backbone(config, found.config), found, None)
    if config.adapt.source is None:
        return Start(config, None, None)
    path = Path(config.adapt.source).expanduser()
    if path.exists():  # wherever the next command is started
        config = replace(config, adapt=replace(config.adapt, source=str(path.resolve())))
    base = load_base(config)
    return Start(taking_over(config, base.config), base, None)


def taking_backbone(config: RunConfig, source: RunConfig) -> RunConfig:
    """The run's settings with the place where its masked language model was found; its shape is not ours to set."""
    return replace(config, model=replace(source.model, length=config.model.length), backbone=source.backbone)


def rebuild_from(checkpoint: Path | None, tokenizer: Tokenizer, config: RunConfig) -> MaskedLM:
    """The network of a run that goes on."""
    assert checkpoint is not None
    return rebuild(checkpoint, tokenizer, config.model.length)


def taking_over(config: RunConfig, source: RunConfig) -> RunConfig:
    """The run's settings with the source's shape and its token for the beginning."""
    shape = replace(
        source.model,
        attention=config.model.attention,
        length=config.model.length,
        dropout=config.model.dropout,
    )
    return replace(config, model=shape, diffusion=replace(config.diffusion, begin=source.diffusion.begin))

"""Any model by name."""

from dataclasses import replace
from pathlib import Path

import torch

from unmask.backbones.lowrank import add_low_rank, merge
from unmask.backbones.transformer import Transformer
from unmask.config import RunConfig
from unmask.pretrained.folders import (
    ADAPTER,
    Pretrained,
    find_model,
    load_native,
    load_weights,
    named_weights,
    read_model_config,
    read_model_tokenizer,
    read_tensors,
)
from unmask.pretrained.foreign import is_foreign, load_foreign, shortened


def load_pretrained(source: str | Path) -> Pretrained:
    """Load a run folder, a checkpoint folder, a shipped model, or a hub id (the only case that uses the network).

    GPTs from elsewhere load too, as autoregressive models: transformers folders of GPT-2 and Llama, GGUF files, and
    nanoGPT's ckpt.pt; and so do masked language models of transformers (BERT and its kin), as they are, from a folder or
    from inside an installed package that is named. A folder of adapters is merged with its base.

    Raises:
        ValueError: nothing is there, or a file is missing, cut short or does not fit the others.
    """
    path = Path(source).expanduser()
    found = path if path.is_file() else find_model(source)
    if is_foreign(found):
        return load_foreign(found)
    if found.is_file():
        raise ValueError(f"{found} is no model: give a folder, a .gguf file or nanoGPT's ckpt.pt")
    return load_adapted(found) if (found / ADAPTER).is_file() else load_native(found)


def load_base(config: RunConfig) -> Pretrained:
    """The model that a run starts from, at the run's length."""
    assert config.adapt.source is not None
    return shortened(load_pretrained(config.adapt.source), config.model.length)


def load_adapted(folder: Path) -> Pretrained:
    """A base with the folder's adapters merged into it.

    Raises:
        ValueError: the base is not where it was, or the adapters are not for it.
    """
    config, vocab_size, _ = read_model_config(folder)
    try:
        base = load_base(config)
    except ValueError as error:
        raise ValueError(f"{folder} holds adapters only, and their base cannot be loaded: {error}") from None
    tokenizer = read_model_tokenizer(folder)
    if base.tokenizer.fingerprint() != tokenizer.fingerprint():
        raise ValueError(f"{folder} holds adapters of another base than {config.adapt.source}")
    model = Transformer(config.model, vocab_size)
    load_weights(model, named_weights(base.model), base.folder)
    add_low_rank(model, config.adapt.lora, tokenizer.mask_id, torch.Generator())
    load_weights(model, read_tensors(folder / ADAPTER), folder)
    merge(model)
    merged = replace(config, adapt=replace(config.adapt, lora=0))
    return Pretrained(model.eval(), tokenizer, merged, folder)

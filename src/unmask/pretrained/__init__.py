"""Models on disk: our own folders, and GPTs from elsewhere."""

from unmask.pretrained.folders import (
    Network,
    Pretrained,
    atomic_folder,
    load_weights,
    named_weights,
    packaged_models,
    read_model_config,
    read_model_tokenizer,
    read_tensors,
    save_pretrained,
    shipped_models,
    weights_file,
    write_tensors,
)
from unmask.pretrained.foreign import shortened
from unmask.pretrained.loading import load_base, load_pretrained

__all__ = [
    "Network",
    "Pretrained",
    "atomic_folder",
    "load_base",
    "load_pretrained",
    "load_weights",
    "named_weights",
    "packaged_models",
    "read_model_config",
    "read_model_tokenizer",
    "read_tensors",
    "save_pretrained",
    "shipped_models",
    "shortened",
    "weights_file",
    "write_tensors",
]

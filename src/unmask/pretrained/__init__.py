"""Models on disk: our own folders, and GPTs from elsewhere."""

from pathlib import Path

from unmask.pretrained.folders import (
    Pretrained,
    atomic_folder,
    find_model,
    load_native,
    load_weights,
    named_weights,
    read_model_config,
    read_tensors,
    save_pretrained,
    shipped_models,
    write_tensors,
)
from unmask.pretrained.foreign import is_foreign, load_foreign, shortened

__all__ = [
    "Pretrained",
    "atomic_folder",
    "load_pretrained",
    "load_weights",
    "named_weights",
    "read_model_config",
    "read_tensors",
    "save_pretrained",
    "shipped_models",
    "shortened",
    "write_tensors",
]


def load_pretrained(source: str | Path) -> Pretrained:
    """Load a run folder, a checkpoint folder, a shipped model, or a hub id (the only case that uses the network).

    GPTs from elsewhere load too, as autoregressive models: transformers folders of GPT-2 and Llama, GGUF files, and
    nanoGPT's ckpt.pt.

    Raises:
        ValueError: nothing is there, or a file is missing, cut short or does not fit the others.
    """
    path = Path(source).expanduser()
    found = path if path.is_file() else find_model(source)
    if is_foreign(found):
        return load_foreign(found)
    if found.is_file():
        raise ValueError(f"{found} is no model: give a folder, a .gguf file or nanoGPT's ckpt.pt")
    return load_native(found)

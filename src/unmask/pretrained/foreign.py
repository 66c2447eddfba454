"""GPTs from elsewhere as our transformer: GPT-2 and Llama folders, GGUF files, nanoGPT's ckpt.pt."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as Backend
from torch import Tensor

from unmask.backbones.transformer import Transformer
from unmask.config import DataConfig, DiffusionConfig, RunConfig
from unmask.pretrained.folders import Pretrained, load_weights, read_tensors
from unmask.pretrained.layouts import LAYOUTS, read_layout
from unmask.pretrained.masked import load_masked
from unmask.text.tokenizer import Tokenizer, gpt2_tokenizer, load_tokenizer, merges_tokenizer

SPARE = 1024
"""Rows of a vocabulary that no token uses: some models pad theirs to a round number."""
GPT2_SIZES = (50257, 50304)


def is_foreign(path: Path) -> bool:
    """Whether a path is a checkpoint of another library that we can try to read."""
    if path.is_file():
        return path.suffix in (".gguf", ".pt", ".pth")
    return (path / "config.json").is_file() and "model_type" in read_json(path / "config.json")


def load_foreign(path: Path) -> Pretrained:
    """A causal or a masked language model of another library.

    Raises:
        ValueError: see `load_causal` and `load_masked`.
    """
    if path.is_dir() and read_json(path / "config.json").get("model_type") not in LAYOUTS:
        return Pretrained(*load_masked(path), path)
    return load_causal(path)


def load_causal(path: Path) -> Pretrained:
    """A causal model from a transformers folder (gpt2, llama), a .gguf file, or nanoGPT's ckpt.pt.

    Its vocabulary grows by the mask, whose row is the mean of the others; rows that no token uses are dropped.

    Raises:
        ValueError: another architecture (what is missing or unknown is named), a file that holds more than weights, or a
            tokenizer that does not fit.
    """
    kind, settings, tensors, tokenizer = read_foreign(path)
    shape, weights = read_layout(kind, settings, tensors, str(path))
    for name in ("embedding.weight", "head.weight"):
        if name in weights:
            weights[name] = grown(weights[name].float(), tokenizer, path)
    begin = "mask" if tokenizer.end_id is None else "end"
    config = RunConfig(
        data=DataConfig(tokenizer=str(path)),
        model=shape,
        diffusion=DiffusionConfig(corruption="none", objective="autoregressive", begin=begin),
    )
    model = Transformer(shape, tokenizer.vocab_size)
    load_weights(model, {name: tensor.float() for name, tensor in weights.items()}, path)
    return Pretrained(model.eval(), tokenizer, config, path)


def read_foreign(path: Path) -> tuple[str, dict[str, Any], dict[str, Tensor], Tokenizer]:
    """The kind of a checkpoint, its settings, its tensors and its tokenizer."""
    if path.suffix == ".gguf":
        return read_gguf(path)
    if path.is_file():
        return read_nanogpt(path)
    settings = read_json(path / "config.json")
    return settings["model_type"], settings, read_folder_tensors(path), find_tokenizer(path)


def read_folder_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of a transformers folder: safetensors, in one file or several, or a .bin of weights only."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = sorted(set(read_json(index).get("weight_map", {}).values()))
        return {name: tensor for file in files for name, tensor in read_tensors(folder / file).items()}
    if (folder / "model.safetensors").is_file():
        return read_tensors(folder / "model.safetensors")
    if (folder / "pytorch_model.bin").is_file():
        return read_pickled(folder / "pytorch_model.bin")
    raise ValueError(f"{folder} has no weights: neither model.safetensors nor pytorch_model.bin")


def read_pickled(file: Path) -> dict[str, Any]:
    """A file of torch.save that holds weights and plain values; anything else in it is refused unread."""
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = "it holds more than weights" if "Unsupported" in str(error) else "it is damaged"
        raise ValueError(f"{file} is refused: {reason}") from None
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{file} is damaged or cut short: {' '.join(str(error).split())[:120]}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{file} is no checkpoint: it holds a {type(found).__name__}")
    return found


def read_nanogpt(file: Path) -> tuple[str, dict[str, Any], dict[str, Tensor], Tokenizer]:
    """NanoGPT's ckpt.pt; its tokenizer is a tokenizer.json beside it, or GPT-2's where the size says so."""
    found = read_pickled(file)
    if not isinstance(found.get("model_args"), dict) or not isinstance(found.get("model"), dict):
        raise ValueError(f"{file} is no nanoGPT checkpoint: it has no model_args and model")
    settings = found["model_args"]
    if (file.parent / "tokenizer.json").is_file():
        tokenizer = load_tokenizer(str(file.parent / "tokenizer.json"))
    elif settings.get("vocab_size") in GPT2_SIZES:
        tokenizer = gpt2_tokenizer()
    else:
        raise ValueError(
            f"{file} has a vocabulary of {settings.get('vocab_size')} tokens and no tokenizer: put its tokenizer.json beside it"
        )
    return "nanogpt", settings, found["model"], tokenizer


def read_gguf(file: Path) -> tuple[str, dict[str, Any], dict[str, Tensor], Tokenizer]:
    """A GGUF file, unpacked by transformers."""
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        raise ValueError("GGUF files need transformers and gguf: pip install 'unmask[judge]'") from None
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
        model: Any = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float32)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ValueError(f"{file} cannot be read: {' '.join(str(error).split())}") from None
    settings = model.config.to_dict()
    kind = settings.get("model_type")
    if kind not in LAYOUTS:
        raise ValueError(f"{file} is a {kind} model; those that can be read are {', '.join(LAYOUTS)}")
    return kind, settings, dict(model.state_dict()), Tokenizer(Backend.from_str(tokenizer.backend_tokenizer.to_str()))


def find_tokenizer(folder: Path) -> Tokenizer:
    """The folder's tokenizer.json, or GPT-2's older pair of files."""
    if (folder / "tokenizer.json").is_file():
        return load_tokenizer(str(folder))
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return merges_tokenizer(folder / "vocab.json", folder / "merges.txt")
    raise ValueError(f"{folder} has no tokenizer: neither tokenizer.json nor vocab.json and merges.txt")


def grown(table: Tensor, tokenizer: Tokenizer, where: Path) -> Tensor:
    """A table of the vocabulary with a row for each of the tokenizer's tokens; the mask's is the mean of the others."""
    rows, known = len(table), tokenizer.vocab_size - tokenizer.mask_added
    if not known <= rows <= known + SPARE:
        raise ValueError(f"{where} does not fit its tokenizer: the model has {rows} tokens, the tokenizer {known}")
    table = table[:known]
    return torch.cat([table, table.mean(0, keepdim=True)]) if tokenizer.mask_added else table


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object, or one sentence on why not."""
    try:
        values = json.loads(file.read_text("utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{file} is no JSON object")
    return values


def shortened(loaded: Pretrained, length: int) -> Pretrained:
    """The same model for canvases of another length: learned positions are cut, rotary ones have no end."""
    if not isinstance(loaded.model, Transformer):
        raise ValueError(f"{loaded.folder} is a masked language model already: train it with --backbone instead")
    own = loaded.model.config
    if own.positions == "learned" and length > own.length:
        raise ValueError(f"{loaded.folder} has {own.length} learned positions; a length of {length} is more")
    shape = replace(own, length=length)
    model = Transformer(shape, loaded.model.vocab_size)
    weights = loaded.model.state_dict()
    if "position.weight" in weights:
        weights["position.weight"] = weights["position.weight"][:length]
    model.load_state_dict(weights)
    return replace(loaded, model=model.eval(), config=replace(loaded.config, model=shape))

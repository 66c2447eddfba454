"""Model folders: written whole or not at all, read with a clear word about whatever is wrong.

A checkpoint folder holds `config.json`, `model.safetensors` and `tokenizer.json`, and, when training can go on from it,
`trainer/`. A run folder holds checkpoints; its best one is meant, or its last. Nothing is ever unpickled.
"""

import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unmask.backbones.lowrank import adapters
from unmask.backbones.masked import MaskedLM
from unmask.backbones.transformer import Transformer
from unmask.config import RunConfig, build_network, read_config
from unmask.names import nearest
from unmask.pretrained.masked import ARCHITECTURE, rebuild
from unmask.text.tokenizer import Tokenizer

FORMAT = 1
FILES = ("config.json", "model.safetensors", "tokenizer.json")
ADAPTER = "adapter.safetensors"
FOREIGN_FILES = ("model*.safetensors", "model.safetensors.index.json", "vocab.json", "merges.txt")
TOKENIZER_FILES = ("vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "*.model")

Network: TypeAlias = Transformer | MaskedLM


@dataclass(frozen=True)
class Pretrained:
    """A model with what it takes to use it."""

    model: Network
    tokenizer: Tokenizer
    config: RunConfig
    folder: Path


def save_pretrained(
    folder: Path,
    weights: dict[str, Tensor],
    tokenizer: Tokenizer,
    config: RunConfig,
    architecture: dict[str, Any] | None = None,
) -> None:
    """Write the three files of a model into an existing folder; of a model with adapters, these only.

    A network that is not ours needs a fourth, its `architecture`.
    """
    if architecture is not None:
        (folder / ARCHITECTURE).write_text(json.dumps(architecture, indent=2) + "\n", "utf-8")
    text = {"format": FORMAT, "vocab_size": tokenizer.vocab_size, "tokenizer": tokenizer.fingerprint()}
    (folder / "config.json").write_text(json.dumps(text | config.to_dict(), indent=2) + "\n", "utf-8")
    write_tensors(weights, folder / (ADAPTER if config.adapt.lora else FILES[1]))
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), "utf-8")


def load_native(folder: Path) -> Pretrained:
    """Load a checkpoint folder of ours.

    Raises:
        ValueError: a file is missing, cut short or does not fit the others.
    """
    for name in FILES:
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is not a whole model: {name} is missing")
    config, vocab_size, _ = read_model_config(folder)
    tokenizer = read_model_tokenizer(folder)
    plain = config.backbone is None
    model = build_network(config, vocab_size) if plain else rebuild(folder, tokenizer, config.model.length)
    load_weights(model, read_tensors(folder / "model.safetensors"), folder)
    return Pretrained(model.eval(), tokenizer, config, folder)


def weights_file(folder: Path) -> Path:
    """A checkpoint's weights, or its adapters'."""
    return folder / ADAPTER if (folder / ADAPTER).is_file() else folder / FILES[1]


def read_model_tokenizer(folder: Path) -> Tokenizer:
    """tokenizer.json, which must be the one that the model was trained with."""
    tokenizer = Tokenizer.from_json((folder / "tokenizer.json").read_text("utf-8"), str(folder / "tokenizer.json"))
    if tokenizer.fingerprint() != read_model_config(folder)[2]:
        raise ValueError(f"{folder}/tokenizer.json is not the tokenizer that this model was trained with")
    return tokenizer


def read_model_config(folder: Path) -> tuple[RunConfig, int, str]:
    """config.json: the run, the vocabulary's size and the tokenizer's fingerprint."""
    try:
        values = json.loads((folder / "config.json").read_text("utf-8"))
        form, vocab_size, fingerprint = (values.pop(key) for key in ("format", "vocab_size", "tokenizer"))
    except (json.JSONDecodeError, KeyError, AttributeError, TypeError, OSError) as error:
        raise ValueError(f"{folder}/config.json is not a model's config: {error}") from None
    if form != FORMAT:
        raise ValueError(f"{folder} has format {form}; this version of unmask reads format {FORMAT}")
    return read_config(values), int(vocab_size), str(fingerprint)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """A safetensors file, or one sentence on why not."""
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is damaged or cut short: {error}") from None


def write_tensors(tensors: dict[str, Tensor], file: Path) -> None:
    """A safetensors file.

    Raises:
        OSError: it could not be written; the disk may be full.
    """
    try:
        save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, file)
    except SafetensorError as error:
        raise OSError(f"{file} could not be written: {error}") from None


def named_weights(model: Network) -> dict[str, Tensor]:
    """The weights that are saved: shared ones once; of a model with adapters, these only."""
    if apart := adapters(model):
        return apart
    once = {name for named in (model.named_parameters(), model.named_buffers()) for name, _ in named}
    return {name: tensor for name, tensor in model.state_dict().items() if name in once}


def load_weights(model: Network, weights: dict[str, Tensor], folder: Path) -> None:
    """Put saved weights into a model of the same shape."""
    own = named_weights(model)
    missing, extra = own.keys() - weights.keys(), weights.keys() - own.keys()
    if missing or extra:
        raise ValueError(
            f"{folder} does not fit its config: missing {sorted(missing)[:3]}, unknown {sorted(extra)[:3]}"
        )
    wrong = [name for name in own if own[name].shape != weights[name].shape]
    if wrong:
        raise ValueError(
            f"{folder} does not fit its config: {wrong[0]} is {list(weights[wrong[0]].shape)}, not {list(own[wrong[0]].shape)}"
        )
    # what is missing by now is a tied head, or what the adapters leave alone
    model.load_state_dict(weights, strict=False)


def shipped_models() -> list[str]:
    """The models inside the package."""
    root = resources.files("unmask").joinpath("models")
    return sorted(folder.name for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []


def find_model(source: str | Path) -> Path:
    """The checkpoint folder that a name means."""
    path = Path(source).expanduser()
    for inside in (".", "checkpoints/best", "checkpoints/last"):
        if (path / inside / "config.json").is_file():
            return (path / inside).resolve()
    if path.is_dir():
        raise ValueError(f"{path} holds no model: neither config.json nor checkpoints/")
    if str(source) in shipped_models():
        return Path(str(resources.files("unmask").joinpath("models", str(source))))
    if str(source).isidentifier() and (packaged := packaged_models(str(source))):
        if len(packaged) > 1:
            raise ValueError(
                f"the package {source} holds several models; give one folder: {', '.join(map(str, packaged))}"
            )
        return packaged[0]
    # runs/typo is a mistyped folder, not a hub id, where runs/ exists: the network is for hub ids only
    if str(source).count("/") != 1 or str(source).startswith((".", "/", "~")) or path.parent.is_dir():
        shipped = shipped_models()
        raise ValueError(
            f"there is no model {str(source)!r}{nearest(str(source), shipped)}: give a run folder, a checkpoint folder, "
            f"a hub id, an installed package that holds a model, or a shipped model ({', '.join(shipped) or 'none'})"
        )
    return _from_hub(str(source))


def packaged_models(package: str) -> list[Path]:
    """The model folders of transformers inside an installed package, which is not imported."""
    found = importlib.util.find_spec(package)
    roots = [] if found is None else found.submodule_search_locations or []
    files = sorted(file for root in roots for file in Path(root).rglob("config.json"))
    return [file.parent for file in files if '"model_type"' in file.read_text("utf-8")]


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise ValueError(f"there is no folder {name!r}; for a hub id, pip install 'unmask[hub]'") from None
    try:
        return Path(snapshot_download(name, allow_patterns=[*FILES, *FOREIGN_FILES, *TOKENIZER_FILES]))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ValueError(f"there is no folder {name!r}, and the hub did not give it: {error}".splitlines()[0]) from None


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A folder to write into that becomes `target` only when everything went well; after a failure nothing is left."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for file in partial.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise

"""Masked language models from elsewhere: folders, hub ids, and folders inside installed packages."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from unmask.backbones.masked import MaskedLM, Surround
from unmask.backbones.transformer import TransformerConfig
from unmask.config import DataConfig, RunConfig
from unmask.text.tokenizer import Tokenizer

ARCHITECTURE = "architecture.json"
NEEDS_TRANSFORMERS = "masked language models need transformers: pip install 'unmask[bert]'"
CAUSAL = (
    "{} is a causal language model: it has never seen what follows a mask. Give a masked one (BERT, RoBERTa, ModernBERT and "
    "their kin), or make a diffusion model of it first: unmask train shakespeare-demo --adapt.source {}"
)
# Schwaller et al. (2019): the atoms, bonds, rings and arrows of a reaction
SMILES = r"(\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$|%[0-9]{2}|[0-9])"


def load_masked(folder: Path) -> tuple[MaskedLM, Tokenizer, RunConfig]:
    """A masked language model of transformers with its own tokenizer.

    Raises:
        ValueError: transformers is not installed, the model has no masked-language-model head, or its tokenizer no mask.
    """
    tokenizer = masked_tokenizer(folder)
    network = read_network(folder)
    check_fits(network, tokenizer, folder)
    model = wrap(network, tokenizer)
    shape = TransformerConfig(length=model.length)
    config = RunConfig(data=DataConfig(tokenizer=str(folder)), model=shape, backbone=str(folder))
    return model.eval(), tokenizer, config


def rebuild(folder: Path, tokenizer: Tokenizer, length: int) -> MaskedLM:
    """The network of a checkpoint of ours, its weights still to come.

    Raises:
        ValueError: `architecture.json` is missing or says nothing that transformers knows.
    """
    try:
        from transformers import AutoConfig, AutoModelForMaskedLM
    except ImportError:
        raise ValueError(NEEDS_TRANSFORMERS) from None
    try:
        values: dict[str, Any] = json.loads((folder / ARCHITECTURE).read_text("utf-8"))["config"]
        config: Any = AutoConfig.for_model(**values)
        network: Any = AutoModelForMaskedLM.from_config(config)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder}/{ARCHITECTURE} does not describe a masked language model: {error}") from None
    model = wrap(network, tokenizer)
    model.length = length
    return model


def wrap(network: Any, tokenizer: Tokenizer) -> MaskedLM:
    """A network and its tokenizer's special tokens as a backbone."""
    before, after = tokenizer.surround()
    surround = Surround(before, after, network.config.pad_token_id or 0)
    return MaskedLM(network, surround, tokenizer.vocab_size, limit(network) - len(before) - len(after))


def limit(network: Any) -> int:
    """The most tokens that the network can place, special ones included."""
    places = getattr(network.config, "max_position_embeddings", None) or 512
    table = getattr(getattr(network.base_model, "embeddings", None), "position_embeddings", None)
    # RoBERTa and its kin count from behind the padding's id
    padding = getattr(table, "padding_idx", None)
    return int(places) - (0 if padding is None else int(padding) + 1)


def read_network(folder: Path) -> Any:
    """The network of a folder, its head included."""
    try:
        from transformers import AutoModelForMaskedLM
        from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as KINDS
    except ImportError:
        raise ValueError(NEEDS_TRANSFORMERS) from None
    kind = json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
    if kind not in KINDS:
        raise ValueError(
            f"{folder} is a {kind} model; those that can be read are gpt2, llama and masked language models"
        )
    try:
        with quiet():
            network, report = AutoModelForMaskedLM.from_pretrained(
                str(folder), dtype=torch.float32, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ValueError(
            f"{folder} cannot be read as a masked language model: {' '.join(str(error).split())}"
        ) from None
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"{folder} has no head that fills masks ({missing[0]} is missing): it may be an encoder for sentences; give a "
            "model of the kind ...ForMaskedLM"
        )
    return network


def check_fits(network: Any, tokenizer: Tokenizer, folder: Path) -> None:
    """A mask to fill, and a row of the table for each token."""
    if tokenizer.mask_added:
        raise ValueError(f"{folder} has a tokenizer without a mask token, so there is nothing that it could fill")
    if tokenizer.vocab_size > network.config.vocab_size:
        raise ValueError(
            f"{folder} does not fit its tokenizer: the model has {network.config.vocab_size} tokens, the tokenizer "
            f"{tokenizer.vocab_size}"
        )


def masked_tokenizer(folder: Path) -> Tokenizer:
    """tokenizer.json, a SMILES vocabulary, or whatever transformers makes of the folder."""
    if (folder / "tokenizer.json").is_file():
        return Tokenizer.from_json((folder / "tokenizer.json").read_text("utf-8"), str(folder / "tokenizer.json"))
    if (folder / "vocab.txt").is_file():
        words = (folder / "vocab.txt").read_text("utf-8").split("\n")
        if ">>" in words and not any(word.startswith("##") for word in words):
            return smiles_tokenizer([word for word in words if word])
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise ValueError(NEEDS_TRANSFORMERS) from None
    try:
        with quiet():
            found: Any = AutoTokenizer.from_pretrained(str(folder))
        return Tokenizer(Backend.from_str(found.backend_tokenizer.to_str()))
    except (OSError, ValueError, AttributeError, ImportError, KeyError) as error:
        raise ValueError(f"{folder} has no tokenizer that can be read: {' '.join(str(error).split())[:200]}") from None


def smiles_tokenizer(words: list[str]) -> Tokenizer:
    """One token an atom, bond, ring or arrow, as chemistry's language models have it."""
    backend = Backend(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    # what is no chemistry is an unknown token, not nothing
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(f"{SMILES}|."), "removed", invert=True)
    backend.decoder = decoders.Fuse()
    special = [word for word in words if word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") or "[unused" in word]
    backend.add_special_tokens([AddedToken(word, normalized=False) for word in special])
    ends = [(name, words.index(name)) for name in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return Tokenizer(backend)


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and reports: what matters of them is said in our own words."""
    from transformers.utils import logging as reports

    level, logger = reports.get_verbosity(), logging.getLogger("transformers")
    shown = reports.is_progress_bar_enabled()
    reports.set_verbosity(logging.CRITICAL)
    reports.disable_progress_bar()
    try:
        yield
    finally:
        reports.set_verbosity(level)
        logger.setLevel(level)
        if shown:
            reports.enable_progress_bar()

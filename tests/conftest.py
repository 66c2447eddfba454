"""Shared fixtures; shapes in signatures are checked at run time in every test."""

import json
import os
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook(
    ["unmask.diffusion", "unmask.backbones", "unmask.sampling", "unmask.evaluation", "unmask.thought"],
    "beartype.beartype",
)

from unmask.backbones.transformer import Transformer, TransformerConfig  # noqa: E402
from unmask.config import RunConfig, read_config  # noqa: E402

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))

TEXT = "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer\n"


def random_model(vocab_size: int = 12, seed: int = 0, **shape: object) -> Transformer:
    """A tiny network with weights that say something."""
    sizes = {"layers": 2, "width": 32, "heads": 4, "length": 16} | shape
    model = Transformer(TransformerConfig(**sizes), vocab_size)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 or name.endswith("bias"):
            torch.nn.init.normal_(parameter, 0, 0.3, generator=generator)
    return model.eval()


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    """A small text file."""
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT * 40, "utf-8")
    return path


def tiny_config(source: Path | str, **train: object) -> RunConfig:
    """A run that trains in a second."""
    steps = {"steps": 4, "batch_size": 4, "eval_every": 2, "eval_blocks": 4, "save_every": 2, "log_every": 1}
    return read_config(
        {
            "data": {"source": str(source), "tokenizer": "char"},
            "model": {"layers": 1, "width": 32, "heads": 2, "length": 16},
            "optim": {"lr": 0.01, "warmup": 5},
            "train": steps | {"precision": "fp32"} | train,
        }
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a tiny model that knows its text a little."""
    from unmask.training.trainer import train

    root = tmp_path_factory.mktemp("trained")
    corpus = root / "corpus.txt"
    corpus.write_text(TEXT * 40, "utf-8")
    return train(tiny_config(corpus, steps=400, eval_every=100, save_every=100, batch_size=16), root / "run").run


@pytest.fixture(scope="session")
def mender(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a tiny model trained to repair the same text."""
    from unmask.training.trainer import train

    root = tmp_path_factory.mktemp("mender")
    corpus = root / "corpus.txt"
    corpus.write_text(TEXT * 40, "utf-8")
    config = tiny_config(corpus, steps=600, eval_every=300, save_every=300, batch_size=16).to_dict()
    config["model"] |= {"layers": 2, "width": 64, "length": 48}
    config["diffusion"] |= {"corruption": "repair", "objective": "repair"}
    return train(read_config(config), root / "run").run


@pytest.fixture(scope="session")
def thoughtful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a tiny model with thoughts, trained to repair too."""
    from unmask.training.trainer import train

    root = tmp_path_factory.mktemp("thoughtful")
    corpus = root / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": TEXT[i:] + TEXT * 6}) + "\n" for i in range(12)))
    values = tiny_config(corpus, steps=120, eval_every=120, save_every=120, batch_size=8).to_dict()
    values["thought"] |= {"dims": [4, 4, 2], "slots": 3, "every": 1}
    values["thinking"] |= {"segments": 2, "ramp": 20}
    values["diffusion"] |= {"corruption": "repair", "objective": "repair"}
    return train(read_config(values), root / "run").run

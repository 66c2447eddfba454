"""Put a trained run into the package as a shipped model: bfloat16 weights, no trainer state.

    unmask train shakespeare-demo --out runs/ship --train.steps 3000
    python scripts/ship_model.py runs/ship shakespeare

The metrics of the run are kept beside it as metrics.jsonl.
"""

import shutil
import sys
from pathlib import Path

import torch

from unmask.pretrained import load_pretrained, named_weights, save_pretrained

MODELS = Path(__file__).parent.parent / "src/unmask/models"


def main(run: Path, name: str) -> None:
    loaded = load_pretrained(run)
    weights = {key: tensor.to(torch.bfloat16) for key, tensor in named_weights(loaded.model).items()}
    folder = MODELS / name
    folder.mkdir(parents=True, exist_ok=True)
    save_pretrained(folder, weights, loaded.tokenizer, loaded.config)
    shutil.copy(run / "metrics.jsonl", folder / "metrics.jsonl")
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder.name}: {loaded.folder.name}, {size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

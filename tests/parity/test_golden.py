"""Every recipe trains, and its first 20 losses are the ones on record.

Remake the record with: python tests/parity/test_golden.py
"""

import json
from pathlib import Path

import pytest
import yaml

from unmask.config import RunConfig, read_config
from unmask.recipes import recipe_names, recipe_values
from unmask.training.trainer import train

# half a billion parameters: a test builds them without memory (tests/backbones/test_thinking.py)
TOO_LARGE = ("thought-500m",)
NAMES = [name for name in recipe_names() if name not in TOO_LARGE]
RECORD = Path(__file__).parent / "golden.json"
STEPS = 20


def shortened(name: str, steps: int) -> RunConfig:
    """The recipe on less text, with fewer rows, in float32."""
    values = recipe_values(name)
    values["data"] = values.get("data", {}) | {"max_characters": 60_000}
    values["train"] = values.get("train", {}) | {
        "steps": steps,
        "batch_size": 2,
        "accumulate": 1,
        "precision": "fp32",
        "eval_every": 1000,
        "eval_blocks": 2,
        "log_every": 1,
    }
    return read_config(values)


def losses(name: str, out: Path, steps: int = STEPS) -> list[float]:
    run = train(shortened(name, steps), out).run
    rows = map(json.loads, (run / "metrics.jsonl").read_text("utf-8").splitlines())
    return [row["loss"] for row in rows if row["phase"] == "train"]


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_the_ones_on_record(name: str, tmp_path: Path) -> None:
    expected = json.loads(RECORD.read_text())[name]
    found = losses(name, tmp_path / "run")
    # processors differ in their rounding, and training amplifies it a little
    assert found == pytest.approx(expected, rel=2e-3)
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["train"]["steps"] == STEPS


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        record = {name: losses(name, Path(folder) / name) for name in NAMES}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")

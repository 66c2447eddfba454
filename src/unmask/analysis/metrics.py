"""metrics.jsonl: one JSON object a line."""

import json
from pathlib import Path
from typing import Any


def metric_rows(path: Path) -> list[dict[str, Any]]:
    """The whole rows of a metrics file; a line that kill -9 tore is left out."""
    rows: list[dict[str, Any]] = []
    for line in path.read_text("utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows

"""Where runs live when nobody says."""

from pathlib import Path


def default_run(name: str, *, resume: bool = False) -> Path:
    """runs/NAME, or the first of runs/NAME-2, ... that is free; to resume, the latest that there is."""
    candidates = [Path("runs") / (name if number == 1 else f"{name}-{number}") for number in range(1, 1000)]
    taken = [path for path in candidates if (path / "checkpoints").exists()]
    if resume and taken:
        return taken[-1]
    return next(path for path in candidates if path not in taken)

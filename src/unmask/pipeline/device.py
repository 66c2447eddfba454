"""Where to compute."""

import torch


def default_device() -> str:
    """Cuda or cpu; mps has no float64, which exact sampling needs."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_device(name: str | None) -> torch.device:
    """The device that is asked for, or the default.

    Raises:
        ValueError: it does not exist here, or cannot sample exactly.
    """
    name = name or default_device()
    kind = name.split(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"there is no device {name!r}; there are cpu and cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError("this machine or this build of torch has no cuda device: leave --device out, or use cpu")
    return torch.device(name)

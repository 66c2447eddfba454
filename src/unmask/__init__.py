"""unmask: text generation by masked diffusion."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.config import RunConfig
    from unmask.pipeline import Generation, Pipeline
    from unmask.recipes import load_recipe
    from unmask.training.trainer import train

__version__ = "0.1.0"
__all__ = ["Generation", "Pipeline", "RunConfig", "load_recipe", "train"]

_HOME = {
    "Generation": "unmask.pipeline",
    "Pipeline": "unmask.pipeline",
    "RunConfig": "unmask.config",
    "load_recipe": "unmask.recipes",
    "train": "unmask.training.trainer",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `unmask --help` never waits for torch."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'unmask' has no attribute {name!r}")

"""Recipes: named runs, one YAML file each."""

from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from unmask.config import RunConfig, check_keys, read_config
from unmask.names import check_known


def recipe_names() -> list[str]:
    """The shipped recipes, sorted."""
    files = resources.files("unmask.recipes").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def recipe_text(name: str) -> str:
    """A shipped recipe's YAML, its comments included."""
    check_known(name, recipe_names(), "recipe")
    return resources.files("unmask.recipes").joinpath(f"{name}.yaml").read_text("utf-8")


def recipe_values(name_or_file: str) -> dict[str, Any]:
    """The keys that a shipped recipe or a YAML file sets.

    Raises:
        ValueError: no such recipe (the nearest is suggested), no such file, not YAML, or an unknown key.
    """
    path = Path(name_or_file).expanduser()
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ValueError(f"there is no file {name_or_file!r}")
        text = path.read_text("utf-8")
    else:
        text = recipe_text(name_or_file)
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{name_or_file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{name_or_file} must hold sections such as data, model and train")
    check_keys(values)
    return values


def load_recipe(name_or_file: str) -> RunConfig:
    """A recipe as a config."""
    return read_config(recipe_values(name_or_file))

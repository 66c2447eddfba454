"""A run's settings from YAML, JSON or the command line, checked key by key."""

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import jsonargparse

from unmask.config.settings import RunConfig
from unmask.names import nearest


def config_keys(config: type = RunConfig, prefix: str = "") -> list[str]:
    """Every key of a run, as section.name."""
    keys: list[str] = []
    for item in fields(config):
        if isinstance(item.type, type) and is_dataclass(item.type):
            keys += config_keys(item.type, f"{prefix}{item.name}.")
        else:
            keys.append(prefix + item.name)
    return keys


def check_keys(values: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse keys that no section has."""
    keys = config_keys()
    for key, value in values.items():
        name = f"{prefix}{key}"
        if any(known.startswith(f"{name}.") for known in keys):
            if not isinstance(value, Mapping):
                raise ValueError(f"the section {name} must hold keys and values, not {value!r}")
            check_keys(value, f"{name}.")
        elif name not in keys:
            sections = [] if prefix else [item.name for item in fields(RunConfig)]
            raise ValueError(f"there is no setting {name!r}{nearest(name, sections + keys)}")


def config_parser(**kwargs: Any) -> jsonargparse.ArgumentParser:
    """A parser that takes every key of a run as --section.name."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False, **kwargs)
    parser.add_class_arguments(RunConfig, as_group=True)
    return parser


def read_config(values: Mapping[str, Any]) -> RunConfig:
    """A RunConfig from plain values; what is left out has its default.

    Raises:
        ValueError: an unknown key (with the nearest known one) or a value of the wrong kind.
    """
    check_keys(values)
    parser = config_parser()
    try:
        return RunConfig(**parser.instantiate(parser.parse_object(dict(values))))
    except jsonargparse.ArgumentError as error:
        raise ValueError(explain(error)) from None


def explain(error: Exception) -> str:
    """A parser's message as one sentence."""
    text = " ".join(str(error).split())
    wrong = re.match(r'Parser key "(.+?)": Expected a (.+?)\. Got value: (.*)', text)
    if not wrong:
        return text
    key, kind, value = wrong.groups()
    choices = re.findall(r"'([^']+)'", kind) if "Literal" in kind else []
    if choices:
        return f"{key} must be one of {', '.join(choices)}, not {value}{nearest(value, choices)}"
    kind = re.sub("<class '(.+?)'>", r"\1", kind)
    return f"{key} must be of type {kind}, not {value}"

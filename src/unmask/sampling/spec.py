"""Samplers and revisions from text: `threshold:tau=0.8`, `remdm_cap:eta=0.05+gibbs:sweeps=2`."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from unmask.diffusion.schedules import Schedule
from unmask.names import check_known
from unmask.sampling.revisions import REVISIONS
from unmask.sampling.sampler import Sampler
from unmask.sampling.samplers import SAMPLERS

WORDS = {"true": True, "yes": True, "false": False, "no": False}


def read_sampler(sampler: str, schedule: Schedule, revise: str = "", block: int | None = None) -> Sampler:
    """A sampler by name, with revisions and blocks.

    Args:
        sampler: a name of SAMPLERS, perhaps with `:key=value,...`.
        schedule: how much is masked when.
        revise: names of REVISIONS, joined by +.
        block: positions a block; None: all at once.

    Raises:
        ValueError: an unknown name or key (the nearest is suggested), or a value out of range.
    """
    builder, values = read_call(sampler, SAMPLERS, "sampler")
    result = builder(schedule, **values)
    for part in revise.split("+") if revise else ():
        builder, values = read_call(part.strip(), REVISIONS, "revision")
        result = builder(result, **values)
    return result if block is None else replace(result, block=block)


def read_call(
    text: str, table: Mapping[str, Callable[..., Sampler]], what: str
) -> tuple[Callable[..., Sampler], dict[str, Any]]:
    """A function and its arguments from `name:key=value,...`."""
    name, _, rest = text.partition(":")
    check_known(name, table, what)
    defaults = parameters(table[name])
    values: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"{item!r} in {text!r} must be key=value, as in {example(name, defaults)}")
        if not defaults:
            raise ValueError(f"the {what} {name} takes no settings, but {key} was given")
        check_known(key, defaults, f"setting of {name}")
        values[key] = convert(value, type(defaults[key]), f"{key} of {name}")
    return table[name], values


def parameters(builder: Callable[..., object]) -> dict[str, Any]:
    """The settings of a sampler or revision, with their defaults."""
    named = list(inspect.signature(builder).parameters.values())[1:]
    return {parameter.name: parameter.default for parameter in named}


def example(name: str, defaults: Mapping[str, Any]) -> str:
    """How the settings are written."""
    return f"{name}:{','.join(f'{key}={value}' for key, value in defaults.items())}" if defaults else name


def convert(text: str, kind: type, what: str) -> Any:
    """A value of the kind that the default has."""
    try:
        return WORDS[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise ValueError(f"{what} must be of type {kind.__name__}, not {text!r}") from None

"""What every call takes, its defaults, and what is refused."""

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, get_type_hints

import torch

from unmask.diffusion.schedules import SCHEDULES
from unmask.names import check_known
from unmask.sampling.controls import RANGES, Controls, Hook, token_bias
from unmask.text.tokenizer import Tokenizer

DEFAULT_STEPS = 64
SEED_LIMIT = 1 << 63
MOST_STEPS = 1_000_000


class SamplingOptions(TypedDict, total=False):
    """What every call takes.

    Keys:
        num_samples: how many texts (1).
        best_of: how many are written, of which the num_samples that the model itself finds likeliest are returned.
        steps: denoising steps; by default as many as there are tokens to fill, at most 64. Samplers that stop by
            themselves have no such cap.
        sampler: a name from `unmask list samplers`, perhaps with settings, as in "threshold:tau=0.8" ("confidence").
        revise: names from `unmask list revisions`, joined by + ("").
        block: fill so many tokens before the next ones are begun; None: all at once.
        schedule: how many are revealed when; by default the one that the model was trained with.
        temperature: of the drawn tokens; 0 takes the likeliest (0.8).
        top_k: keep only the k likeliest tokens; 0 keeps all (0).
        top_p: keep only the likeliest tokens that reach this probability (1.0).
        min_p: keep only tokens at least this share as likely as the likeliest (0.0).
        repetition_penalty: above 1, tokens that the text has already are less likely (1.0).
        guidance: weight of classifier-free guidance; twice the forward passes (0.0).
        logit_bias: what is added to a token's logit, by id or by text that is one token.
        banned: tokens that never come, by id or by text.
        forced: texts that must come; each stands where the model finds it likeliest. Not with stop.
        stop: texts at which the writing ends; they are not part of the result.
        ignore_end: write on after the end-of-text token (False).
        hooks: functions (log_probs, tokens, row, place) -> log_probs.
        seed: sample i uses seed + i, and is the same alone as among others (0).
    """

    num_samples: int
    best_of: int | None
    steps: int | None
    sampler: str
    revise: str
    block: int | None
    schedule: str | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    guidance: float
    logit_bias: Mapping[int | str, float]
    banned: Sequence[int | str]
    forced: Sequence[str]
    stop: str | Sequence[str]
    ignore_end: bool
    hooks: Sequence[Hook]
    seed: int


DEFAULTS: dict[str, Any] = {
    "num_samples": 1,
    "best_of": None,
    "steps": None,
    "sampler": "confidence",
    "revise": "",
    "block": None,
    "schedule": None,
    "temperature": 0.8,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "guidance": 0.0,
    "logit_bias": {},
    "banned": (),
    "forced": (),
    "stop": (),
    "ignore_end": False,
    "hooks": (),
    "seed": 0,
}
assert set(DEFAULTS) == set(get_type_hints(SamplingOptions))


class Settings:
    """Options with their defaults, checked.

    Raises:
        ValueError: an unknown option, one of the wrong type, or a value out of range.
    """

    def __init__(self, options: SamplingOptions, tokenizer: Tokenizer) -> None:
        for name in options:
            check_known(name, DEFAULTS, "option")
        values: dict[str, Any] = {**DEFAULTS, **options}
        self.seed = whole(values["seed"], "seed")
        self.samples = whole(values["num_samples"], "num_samples", 1)
        best_of = values["best_of"]
        self.candidates = self.samples if best_of is None else whole(best_of, "best_of")
        if self.candidates < self.samples:
            raise ValueError(f"best_of must be at least num_samples ({self.samples}), not {self.candidates}")
        if not 0 <= self.seed < SEED_LIMIT - self.candidates:
            raise ValueError(f"seed must be between 0 and 2^63, not {self.seed}")
        self.steps = None if values["steps"] is None else whole(values["steps"], "steps", 1, MOST_STEPS)
        block = None if values["block"] is None else whole(values["block"], "block", 1)
        for name in ("sampler", "revise"):
            if not isinstance(values[name], str):
                raise ValueError(f"{name} must be a name with its settings, not {values[name]!r}")
        if values["schedule"] is not None:
            check_known(values["schedule"], SCHEDULES, "schedule")
        hooks = tuple(values["hooks"] or ())
        self.plan = (values["sampler"], values["revise"], block, values["schedule"], hooks)
        self.stop = texts(values["stop"], "stop")
        self.end_id = None if values["ignore_end"] else tokenizer.end_id
        named = values["banned"] or ()
        banned = [single_token(tokenizer, item, "banned") for item in ([named] if isinstance(named, str) else named)]
        given = values["logit_bias"] or {}
        if not isinstance(given, Mapping):
            raise ValueError(f"logit_bias must map tokens to numbers, not {given!r}")
        bias = {single_token(tokenizer, key, "logit_bias"): real(value, "logit_bias") for key, value in given.items()}
        forced = texts(values["forced"], "forced")
        self.forced = [tokenizer.encode(text) for text in forced]
        for text, word in zip(forced, self.forced, strict=True):
            if set(word) & set(banned):
                raise ValueError(f"{text!r} is forced, but its token {sorted(set(word) & set(banned))[0]} is banned")
        if forced and self.stop:
            raise ValueError("forced and stop do not go together: a stop might come before what is forced")
        if forced:  # for the same reason
            self.end_id = None
        row = token_bias(tokenizer.vocab_size, bias, [*banned, *tokenizer.special_ids])
        if row is not None:
            row[tokenizer.mask_id] = -torch.inf
            if bool(row.isneginf().all()):
                raise ValueError("all tokens are banned: nothing is left to write")
        numbers: dict[str, Any] = {name: real(values[name], name) for name in RANGES if name != "top_k"}
        top_k = whole(values["top_k"], "top_k", 0)
        self.controls = Controls.of(1, **numbers, top_k=min(top_k, tokenizer.vocab_size), bias=row, hooks=hooks)


def whole(value: Any, name: str, least: int | None = None, most: int | None = None) -> int:
    """A whole number, perhaps numpy's.

    Raises:
        ValueError: it is none, or out of range.
    """
    try:
        result = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, not {value!r}") from None
    if least is not None and result < least:
        raise ValueError(f"{name} must be {'0 (off) or more' if least == 0 else f'at least {least}'}, not {result}")
    if most is not None and result > most:
        raise ValueError(f"{name} must be at most {most:,}, not {result:,}")
    return result


def real(value: Any, name: str) -> float:
    """A number that float32 can hold, or an infinity.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str) or not hasattr(value, "__float__"):
        raise ValueError(f"{name} must be a number, not {value!r}")
    result = float(value)
    if math.isfinite(result) and abs(result) > torch.finfo(torch.float32).max:
        raise ValueError(f"{name} must be a number that float32 can hold, not {value!r}")
    return result


def texts(value: Any, name: str) -> list[str]:
    """One text or several.

    Raises:
        ValueError: something else, or an empty text.
    """
    found = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(found, Sequence) or isinstance(found, bytes) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"{name} must be a text or a list of texts, not {value!r}")
    if "" in found:
        raise ValueError(f"a {name} text must not be empty")
    return list(found)


def single_token(tokenizer: Tokenizer, item: int | str, what: str) -> int:
    """A token id from an id, or from a text that is one token."""
    if not isinstance(item, str):
        return whole(item, f"a {what} token")
    ids = tokenizer.encode(item)
    if len(ids) != 1:
        raise ValueError(
            f"{what}: {item!r} is {len(ids)} tokens in this model's vocabulary; only single ones can be named"
        )
    return ids[0]

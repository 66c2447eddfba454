"""What every call takes, its defaults, and what is refused."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, get_type_hints

import torch

from unmask.names import check_known
from unmask.sampling.controls import RANGES, Controls, Hook, token_bias
from unmask.text.tokenizer import Tokenizer

DEFAULT_STEPS = 64
SEED_LIMIT = 1 << 63


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
        forced: texts that must come; each stands where the model finds it likeliest.
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
        ValueError: an unknown option, or a value out of range.
    """

    def __init__(self, options: SamplingOptions, tokenizer: Tokenizer) -> None:
        for name in options:
            check_known(name, DEFAULTS, "option")
        values: dict[str, Any] = {**DEFAULTS, **options}
        self.seed: int = values["seed"]
        self.samples: int = values["num_samples"]
        self.candidates: int = self.samples if values["best_of"] is None else values["best_of"]
        if self.samples < 1:
            raise ValueError(f"num_samples must be at least 1, not {self.samples}")
        if self.candidates < self.samples:
            raise ValueError(f"best_of must be at least num_samples ({self.samples}), not {self.candidates}")
        if not 0 <= self.seed < SEED_LIMIT - self.candidates:
            raise ValueError(f"seed must be between 0 and 2^63, not {self.seed}")
        self.steps: int | None = values["steps"]
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")
        self.plan = (values["sampler"], values["revise"], values["block"], values["schedule"], tuple(values["hooks"]))
        stop = values["stop"]
        self.stop: list[str] = [stop] if isinstance(stop, str) else list(stop)
        if "" in self.stop:
            raise ValueError("a stop text must not be empty")
        self.end_id = None if values["ignore_end"] else tokenizer.end_id
        banned = [single_token(tokenizer, item, "banned") for item in values["banned"]]
        bias = {single_token(tokenizer, key, "logit_bias"): value for key, value in values["logit_bias"].items()}
        self.forced = [tokenizer.encode(text) for text in values["forced"]]
        for text, word in zip(values["forced"], self.forced, strict=True):
            if not word:
                raise ValueError("a forced text must not be empty")
            if set(word) & set(banned):
                raise ValueError(f"{text!r} is forced, but its token {sorted(set(word) & set(banned))[0]} is banned")
        row = token_bias(tokenizer.vocab_size, bias, banned)
        if row is not None:
            row[tokenizer.mask_id] = -torch.inf
            if bool(row.isneginf().all()):
                raise ValueError("all tokens are banned: nothing is left to write")
        numbers = {name: values[name] for name in RANGES}
        self.controls = Controls.of(1, **numbers, bias=row, hooks=values["hooks"])


def single_token(tokenizer: Tokenizer, item: int | str, what: str) -> int:
    """A token id from an id, or from a text that is one token."""
    if isinstance(item, int):
        return item
    ids = tokenizer.encode(item)
    if len(ids) != 1:
        raise ValueError(
            f"{what}: {item!r} is {len(ids)} tokens in this model's vocabulary; only single ones can be named"
        )
    return ids[0]

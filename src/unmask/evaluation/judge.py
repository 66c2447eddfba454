"""A causal language model that judges texts; any that transformers loads, its weights in safetensors or GGUF."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from unmask.backbones.precision import computes_bf16

Judge = Callable[[Sequence[str]], list[float]]
"""Texts -> each one's mean -log p, nats a token of the judge."""

BATCH = 8


def load_judge(source: str, device: str = "cpu") -> Judge:
    """A judge from a folder, a .gguf file or a hub id (the only case that uses the network).

    Raises:
        ValueError: transformers is not installed, or there is no such model.
    """
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        raise ValueError("a judge needs transformers: pip install 'unmask[judge]'") from None
    path = Path(source).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ValueError(f"there is no judge {source}")
        place, extra = str(path.parent), {"gguf_file": path.name}
    else:
        place, extra = str(path) if path.exists() else source, {"use_safetensors": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **{key: extra[key] for key in extra if key == "gguf_file"})
        model: Any = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, **extra)
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(f"there is no judge {source!r}: {' '.join(str(error).split())}") from None
    return causal_judge(model.to(device).eval(), tokenizer)


def causal_judge(model: Any, tokenizer: Any) -> Judge:
    """A judge from a transformers model and tokenizer.

    The first token is judged too where the tokenizer has a beginning-of-text token; else it is context only.
    """
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    longest = getattr(model.config, "max_position_embeddings", None)

    def judge(texts: Sequence[str]) -> list[float]:
        # a text longer than the judge can read is judged by its beginning
        rows = [(start + tokenizer(text, add_special_tokens=False).input_ids)[:longest] for text in texts]
        found = [0.0] * len(rows)
        # texts of like length share a batch
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        for first in range(0, len(order), BATCH):
            chosen = order[first : first + BATCH]
            for index, nll in zip(chosen, mean_nll(model, [rows[index] for index in chosen]), strict=True):
                found[index] = nll
        return found

    return judge


def mean_nll(model: Any, rows: Sequence[Sequence[int]]) -> list[float]:
    """Mean -log p of each row's tokens after its first, nats; NaN for rows with nothing to judge."""
    width = max(2, *(len(row) for row in rows))
    device = next(model.parameters()).device
    tokens = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    real = torch.arange(width, device=device) < lengths[:, None]
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=computes_bf16()):
        logits = model(input_ids=tokens, attention_mask=real.long()).logits[:, :-1].float()
    nll = -logits.log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    counted = real[:, 1:]
    return ((nll * counted).sum(-1) / counted.sum(-1)).tolist()

"""A causal model reads on: each new token costs one token's work."""

import torch
from torch import Tensor

from unmask.backbones.cache import Cache, Reading
from unmask.backbones.transformer import Transformer
from unmask.types import Lengths, Tokens


def empty_cache(model: Transformer, rows: int, length: int | None = None) -> Cache:
    """A cache for `rows` texts of `length` (default: the model's), nothing read; the model must be causal."""
    config = model.config
    assert config.attention == "causal", "what a bidirectional model has read changes with what follows"
    heads, head_dim = config.kv_heads or config.heads, config.width // config.heads
    return Cache(config.layers, rows, length or config.length, heads, head_dim, model.embedding.weight.device)


@torch.no_grad()
def read_on(model: Transformer, tokens: Tokens, cache: Cache, lengths: Lengths) -> Tensor:
    """Read `lengths` (B,) more tokens of each row of (B, N); logits (B, V) of what follows each row's last."""
    new, time = tokens.shape[1], torch.zeros(len(tokens), device=tokens.device)
    places = cache.places(new).clamp(max=cache.length - 1)
    width = min(cache.width + new, cache.length)
    x = model.embedding(tokens)
    if model.position is not None:
        x = x + model.position.weight[places]
    condition = None if model.time is None else model.time(time)
    if condition is not None and model.config.time == "additive":
        x = x + condition[:, None]
    table = None if model.table is None else model.table[:, places]
    for block, layer in zip(model.blocks, cache.layers, strict=True):
        x = block(x, table, None, condition, None, Reading(layer, places, width))
    cache.advance(lengths, new)
    last = (lengths - 1).clamp(min=0)
    return model.head(model.norm(x[torch.arange(len(x), device=x.device), last]))

"""Multi-head attention on scaled_dot_product_attention: bidirectional or causal, RoPE, QK-norm, grouped queries."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unmask.backbones.cache import Reading
from unmask.backbones.layers import rotate
from unmask.backbones.packing import Packing


class Attention(nn.Module):
    """Self-attention over a row.

    Args:
        width: D.
        heads: query heads; head_dim = width / heads.
        kv_heads: key/value heads; each serves heads / kv_heads query heads.
        causal: position i sees positions <= i.
        qk_norm: queries and keys are RMS-normalised, with learned gains, before the rotation (as in Qwen3).
        bias: whether the projections have biases.
        dropout: of the attention weights, in training.

    Attributes:
        visible: (L, L), which positions (columns) each one sees while attention is being opened; None: all.
    """

    def __init__(
        self, width: int, heads: int, kv_heads: int, *, causal: bool, qk_norm: bool, bias: bool, dropout: float
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, width // heads
        self.causal, self.dropout = causal, dropout
        self.visible: Tensor | None = None
        self.query_norm, self.key_norm = (nn.RMSNorm(self.head_dim) if qk_norm else nn.Identity() for _ in range(2))
        self.qkv = nn.Linear(width, (heads + 2 * kv_heads) * self.head_dim, bias=bias)
        self.out = nn.Linear(heads * self.head_dim, width, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "*B D"],
        table: Tensor | None,
        packing: Packing | None = None,
        reading: Reading | None = None,
    ) -> Float[Tensor, "*B D"]:
        """Attend inside rows (B, L, D), or packed rows (T, D); `table` rotates queries and keys.

        With `reading`, rows go on from what a causal model has read before.
        """
        heads = self.qkv(x).view(*x.shape[:-1], -1, self.head_dim)
        query, key, value = heads.split([self.heads, self.kv_heads, self.kv_heads], -2)
        # float32 on the CPU: there, bfloat16 attention's backward pass is 3-4 times slower than float32's
        low_precision = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        with torch.autocast(x.device.type, enabled=not low_precision and torch.is_autocast_enabled(x.device.type)):
            if low_precision:
                query, key, value = query.float(), key.float(), value.float()
            query, key = self.query_norm(query), self.key_norm(key)
            if table is not None:
                query, key = rotate(query, table), rotate(key, table)
            key, value = (part.to(query.dtype) for part in (key, value))
            if reading is not None:
                key, value, seen = reading.extend(key, value)
                mixed = self._attend(query, key, value, seen, causal=False)
            else:
                mixed = self._mix(query, key, value, packing)
        return self.out(mixed.flatten(-2))

    def _mix(self, query: Tensor, key: Tensor, value: Tensor, packing: Packing | None) -> Tensor:
        """Scaled dot-product attention of (..., H, K) parts, row by row."""
        if packing is None:
            return self._attend(query, key, value, self.visible, causal=self.causal)
        if packing.groups is None:
            # right padding is never seen by a causal row's real positions
            visible = None if self.causal else packing.visible[:, None, None]
            query, key, value = (packing.spread(part) for part in (query, key, value))
            return packing.gather(self._attend(query, key, value, visible, causal=self.causal))
        mixed = torch.empty_like(query)
        for tokens in packing.groups:
            mixed[tokens] = self._attend(query[tokens], key[tokens], value[tokens], None, causal=self.causal)
        return mixed

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, *, causal: bool
    ) -> Float[Tensor, "B L H K"]:
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        if self.kv_heads != self.heads:
            group = self.heads // self.kv_heads
            key, value = (part.repeat_interleave(group, 1) for part in (key, value))
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=visible,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        ).transpose(1, 2)

"""From text to a thought: written from the final states, and predicted from a noisy one."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unmask.thought.attention import CrossAttention, ThoughtBlock, ThoughtMLP
from unmask.thought.config import ThoughtConfig
from unmask.thought.encoder import Level
from unmask.thought.stack import ThoughtStack
from unmask.types import Times

MOSTLY_NEW = 2.0
OWN_PART = 4.0


def on_sphere(thought: Float[Tensor, "B M F"]) -> Float[Tensor, "B M F"]:
    """Each memory token's numbers at a mean square of 1: a thought can neither fade nor run away."""
    return F.rms_norm(thought.float(), thought.shape[-1:], eps=1e-6)


class ThoughtDecoder(nn.Module):
    """The final states pooled into memory tokens, compressed to the thought's dims.

    A memory token starts from its own part of the text (the first token from the beginning, the last from the end), averaged with
    a learned sharpness, and adds what it finds by attention over all of it. Attention alone is not enough: through its two
    projections more, keys are not bound to their values in a thousand steps (docs/thoughts.md).

    Args:
        config: the thoughts.
        width: D of the text model.
        heads: attention heads.
    """

    def __init__(self, config: ThoughtConfig, width: int, heads: int) -> None:
        super().__init__()
        self.config = config
        self.who = nn.Parameter(torch.zeros(config.tokens, width))
        self.sharpness = nn.Parameter(torch.tensor(OWN_PART))
        self.attention_norm, self.mlp_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = CrossAttention(width, heads)
        self.mlp = ThoughtMLP(width)
        self.norm = nn.RMSNorm(width)
        self.compress = nn.Linear(width, config.features, bias=False)
        self.keep = nn.Linear(2 * config.features, config.features)

    def pooled(
        self, states: Float[Tensor, "B L D"], visible: Bool[Tensor, "B L"] | None = None
    ) -> Float[Tensor, "B M D"]:
        """Memory tokens, not yet compressed; positions that are not visible are padding."""
        x = self._own_parts(states, visible) @ states.float() + self.who
        x = x + self.attention(self.attention_norm(x), states, visible)
        return x + self.mlp(self.mlp_norm(x))

    def _own_parts(self, states: Float[Tensor, "B L D"], visible: Bool[Tensor, "B L"] | None) -> Float[Tensor, "B M L"]:
        """How much of each position a memory token starts from; distances are in units of its part of the text."""
        rows, length = states.shape[:2]
        count = self.config.tokens
        place, part = (torch.arange(size, device=states.device) + 0.5 for size in (length, count))
        lengths = torch.full((rows,), length, device=states.device) if visible is None else visible.sum(-1)
        away = place / lengths.clamp(min=1)[:, None, None] * count - part[:, None]
        weight = -self.sharpness * away.square()
        if visible is not None:
            weight = weight.masked_fill(~visible[:, None], -torch.inf)
        return weight.softmax(-1)

    def forward(self, pooled: Float[Tensor, "B M D"], stack: ThoughtStack) -> Float[Tensor, "B *D"]:
        """The thought to push: what was pooled, gated with the newest thought that there is."""
        new = on_sphere(self.compress(self.norm(pooled)))
        last = stack.newest().flatten(2).to(new.dtype)
        gate = torch.sigmoid(self.keep(torch.cat([new, last], -1)) + MOSTLY_NEW)
        has = (stack.count > 0)[:, None, None]
        evolved = on_sphere(torch.where(has, gate * new + (1 - gate) * last, new))
        return evolved.unflatten(-1, self.config.dims[1:])


class ThoughtDenoiser(nn.Module):
    """A clean thought from a noisy one, the text's pooled states, and how noisy the thought is.

    Args:
        config: the thoughts.
        width: D of the text model.
        heads: attention heads.
    """

    def __init__(self, config: ThoughtConfig, width: int, heads: int) -> None:
        super().__init__()
        self.config = config
        self.lift = nn.Linear(config.features, width, bias=False)
        self.who = nn.Parameter(torch.zeros(config.tokens, width))
        self.level = Level(width)
        self.layers = nn.ModuleList(ThoughtBlock(width, heads) for _ in range(config.denoiser_layers))
        self.norm = nn.RMSNorm(width)
        self.compress = nn.Linear(width, config.features, bias=False)

    def forward(self, noisy: Float[Tensor, "B *D"], t: Times, pooled: Float[Tensor, "B M D"]) -> Float[Tensor, "B *D"]:
        """The expected clean thought; T in [0, 1]."""
        flat = noisy.flatten(2).float()
        x = self.lift(flat) + self.who + self.level(t)[:, None] + pooled
        for layer in self.layers:
            x = layer(x)
        # near t = 0 the noisy thought is the answer already
        return ((1 - t)[:, None, None] * flat + self.compress(self.norm(x))).unflatten(-1, self.config.dims[1:])

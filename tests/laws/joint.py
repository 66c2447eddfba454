"""A small known joint distribution and its exact denoiser."""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from unmask.diffusion.denoiser import Denoised


@dataclass(frozen=True)
class Joint:
    """A distribution over texts of `length` tokens of `kinds` kinds; the mask is token `kinds`."""

    probs: Tensor
    kinds: int
    length: int
    time_dependent: bool = False

    @property
    def mask_id(self) -> int:
        return self.kinds

    @property
    def texts(self) -> Tensor:
        return torch.tensor(list(product(range(self.kinds), repeat=self.length)))

    def __call__(self, xt: Tensor, t: Tensor, *, lengths: Tensor | None = None, select: Tensor) -> Denoised:
        """Exact conditionals given the visible tokens."""
        fits = ((xt[:, None] == self.texts) | (xt[:, None] == self.mask_id)).all(-1)
        weight = fits * self.probs
        weight = weight / weight.sum(-1, keepdim=True)
        one_hot = torch.nn.functional.one_hot(self.texts, self.kinds + 1).double()
        conditional = torch.einsum("bt,tlv->blv", weight, one_hot)
        return Denoised(conditional[select].log(), select)

    def index(self, tokens: Tensor) -> Tensor:
        """The number of each text."""
        powers = self.kinds ** torch.arange(self.length - 1, -1, -1)
        return (tokens * powers).sum(-1)

    def total_variation(self, tokens: Tensor) -> float:
        """Between the samples' frequencies and the truth."""
        found = torch.bincount(self.index(tokens), minlength=len(self.probs)).double() / len(tokens)
        return float((found - self.probs).abs().sum() / 2)

    def noise_floor(self, samples: int, quantile: float = 0.999) -> float:
        """The total variation that exact sampling stays under with the given probability."""
        generator = torch.Generator().manual_seed(0)
        draws = torch.multinomial(self.probs, samples * 400, replacement=True, generator=generator).view(400, samples)
        texts = self.texts
        floors = torch.tensor([self.total_variation(texts[row]) for row in draws])
        return float(floors.quantile(quantile))


def correlated_joint(kinds: int = 3, length: int = 3, seed: int = 0) -> Joint:
    """Most mass on few texts, so that positions depend strongly on one another."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(kinds**length, generator=generator, dtype=torch.float64) * 2.5
    return Joint(logits.softmax(-1), kinds, length)

"""Semantic memory (seed 000): what earlier texts were about, few and compressed, found by meaning."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unmask.sampling.adaptive import check_share


@dataclass
class SemanticMemory:
    """Contexts and the themes that they had, the least recently used of which is forgotten first.

    Embeddings are kept as products with a fixed matrix of orthonormal columns, which is the same everywhere: cosines are
    about kept, and a transposed product gives back what was not lost.

    Attributes:
        max_cache_size: contexts that are kept.
        compression_ratio: the share of an embedding's numbers that are kept.
        threshold: the cosine from which two contexts mean the same.
        keys: compressed contexts, oldest first.
        themes: compressed themes.
        size: numbers of an embedding before compression; 0 while nothing was stored.
    """

    max_cache_size: int = 3
    compression_ratio: float = 0.5
    threshold: float = 0.5
    keys: list[Tensor] = field(default_factory=list[Tensor])
    themes: list[Tensor] = field(default_factory=list[Tensor])
    size: int = 0

    def __post_init__(self) -> None:
        """Refuse a memory of nothing."""
        if self.max_cache_size < 0:
            raise ValueError(f"max_cache_size must be 0 (no memory) or more, not {self.max_cache_size}")
        if not 0 < self.compression_ratio <= 1:
            raise ValueError(f"compression_ratio must be in (0, 1], not {self.compression_ratio}")
        check_share("the memory's threshold", self.threshold)

    def __len__(self) -> int:
        return len(self.keys)

    def store(self, context: Float[Tensor, " E"], theme: Float[Tensor, " E"]) -> None:
        """Remember what a context was about; one that means the same is replaced.

        Raises:
            ValueError: embeddings of another size than those before.
        """
        self._check(context)
        self.size = len(context)
        key = self.compress(context)
        if (index := self._nearest(key)) is not None:
            self._drop(index)
        self.keys.append(key)
        self.themes.append(self.compress(theme))
        while len(self.keys) > self.max_cache_size:
            self._drop(0)

    def recall(self, context: Float[Tensor, " E"]) -> Float[Tensor, " E"] | None:
        """The theme of the nearest context, if any is near enough; it then counts as used."""
        if not self.keys:
            return None
        self._check(context)
        index = self._nearest(self.compress(context))
        if index is None:
            return None
        key, theme = self.keys[index], self.themes[index]
        self._drop(index)
        self.keys.append(key)
        self.themes.append(theme)
        return F.normalize(self._matrix() @ theme, dim=-1)

    def compress(self, embedding: Float[Tensor, " E"]) -> Float[Tensor, " C"]:
        """The share that is kept."""
        return embedding.float().cpu() @ self._matrix()

    def tensors(self) -> dict[str, Tensor]:
        """Everything, for a safetensors file."""
        if not self.keys:
            return {}
        return {"keys": torch.stack(self.keys), "themes": torch.stack(self.themes), "size": torch.tensor(self.size)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take everything back, as far as this memory holds so much.

        Raises:
            ValueError: embeddings that were compressed otherwise.
        """
        if not tensors:
            return
        self.size = int(tensors["size"])
        if tensors["keys"].shape[1] != self._matrix().shape[1]:
            raise ValueError(
                f"the session keeps {tensors['keys'].shape[1]} numbers a context; this memory keeps {self._matrix().shape[1]}: "
                "use the same compression_ratio"
            )
        first = max(0, len(tensors["keys"]) - self.max_cache_size)
        self.keys, self.themes = list(tensors["keys"][first:]), list(tensors["themes"][first:])

    def _nearest(self, key: Float[Tensor, " C"]) -> int | None:
        if not self.keys:
            return None
        near = F.cosine_similarity(torch.stack(self.keys), key[None], dim=-1)
        best = int(near.argmax())
        return best if float(near[best]) >= self.threshold else None

    def _matrix(self) -> Float[Tensor, "E C"]:
        kept = max(1, round(self.size * self.compression_ratio))
        noise = torch.randn(self.size, kept, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return torch.linalg.qr(noise).Q.float()

    def _drop(self, index: int) -> None:
        del self.keys[index], self.themes[index]

    def _check(self, context: Float[Tensor, " E"]) -> None:
        if self.keys and len(context) != self.size:
            raise ValueError(
                f"the memory holds embeddings of {self.size} numbers, not {len(context)}: use the same encoder"
            )

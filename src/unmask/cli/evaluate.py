"""unmask evaluate MODEL --data X: the bound on held-out text, and what samples look like."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from unmask.backbones.thinking import ThoughtTransformer
from unmask.cli.options import MODEL_HELP, Parser, note, print_json
from unmask.config import build_bound, build_corpus
from unmask.evaluation.generation import SampleQuality, sample_quality, words
from unmask.evaluation.likelihood import Likelihood, evaluate_likelihood
from unmask.evaluation.remembering import remember_segments
from unmask.pipeline import Pipeline
from unmask.text.batches import eval_blocks
from unmask.text.segments import document_windows
from unmask.text.shards import TokenSplit, is_prepared, open_tokens, split_by_position, tokenize


@dataclass(frozen=True)
class HeldOut:
    """Text to evaluate on: its tokens, what it is, and the words of the whole corpus."""

    split: TokenSplit
    name: str
    vocabulary: set[str] | None


def run(argv: Sequence[str]) -> int:
    """Evaluate."""
    parser = Parser(
        "evaluate",
        "Bound -log p of held-out text, and measure samples.",
        "examples:\n  unmask evaluate runs/shakespeare-demo --data shakespeare\n"
        "  unmask evaluate runs/shakespeare-demo runs/shakespeare-demo-gpt",
    )
    parser.add_argument("model", metavar="MODEL", nargs="+", help=MODEL_HELP + "; several are shown side by side")
    parser.add_argument(
        "--data", metavar="X", help="a corpus or prepared folder (default: what the model was trained on)"
    )
    parser.add_argument(
        "--split",
        choices=("val", "all"),
        help="the corpus's last part, as in training, or all of it (default: val for the training corpus, else all)",
    )
    parser.add_argument("--blocks", type=int, default=256, help="rows of text, spread evenly (default: 256)")
    parser.add_argument("--draws", type=int, default=4, help="corruptions of each row (default: 4)")
    parser.add_argument("--samples", type=int, default=16, help="texts to generate and measure (default: 16; 0: none)")
    parser.add_argument("--seed", type=int, default=0, help="of corruptions and samples (default: 0)")
    parser.add_argument("--device", metavar="NAME", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse(argv)
    for name in ("blocks", "draws"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name} must be at least 1")
    found = [look(model, arguments) for model in arguments.model]
    if arguments.json:
        reports = [report(*item) for item in found]
        print_json(reports[0] if len(reports) == 1 else reports)
    elif len(found) == 1:
        _, data, likelihood, quality = found[0]
        print_tables(data, likelihood, quality)
    else:
        print_side_by_side(found)
    return 0


def look(model: str, arguments: Namespace) -> tuple[str, str, Likelihood, SampleQuality | None]:
    """A model's name, its text, its bound and its samples."""
    pipe = Pipeline.from_pretrained(model, arguments.device)
    held_out = find_held_out(pipe, arguments.data, arguments.split)
    likelihood = bound(pipe, held_out.split, arguments.blocks, arguments.draws, arguments.seed)
    quality = None
    if arguments.samples:
        note(f"{model}: generating {arguments.samples} samples ...")
        quality = judge(pipe, arguments.samples, arguments.seed, held_out.vocabulary)
    return str(model), held_out.name, likelihood, quality


def find_held_out(pipe: Pipeline, data: str | None, split: str | None) -> HeldOut:
    """The text that is meant, in the model's own tokens."""
    config = pipe.config.data
    trained_on = data in (None, config.source)
    source = config.source if data is None else data
    if data is None and source == "-":
        raise ValueError("the model was trained on standard input: name the text to evaluate with --data")
    split = split or ("val" if trained_on else "all")
    if is_prepared(Path(source).expanduser()):
        tokens = open_tokens(Path(source).expanduser())
        if tokens.tokenizer is not None and tokens.tokenizer.fingerprint() != pipe.tokenizer.fingerprint():
            raise ValueError(f"{source} was prepared with another tokenizer than the model's")
        tokens.val.check_fits(pipe.tokenizer.vocab_size, source)
        return HeldOut(tokens.val, f"{source} (val)", None)
    corpus = build_corpus(replace(config, source=source, max_characters=config.max_characters if trained_on else None))
    characters = corpus.characters()
    boundary = round(characters * (1 - config.val_fraction)) if split == "val" else 0
    texts = [text for part, text in split_by_position(corpus, boundary) if part == "val"]
    vocabulary = {word for text in corpus for word in words(text)}
    return HeldOut(
        tokenize(texts, pipe.tokenizer), f"{source} ({split}, {sum(map(len, texts)):,} characters)", vocabulary
    )


def bound(pipe: Pipeline, split: TokenSplit, blocks: int, draws: int, seed: int) -> Likelihood:
    """The NELBO of blocks of the model's own length; a model with thoughts reads those of the segments before, as in training."""
    measure = build_bound(pipe.config, pipe.model, pipe.tokenizer)
    memory = None
    if isinstance(pipe.model, ThoughtTransformer):
        segments = pipe.config.thinking.segments
        windows = document_windows(split, pipe.length, segments, -(-blocks // segments)).to(pipe.device)
        memory, rows = remember_segments(pipe.model, windows), windows.flatten(0, 1)
    else:
        rows = eval_blocks(split, pipe.length, blocks).to(pipe.device)
    return evaluate_likelihood(
        measure.denoiser,
        rows,
        measure.corruption,
        measure.objective,
        exact_k=measure.exact_k,
        bytes_per_token=split.bytes_per_token,
        # an autoregressive model's likelihood is exact: one look is enough
        draws=1 if pipe.config.diffusion.corruption == "none" else draws,
        seed=seed,
        memory=memory,
    )


def judge(pipe: Pipeline, samples: int, seed: int, vocabulary: set[str] | None) -> SampleQuality:
    """Unprompted samples at the default settings."""
    made = [
        generation
        for start in range(0, samples, 16)
        for generation in pipe.generate(num_samples=min(16, samples - start), seed=seed + start)
    ]
    return sample_quality([item.text for item in made], [item.tokens for item in made], vocabulary)


def report(model: str, data: str, likelihood: Likelihood, quality: SampleQuality | None) -> dict[str, Any]:
    """Everything, as plain values."""
    samples = None if quality is None else asdict(quality)
    return {"model": str(model), "data": data, **likelihood.to_dict(), "samples": samples}


def print_tables(data: str, likelihood: Likelihood, quality: SampleQuality | None) -> None:
    """For people, on stdout."""
    console = Console(file=sys.stdout, highlight=False)
    table = Table(title=f"{data}: {likelihood.rows} rows of {likelihood.length} tokens", title_justify="left")
    table.add_column("measure")
    table.add_column("value, 95 % interval", justify="right")
    table.add_row("NELBO, nats/token (-log p is at most this)", str(likelihood.nelbo))
    if likelihood.bits_per_byte:
        table.add_row("NELBO, bits/byte", str(likelihood.bits_per_byte))
    table.add_row("perplexity bound, a token", f"{likelihood.perplexity_bound:.2f}")
    table.add_row("masked CE (seed 003's; not a bound), nats", str(likelihood.masked_ce))
    if quality is not None:
        table.add_section()
        table.add_row("samples: unigram entropy, nats", f"{quality.unigram_entropy:.3f}")
        grams = (quality.distinct_1, quality.distinct_2, quality.distinct_3)
        table.add_row("samples: distinct-1 / 2 / 3", " / ".join(f"{value:.3f}" for value in grams))
        if quality.word_share is not None:
            table.add_row("samples: words that occur in the corpus", f"{quality.word_share:.1%}")
    console.print(table)


def print_side_by_side(found: Sequence[tuple[str, str, Likelihood, SampleQuality | None]]) -> None:
    """One column a model."""
    table = Table(title="-log p: exact for autoregressive models, at most this for diffusion", title_justify="left")
    table.add_column("measure, 95 % interval")
    for model, _, _, _ in found:
        table.add_column(model, justify="right")
    likelihoods, qualities = [item[2] for item in found], [item[3] for item in found]
    table.add_row("text", *(item[1] for item in found))
    table.add_row("nats/token", *(str(item.nelbo) for item in likelihoods))
    table.add_row("bits/byte", *("" if item.bits_per_byte is None else str(item.bits_per_byte) for item in likelihoods))
    table.add_row("perplexity, a token", *(f"{item.perplexity_bound:.2f}" for item in likelihoods))
    shown = [quality for quality in qualities if quality is not None]
    if len(shown) == len(found):
        table.add_section()
        table.add_row("samples: unigram entropy, nats", *(f"{item.unigram_entropy:.3f}" for item in shown))
        table.add_row("samples: distinct-2", *(f"{item.distinct_2:.3f}" for item in shown))
        shares = ("" if item.word_share is None else f"{item.word_share:.1%}" for item in shown)
        table.add_row("samples: words that occur in the corpus", *shares)
    Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 160).print(table)

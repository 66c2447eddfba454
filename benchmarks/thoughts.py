"""What thoughts are worth on real text, whether they can be steered, and whether the way between two of them is smooth.

    python benchmarks/thoughts.py --model RUN --twin RUN --judge RUN [--windows 128] [--samples 64] [--out FILE]

MODEL is `thought-mini`; TWIN a plain model of as many parameters, trained on as many tokens of the same text; JUDGE a GPT
(`shakespeare-demo-gpt`), which says how likely texts are. The text is the plays that neither was trained on.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmask.cli.evaluate import find_held_out
from unmask.config import build_bound
from unmask.diffusion.denoiser import LeftToRight
from unmask.evaluation.likelihood import Estimate, evaluate_likelihood
from unmask.evaluation.remembering import worth_of_thoughts
from unmask.pipeline import Pipeline
from unmask.pipeline.mind import Mind, toward_probe
from unmask.text.corpus import Corpus
from unmask.text.segments import document_windows
from unmask.text.shards import split_by_position, tokenize


def capitals(text: str) -> float:
    """The property: the share of letters that are capitals (speakers' names stand in capitals)."""
    letters = [character for character in text if character.isalpha()]
    return sum(character.isupper() for character in letters) / max(1, len(letters))


def bits(estimate: Estimate, bytes_per_token: float) -> str:
    return str(estimate.scaled(1 / math.log(2) / bytes_per_token))


def real_text(mind: Mind, twin: Pipeline, windows: int) -> dict[str, Any]:
    """Bounds of segments from the second on, bits a byte, with four stacks and for the twin; the same noise for all."""
    pipe = mind.plain
    split = find_held_out(pipe, None, None).split
    rows = document_windows(split, pipe.length, pipe.config.thinking.segments, windows)
    per_token = split.bytes_per_token
    assert per_token is not None
    worth = worth_of_thoughts(mind.model, build_bound(pipe.config, mind.model, pipe.tokenizer), rows, draws=8)
    assert twin.tokenizer.fingerprint() == pipe.tokenizer.fingerprint(), "the twin must read the same tokens"
    bound = build_bound(twin.config, twin.model, twin.tokenizer)
    later = rows[:, 1:].flatten(0, 1)
    plain = evaluate_likelihood(bound.denoiser, later, bound.corruption, bound.objective, draws=8)
    found = {name: bits(getattr(worth, name), per_token) for name in ("own", "zeroed", "another", "empty")}
    gains = {name: bits(gain, per_token) for name, gain in worth.gain_over.items()}
    gains["twin"] = bits(Estimate.over_rows(plain.per_row - worth.own_rows), per_token)
    sizes = {
        name: sum(p.numel() for p in model.parameters())
        for name, model in (("model", mind.model), ("twin", twin.model))
    }
    return {
        "segments": len(later),
        "parameters": sizes,
        "bits_per_byte": found | {"twin": bits(plain.nelbo, per_token)},
        "gain": gains,
    }


def judge_of(source: str) -> Callable[[Sequence[str]], Tensor]:
    """-log p of each text, nats a character, by an autoregressive model."""
    pipe = Pipeline.from_pretrained(source, "cpu")
    assert isinstance(pipe.denoiser, LeftToRight)

    @torch.no_grad()
    def judge(texts: Sequence[str]) -> Tensor:
        found: list[float] = []
        for text in texts:
            ids = torch.tensor([pipe.tokenizer.encode(text)[: pipe.length]])
            log_probs = pipe.denoiser(ids, torch.zeros(1), select=torch.ones_like(ids, dtype=torch.bool)).log_probs
            found.append(-float(log_probs.gather(-1, ids[0][:, None]).sum()) / max(1, len(text)))
        return torch.tensor(found)

    return judge


def probe_of(mind: Mind, windows: int = 400) -> tuple[Tensor, float]:
    """A ridge regression from thoughts of training text to the property, and its R^2 on a quarter that it has not seen."""
    pipe = mind.plain
    texts = (text for part, text in split_by_position(Corpus("shakespeare"), 3_000_000) if part == "train")
    rows = document_windows(tokenize(texts, pipe.tokenizer), pipe.length, 2, windows).flatten(0, 1)
    with torch.no_grad():
        thoughts = torch.cat([mind.model.write(part, mind.model.empty_stack(len(part))) for part in rows.split(64)])
    x, y = (
        thoughts.flatten(1).double(),
        torch.tensor([capitals(pipe.tokenizer.decode(row)) for row in rows.tolist()]).double(),
    )
    fit = torch.arange(len(x)) % 4 != 0
    mean, middle = x[fit].mean(0), y[fit].mean()
    gram = (x[fit] - mean).T @ (x[fit] - mean)
    weights = torch.linalg.solve(
        gram + 30.0 * torch.eye(len(gram), dtype=gram.dtype), (x[fit] - mean).T @ (y[fit] - middle)
    )
    left = y[~fit] - middle - (x[~fit] - mean) @ weights
    explained = 1 - float(left.square().sum() / (y[~fit] - middle).square().sum())
    return weights.float().view(thoughts.shape[1:]), explained


def spoken(mind: Mind, thought: Tensor, seed: int) -> str:
    """A segment that says what a thought says."""
    return mind.about(thought).pipe.generate(seed=seed, steps=16)[0].text


def spoken_back(mind: Mind, judge: Callable[[Sequence[str]], Tensor], samples: int) -> dict[str, str]:
    """Unseen segments written from their thoughts alone; and what the judge says of them and of texts without a thought."""
    pipe = mind.plain
    rows = document_windows(find_held_out(pipe, None, None).split, pipe.length, 1, samples).flatten(0, 1).tolist()
    back = [mind.about(mind.thought_of(row)).pipe.generate(seed=0, steps=16)[0].tokens for row in rows]
    same = [sum(a == b for a, b in zip(old, new, strict=True)) / len(old) for old, new in zip(rows, back, strict=True)]
    free = [found.text for found in pipe.generate(num_samples=samples, seed=0, steps=16)]
    return {
        "characters or tokens that come back": str(Estimate.over_rows(torch.tensor(same))),
        "judged nats/char, the segments": str(Estimate.over_rows(judge([pipe.tokenizer.decode(row) for row in rows]))),
        "judged nats/char, without a thought": str(Estimate.over_rows(judge(free))),
    }


def steering(
    mind: Mind, judge: Callable[[Sequence[str]], Tensor], samples: int, strengths: Sequence[float]
) -> dict[str, Any]:
    """The property and the judge's opinion of texts from imagined thoughts, steered by the probe and not."""
    probe, explained = probe_of(mind)
    toward = toward_probe(probe / probe.norm())
    found: dict[str, Any] = {"probe_r2": round(explained, 3)}
    for strength in (0.0, *strengths):
        texts = []
        for seed in range(samples):
            frames = mind.imagine(seed=seed, steps=16, toward=toward if strength else None, strength=strength)
            texts.append(spoken(mind, frames[-1].clean, seed))
        found[f"strength {strength}"] = {
            "capitals": str(Estimate.over_rows(torch.tensor([capitals(text) for text in texts]))),
            "judged nats/char": str(Estimate.over_rows(judge(texts))),
            "example": texts[0],
        }
    return found


def ranks(values: Tensor) -> Tensor:
    return values.argsort().argsort().double()


def interpolation(mind: Mind, samples: int, points: int = 9) -> dict[str, Any]:
    """The property along the way from a thought of much to a thought of little of it, mean over texts and pairs."""
    pipe = mind.plain
    split = find_held_out(pipe, None, None).split
    rows = document_windows(split, pipe.length, 1, 200).flatten(0, 1)
    scores = torch.tensor([capitals(pipe.tokenizer.decode(row)) for row in rows.tolist()])
    order = scores.argsort()
    pairs = [(rows[order[i]], rows[order[-1 - i]]) for i in range(4)]
    ways: dict[str, Any] = {}
    for start in (0.0, 0.3):
        means = torch.zeros(points)
        for low, high in pairs:
            a, b = (mind.thought_of(row.tolist()) for row in (low, high))
            for point in range(points):
                thought = mind.interpolated(a, b, point / (points - 1), start=start)
                texts = mind.about(thought).pipe.generate(num_samples=samples, seed=0, steps=16)
                means[point] += sum(capitals(text.text) for text in texts) / samples / len(pairs)
        correlation = float(torch.corrcoef(torch.stack([ranks(means), torch.arange(points).double()]))[0, 1])
        ways[f"denoised from {start}"] = {
            "capitals": [round(float(value), 4) for value in means],
            "rank_correlation": round(correlation, 3),
        }
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "twin", "judge"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--windows", type=int, default=128)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--strengths", type=float, nargs="*", default=[0.05, 0.1, 0.2, 0.5])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    mind = Mind.from_pretrained(arguments.model, "cpu")
    record: dict[str, Any] = {}
    if arguments.twin:
        record["real text"] = real_text(mind, Pipeline.from_pretrained(arguments.twin, "cpu"), arguments.windows)
        print(json.dumps(record, indent=1), flush=True)
    if arguments.judge:
        judge = judge_of(arguments.judge)
        record["spoken back"] = spoken_back(mind, judge, arguments.samples)
        print(json.dumps(record["spoken back"], indent=1), flush=True)
        record["steering"] = steering(mind, judge, arguments.samples, arguments.strengths)
        print(json.dumps(record["steering"], indent=1), flush=True)
    record["interpolation"] = interpolation(mind, max(1, arguments.samples // 4))
    print(json.dumps(record["interpolation"], indent=1), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Sampling speed on one machine: batches against single requests, and our loop against LLaDA's reference loop.

    python benchmarks/sampling_speed.py [--model shakespeare] [--rounds 5] [--sampler factor:factor=4]

A and B are interleaved; the medians' ratio is printed with the extremes of the pairwise ratios.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable

import torch

from unmask.pipeline import Pipeline, Request

TEXTS = (
    "But soft, what light through yonder window [MASK:{n}]?\nIt is the east, and Juliet is the sun.",
    "To be, or not to be: that is the [MASK:{n}]\nWhether 'tis nobler in the mind to suffer",
    "Once more unto the [MASK:{n}], dear friends, once more;",
)


def mixed(pipe: Pipeline, count: int = 16) -> list[Request]:
    """Holes of 4 to 24 tokens and continuations of 48 to 128, each with its own steps, temperature and seed."""
    choose = random.Random(0)
    requests = []
    for i in range(count):
        steps, temperature = choose.choice([8, 16, 32]), choose.choice([0.5, 0.8, 1.0])
        if i % 4 == 3:
            length = min(pipe.length, 48 + 16 * (i % 6))
            request = pipe.request_generate("HAMLET:\n", length=length, seed=i, steps=steps, temperature=temperature)
        else:
            text = TEXTS[i % 4].format(n=choose.randint(4, 24))
            request = pipe.request_infill(text, seed=i, steps=steps, temperature=temperature)
        requests.append(request)
    return requests


@torch.no_grad()
def llada_loop(pipe: Pipeline, rows: int, steps: int, temperature: float) -> torch.Tensor:
    """LLaDA's generate as published, in its own shapes: logits, noise and softmax in float64 at every position."""
    mask, length = pipe.tokenizer.mask_id, pipe.length
    x = torch.full((rows, length), mask)
    counts = [length // steps + (i < length % steps) for i in range(steps)]
    for count in counts:
        masked = x == mask
        logits = pipe.model(x, torch.ones(rows))
        logits[..., mask] = -torch.inf
        noise = (-torch.rand_like(logits, dtype=torch.float64).log()) ** temperature
        x0 = (logits.double().exp() / noise).argmax(-1)
        sure = logits.double().softmax(-1).gather(-1, x0[..., None])[..., 0]
        sure = torch.where(masked, sure, -torch.inf)
        x0 = torch.where(masked, x0, x)
        for row in range(rows):
            chosen = sure[row].topk(count).indices
            x[row, chosen] = x0[row, chosen]
    return x


def against(name: str, a: Callable[[], object], b: Callable[[], object], rounds: int) -> None:
    """Seconds of both, and a / b."""
    a()
    b()
    pairs = []
    for _ in range(rounds):
        times = []
        for work in (a, b):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
        pairs.append(times)
    first, second = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(x / y for x, y in pairs)
    print(f"{name}: {first:.3f} s against {second:.3f} s: {first / second:.2f}x ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="shakespeare")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sampler", default="factor:factor=4")
    args = parser.parse_args()
    pipe = Pipeline.from_pretrained(args.model, "cpu")
    requests = mixed(pipe)
    rounds = args.rounds
    alone = [pipe.batch([request])[0][0].tokens for request in requests]
    assert alone == [found[0].tokens for found in pipe.batch(requests)]
    against(
        "16 mixed requests, one by one against together",
        lambda: [pipe.batch([request]) for request in requests],
        lambda: pipe.batch(requests),
        rounds,
    )
    for rows in (1, 8):
        steps = pipe.length
        against(
            f"{rows} canvases, {steps} steps: LLaDA's loop against ours at the same steps",
            lambda rows=rows, steps=steps: llada_loop(pipe, rows, steps, 0.8),
            lambda rows=rows, steps=steps: pipe.generate(num_samples=rows, steps=steps, ignore_end=True),
            rounds,
        )
        against(
            f"{rows} canvases: LLaDA's loop, {steps} steps, against {args.sampler}",
            lambda rows=rows, steps=steps: llada_loop(pipe, rows, steps, 0.8),
            lambda rows=rows: pipe.generate(num_samples=rows, sampler=args.sampler, ignore_end=True),
            rounds,
        )


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()

"""Training speed at the char-11m shape against nanoGPT's arithmetic, interleaved on the same machine.

    python benchmarks/train_speed.py [--rounds 6] [--batch 16] [--length 256]

Both train the same bidirectional transformer (6 layers, width 384, 6 heads, 66 tokens) on masked text. The reference
is a plain float32 loop: GELU, LayerNorm, logits at all positions, AdamW that is not fused. Ours is what the trainer
does: bfloat16 products, float32 attention, the head (and the last feed-forward) at masked positions only, and either
fused AdamW or Muon. The order of the two alternates; each ratio is of one pair of neighbouring steps.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from unmask.backbones.precision import computes_bf16
from unmask.backbones.transformer import Transformer, TransformerConfig, initialize
from unmask.config import OptimConfig
from unmask.diffusion.corruption import Absorbing
from unmask.diffusion.denoiser import Subs
from unmask.diffusion.objectives import CrossEntropy
from unmask.diffusion.schedules import linear
from unmask.training.optim import build_optimizers

VOCAB, MASK = 66, 65


def reference(batch: int, length: int) -> Callable[[], None]:
    shape = TransformerConfig(
        length=length, activation="gelu", norm="layer", norm_eps=1e-5, positions="learned", qk_norm=False, bias=True
    )
    model = Transformer(shape, VOCAB)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=False, foreach=False)

    def step() -> None:
        x0 = torch.randint(MASK, (batch, length))
        t = torch.rand(batch)
        masked = torch.rand(batch, length) < t[:, None]
        logits = model(torch.where(masked, MASK, x0), t)
        F.cross_entropy(logits.flatten(0, 1), torch.where(masked, x0, -1).flatten(), ignore_index=-1).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def ours(batch: int, length: int, optimizer: str, compiled: bool = False) -> Callable[[], None]:
    model = Transformer(TransformerConfig(length=length, time="additive"), VOCAB)
    initialize(model, torch.Generator().manual_seed(0))
    config = OptimConfig(name=optimizer)
    optimizers = build_optimizers(model, config, torch.device("cpu"))
    backbone = torch.compile(model, dynamic=True) if compiled else model
    denoiser = Subs(backbone, MASK)
    corruption, objective = Absorbing(linear(), VOCAB, MASK), CrossEntropy(linear())
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        x0 = torch.randint(MASK, (batch, length))
        t = torch.rand(batch)
        corrupted = corruption.corrupt(x0, t, generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=computes_bf16()):
            denoised = denoiser(corrupted.xt, t, select=corrupted.scored)
        objective(denoised, corrupted).value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for item in optimizers:
            item.step()
            item.zero_grad()

    return step


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--compile", action="store_true", help="also with torch.compile")
    args = parser.parse_args()
    torch.manual_seed(0)
    runs = {
        "reference float32": reference(args.batch, args.length),
        "ours, AdamW": ours(args.batch, args.length, "adamw"),
        "ours, Muon": ours(args.batch, args.length, "muon"),
    }
    if args.compile:
        runs["ours, Muon, compiled"] = ours(args.batch, args.length, "muon", compiled=True)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(args.rounds + 2):
        names = list(runs) if round_ % 2 else list(reversed(runs))
        for name in names:
            began = time.perf_counter()
            runs[name]()
            if round_ >= 2:
                seconds[name].append(time.perf_counter() - began)
    tokens = args.batch * args.length
    base = seconds["reference float32"]
    print(f"{torch.get_num_threads()} threads, {args.batch} x {args.length} tokens, {args.rounds} rounds")
    for name, times in seconds.items():
        ratios = [reference_time / own for reference_time, own in zip(base, times, strict=True)]
        speed = tokens / statistics.median(times)
        print(
            f"{name:22} {speed:7,.0f} tokens/s  ratio {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        )


if __name__ == "__main__":
    main()

"""LLaDA's and Dream's samplers, written again in full as their authors describe them, token for token.

Both get the same random numbers, so temperatures above 0 can be compared too.
"""

import pytest
import torch
from torch import Tensor

from conftest import random_model
from unmask.config import build_sampler
from unmask.diffusion.denoiser import Subs
from unmask.sampling.controls import Controls
from unmask.sampling.draws import Purpose, categorical, uniforms
from unmask.sampling.loop import denoise

VOCAB, MASK, PROMPT, LENGTH = 30, 29, 5, 29
MODEL = random_model(VOCAB, length=40)


def logits_of(tokens: Tensor) -> Tensor:
    with torch.no_grad():
        logits = MODEL(tokens, torch.ones(len(tokens)))
    # their models were taught not to say the mask; ours is told
    logits[..., MASK] = -torch.inf
    return logits


def prompts(rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    tokens = torch.full((rows, LENGTH), MASK)
    tokens[:, :PROMPT] = torch.randint(0, VOCAB - 1, (rows, PROMPT), generator=generator)
    return tokens


def draws(logits: Tensor, temperature: float, step: int) -> Tensor:
    """Where they draw Gumbel noise, the numbers that our loop uses."""
    if temperature == 0:
        return logits.argmax(-1)
    rows, length, vocab = logits.shape
    u = uniforms(torch.arange(rows), step, length, Purpose.TOKEN)
    return categorical((logits / temperature).reshape(-1, vocab), u.flatten()).view(rows, length)


def llada(
    tokens: Tensor, steps: int, block_length: int, temperature: float, cfg_scale: float, remasking: str
) -> Tensor:
    tokens = tokens.clone()
    given = tokens != MASK
    blocks = (LENGTH - PROMPT) // block_length
    per_block = steps // blocks
    for block in range(blocks):
        end = PROMPT + (block + 1) * block_length
        in_block = int((tokens[0, end - block_length : end] == MASK).sum())
        for i in range(per_block):
            step = block * per_block + i
            masked = tokens == MASK
            logits = logits_of(tokens)
            if cfg_scale:
                free = logits_of(tokens.masked_fill(given, MASK))
                logits = free + (cfg_scale + 1) * (logits - free)
                logits[..., MASK] = -torch.inf
            x0 = draws(logits, temperature, step)
            if remasking == "random":
                sure = uniforms(torch.arange(len(tokens)), step, LENGTH, Purpose.SCORE)
            else:
                sure = logits.double().softmax(-1).gather(-1, x0[..., None])[..., 0]
            sure[:, end:] = -torch.inf
            sure = torch.where(masked, sure, -torch.inf)
            count = in_block // per_block + (i < in_block % per_block)
            for row in range(len(tokens)):
                chosen = sure[row].topk(count).indices
                tokens[row, chosen] = x0[row, chosen]
    return tokens


def dream(
    tokens: Tensor, steps: int, alg: str, temperature: float, alg_temp: float, top_p: float, eps: float
) -> Tensor:
    tokens, rows = tokens.clone(), len(tokens)
    times = torch.linspace(1, eps, steps + 1)
    for i in range(steps):
        masked = tokens == MASK
        logits = logits_of(tokens) / (temperature or 1.0)
        if top_p < 1:
            ordered, order = logits.sort(-1, descending=True)
            far = ordered.softmax(-1).cumsum(-1) > top_p
            far = torch.cat([torch.zeros_like(far[..., :1]), far[..., :-1]], -1)
            logits = logits.masked_fill(torch.zeros_like(far).scatter(-1, order, far), -torch.inf)
        probs = logits.softmax(-1)
        x0 = draws(logits, 1.0 if temperature else 0.0, i)
        if alg == "origin":
            p = 1 - times[i + 1] / times[i] if i < steps - 1 else torch.tensor(1.0)
            # above 1 - p happens with probability p
            moved = masked & (uniforms(torch.arange(rows), i, LENGTH, Purpose.SCORE) > 1 - p.double())
            tokens = torch.where(moved, x0, tokens)
            continue
        sure = probs.gather(-1, x0[..., None])[..., 0] if temperature else probs.amax(-1)
        if alg == "topk_margin":
            first, second = probs.topk(2, -1).values.unbind(-1)
            sure = first - second
        if alg == "entropy":
            sure = (probs * (probs + 1e-10).log()).sum(-1)
        mean = masked.sum() / rows
        count = int(mean * (1 - times[i + 1] / times[i])) if i < steps - 1 else int(mean)
        sure = torch.where(masked, sure, -torch.inf)
        if alg_temp:
            u = uniforms(torch.arange(rows), i, LENGTH, Purpose.ORDER)
            sure = sure / alg_temp - (-u.log()).log()
        chosen = sure.topk(count).indices
        for row in range(rows):
            tokens[row, chosen[row]] = x0[row, chosen[row]]
    return tokens


def ours(tokens: Tensor, sampler: str, steps: int, controls: Controls) -> Tensor:
    *_, last = denoise(
        Subs(MODEL, MASK),
        tokens,
        build_sampler(sampler, "cosine"),
        steps=torch.full((len(tokens),), steps),
        seeds=torch.arange(len(tokens)),
        controls=controls,
    )
    return last.tokens


@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.6])
@pytest.mark.parametrize(
    ("steps", "block_length", "cfg_scale", "remasking"),
    [
        (24, 24, 0.0, "low_confidence"),
        (7, 24, 0.0, "random"),
        (9, 8, 0.0, "low_confidence"),
        (10, 12, 1.5, "low_confidence"),
    ],
)
def test_llada(temperature: float, steps: int, block_length: int, cfg_scale: float, remasking: str) -> None:
    tokens = prompts(4)
    theirs = llada(tokens, steps, block_length, temperature, cfg_scale, remasking)
    sampler = f"llada:remasking={remasking},block_length={block_length},faithful=yes"
    controls = Controls.of(4, temperature=temperature, guidance=cfg_scale)
    assert ours(tokens, sampler, steps, controls).tolist() == theirs.tolist()


@pytest.mark.parametrize("alg", ["origin", "maskgit_plus", "topk_margin", "entropy"])
@pytest.mark.parametrize(
    ("steps", "temperature", "alg_temp", "top_p"),
    [(24, 0.0, 0.0, 1.0), (10, 1.0, 0.0, 1.0), (7, 0.7, 0.4, 1.0), (12, 1.5, 0.0, 0.9)],
)
def test_dream(alg: str, steps: int, temperature: float, alg_temp: float, top_p: float) -> None:
    tokens = prompts(3)
    theirs = dream(tokens, steps, alg, temperature, alg_temp, top_p, 1e-3)
    controls = Controls.of(3, temperature=temperature, top_p=top_p)
    sampler = f"dream:alg={alg},alg_temp={alg_temp},faithful=yes"
    assert ours(tokens, sampler, steps, controls).tolist() == theirs.tolist()

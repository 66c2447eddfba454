"""Pictures of thoughts: where they go while they are denoised and from segment to segment."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unmask.analysis.plots import new_figure, save

SHOWN = 8


def principal(paths: Float[Tensor, "T N *D"]) -> Float[Tensor, "T N 2"]:
    """All states on their two principal axes."""
    flat = paths.flatten(2).double()
    centred = flat - flat.mean((0, 1))
    _, _, axes = torch.linalg.svd(centred.flatten(0, 1), full_matrices=False)
    return centred @ axes[:2].T


def plot_evolution(
    denoising: Float[Tensor, "T N *D"],
    times: list[float],
    segments: Float[Tensor, "K N *D"],
    report: dict[str, Any],
    target: Path,
) -> None:
    """PCA path, heat map over steps, norms, and what is recovered against dimensions."""
    figure = new_figure(11, 7.5)
    path, heat, norms, kept = figure.subplots(2, 2, gridspec_kw={"hspace": 0.32}).flatten()
    flat = principal(denoising)[:, :SHOWN]
    for row in range(flat.shape[1]):
        (line,) = path.plot(flat[:, row, 0], flat[:, row, 1], lw=1, alpha=0.8)
        path.plot(flat[0, row, 0], flat[0, row, 1], "o", ms=3, color=line.get_color(), alpha=0.5)
        path.plot(flat[-1, row, 0], flat[-1, row, 1], "s", ms=5, color=line.get_color())
    path.set_title("expected thoughts while denoising (circle: t = 1, square: t near 0)", fontsize=9)
    path.set_xlabel("first principal axis")
    path.set_ylabel("second")

    first = denoising[:, 0].flatten(1).T
    most = float(first.abs().quantile(0.99))
    image = heat.imshow(first, aspect="auto", cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest")
    figure.colorbar(image, ax=heat, fraction=0.04)
    ticks = np.linspace(0, len(times) - 1, min(6, len(times))).round().astype(int)
    heat.set_xticks(ticks, [f"{times[i]:.2f}" for i in ticks])
    heat.set_title("the first thought's numbers, step by step", fontsize=9)
    heat.set_xlabel("t")
    heat.set_ylabel("number")

    size = denoising.flatten(2).square().mean(-1).sqrt()
    norms.plot(times, size.mean(1), color="#1f2328", label="size of the expected thought (root mean square)")
    correlation = [
        float(torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1])
        for before, after in zip(denoising[:-1], denoising[1:], strict=True)
    ]
    norms.plot(times[1:], correlation, color="#d9480f", label="correlation with the step before")
    if len(segments) > 1:
        stable = report["stability"]["segments"]
        norms.axhline(stable, color="#4dabf7", lw=1, ls="--", label="correlation from segment to segment")
    norms.invert_xaxis()
    norms.set_xlabel("t")
    norms.legend(frameon=False, fontsize=8)
    norms.grid(alpha=0.25)

    found = report["compression"]
    kept.plot([int(count) for count in found], list(found.values()), marker="o", ms=4, color="#0b6e99")
    kept.set_xscale("log", base=2)
    kept.set_xlabel("principal dimensions of the thought that are kept")
    kept.set_ylabel("R² of the text's embedding")
    kept.set_title(f"what a linear probe recovers; retrieval {report['alignment']['accuracy']:.0%}", fontsize=9)
    kept.grid(alpha=0.25)
    save(figure, target)

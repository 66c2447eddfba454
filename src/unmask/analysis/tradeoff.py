"""Quality against forward passes, one curve a sampler."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unmask.analysis.plots import new_figure, save

PANELS = (
    ("nfe", "judged_nll", "nats/token under the judge (lower is better)"),
    ("nfe", "unigram_entropy", "entropy of a sample's tokens, nats"),
    ("nfe", "repetition", "repeated 4-grams"),
    ("infill_nfe", "infill_accuracy", "hidden tokens given back (higher is better)"),
)
MARKS = "os^vD<>PX*ph"


def plot_tradeoff(points: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Four panels from the points of `unmask bench sampling --json`, with 95 % intervals; without a judge, three."""
    panels = [panel for panel in PANELS if any(point[panel[1]] for point in points)]
    names = list(dict.fromkeys(point["name"] for point in points))
    figure = new_figure(13, 5 * -(-len(panels) // 2))
    grid = figure.subplots(-(-len(panels) // 2), 2, squeeze=False).flatten()
    for axes, (across, up, label) in zip(grid, panels, strict=False):
        for number, name in enumerate(names):
            curve = sorted(
                (point for point in points if point["name"] == name), key=lambda point: point[across]["mean"]
            )
            axes.errorbar(
                [point[across]["mean"] for point in curve],
                [point[up]["mean"] for point in curve],
                [point[up]["ci95"] or 0.0 for point in curve],
                label=name,
                color=f"C{number % 10}",
                marker=MARKS[number % len(MARKS)],
                ls="-" if number < 10 else "--",
                ms=4,
                lw=1,
                capsize=2,
            )
        axes.set_xscale("log", base=2)
        axes.set_xlabel("forward passes a text")
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
    for axes in grid[len(panels) :]:
        axes.axis("off")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="center left", bbox_to_anchor=(0.92, 0.5), frameon=False, fontsize=8)
    save(figure, target)

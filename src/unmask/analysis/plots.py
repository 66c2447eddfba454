"""Pictures of a run: its loss curve, and one generation frame by frame. Files are PNG or whatever the suffix says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from unmask.analysis.canvas import cells, evenly, runs, wrapped
from unmask.analysis.metrics import metric_rows
from unmask.sampling.frame import Frame, State
from unmask.text.tokenizer import Tokenizer

COLOURS = {
    State.PROMPT: "#0b6e99",
    State.MASKED: "#c9ccd1",
    State.NEW: "#d9480f",
    State.KEPT: "#1f2328",
    State.REMASKED: "#c92a2a",
}
EM = 0.602  # the advance of DejaVu Sans Mono, in font sizes


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl.

    Raises:
        ValueError: there is no such file, or nothing in it.
    """
    if not path.is_file():
        raise ValueError(f"there is no {path}: is {path.parent} a run folder?")
    rows = metric_rows(path)
    if not rows:
        raise ValueError(f"{path} is empty: the run has not logged anything yet")
    return rows


def plot_losses(metrics: Path, target: Path) -> None:
    """Training loss and validation bound against steps, nats a token."""
    rows = read_metrics(metrics)
    train = [row for row in rows if row["phase"] == "train"]
    val = [row for row in rows if row["phase"] == "val"]
    figure = new_figure(8, 4.5)
    axes = figure.subplots()
    if train:
        steps = [row["step"] for row in train]
        axes.plot(steps, [row["loss"] for row in train], color="#adb5bd", lw=1, label="training loss")
        axes.plot(
            steps, smooth([row["nelbo"] for row in train]), color="#4dabf7", lw=1.2, label="training bound (smoothed)"
        )
    if val:
        axes.errorbar(
            [row["step"] for row in val],
            [row["nelbo"]["mean"] for row in val],
            [row["nelbo"]["ci95"] or 0.0 for row in val],
            color="#d9480f",
            marker="o",
            ms=4,
            capsize=3,
            label="validation bound, 95 % interval",
        )
        best = min(val, key=lambda row: row["nelbo"]["mean"])
        bits = best.get("bits_per_byte")
        note = f"best {best['nelbo']['mean']:.3f} nats/token" + (f" = {bits['mean']:.3f} bits/byte" if bits else "")
        axes.set_title(f"{metrics.parent.name}: {note}", fontsize=10)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("nats per token")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    save(figure, target)


def plot_frames(
    frames: Sequence[Frame], tokenizer: Tokenizer, target: Path, *, row: int = 0, panels: int = 6, width: int = 64
) -> None:
    """One generation as panels of coloured text: given, masked, just revealed, revealed before."""
    chosen = evenly(frames, panels)
    lines = [list(wrapped(cells(frame, tokenizer, row), width)) for frame in chosen]
    height = max(map(len, lines))
    columns = 2 if len(chosen) > 1 else 1
    panel_rows = -(-len(chosen) // columns)
    size, gap = 8.0, 3
    across, down = columns * width + (columns - 1) * gap, panel_rows * (height + 2.5)
    figure = new_figure(across * EM * size / 72 + 0.3, down * 1.35 * size / 72 + 0.5)
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.set_xlim(0, across)
    axes.set_ylim(down + 1.5, -0.5)
    axes.axis("off")
    font: dict[str, Any] = {"family": "DejaVu Sans Mono", "fontsize": size, "va": "top", "parse_math": False}
    for index, (frame, text) in enumerate(zip(chosen, lines, strict=True)):
        left, top = (index % columns) * (width + gap), (index // columns) * (height + 2.5)
        head = (
            f"step {frame.step}   masked {int((frame.states[row] == State.MASKED).sum())}   nfe {int(frame.nfe[row])}"
        )
        axes.text(left, top, head, color="#868e96", **font)
        for number, line in enumerate(text):
            column = left
            for cell in runs(line):
                weight = "bold" if cell.state in (State.PROMPT, State.NEW) else "normal"
                axes.text(column, top + 1.2 + number, cell.text, color=COLOURS[cell.state], weight=weight, **font)
                column += len(cell.text)
    legend = ((State.PROMPT, "given"), (State.MASKED, "masked"), (State.NEW, "just revealed"), (State.KEPT, "revealed"))
    for index, (state, label) in enumerate(legend):
        axes.text(index * 16, down + 0.2, f"■ {label}", color=COLOURS[state], **font)
    save(figure, target)


def new_figure(width: float, height: float) -> Figure:
    """A figure without pyplot's global state, size in inches."""
    figure = Figure(figsize=(width, height), layout=None)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, target: Path) -> None:
    """Write the file that the suffix asks for."""
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=130, facecolor="white", bbox_inches="tight", pad_inches=0.15)


def smooth(values: Sequence[float], decay: float = 0.9) -> list[float]:
    """An exponential average without the start's bias."""
    result: list[float] = []
    total = weight = 0.0
    for value in values:
        total, weight = decay * total + (1 - decay) * value, decay * weight + (1 - decay)
        result.append(total / weight)
    return result

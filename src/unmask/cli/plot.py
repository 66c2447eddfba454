"""unmask plot RUN: the loss curve and one generation."""

from collections.abc import Sequence
from pathlib import Path

from unmask.analysis.plots import plot_frames, plot_losses
from unmask.cli.options import Parser, note
from unmask.pipeline import Pipeline


def run(argv: Sequence[str]) -> int:
    """Plot."""
    parser = Parser("plot", "Draw loss.png and frames.png of a run.")
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to put the pictures (default: the run folder)")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="how the generation begins")
    parser.add_argument("--seed", type=int, default=0, help="of the generation (default: 0)")
    arguments = parser.parse(argv)
    out = arguments.out or arguments.run
    plot_losses(arguments.run / "metrics.jsonl", out / "loss.png")
    note(f"wrote {out / 'loss.png'}")
    pipe = Pipeline.from_pretrained(arguments.run)
    plot_frames(list(pipe.stream(arguments.prompt, seed=arguments.seed)), pipe.tokenizer, out / "frames.png")
    note(f"wrote {out / 'frames.png'}")
    return 0

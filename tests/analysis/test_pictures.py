"""Pictures and terminal canvases are made of the frames' own cells."""

import json
from pathlib import Path

import pytest

from unmask.analysis.canvas import Cell, cells, evenly, styled, wrapped
from unmask.analysis.metrics import metric_rows
from unmask.analysis.plots import plot_frames, plot_losses, smooth
from unmask.pipeline import Pipeline
from unmask.sampling.frame import State


def test_cells_spell_the_text_and_wrap_where_lines_end(trained: Path) -> None:
    pipe = Pipeline.from_pretrained(trained)
    frames = list(pipe.stream("To be", length=14))
    text = pipe.tokenizer.decode(frames[-1].tokens[0].tolist())
    assert "".join(cell.text for cell in cells(frames[-1], pipe.tokenizer)) == text
    assert styled(frames[-1], pipe.tokenizer).plain == text
    assert styled(frames[0], pipe.tokenizer).plain == "To be" + "░" * 9
    lines = list(wrapped([Cell("ab\ncdef", State.NEW), Cell("g", State.KEPT)], 3))
    assert [[cell.text for cell in line] for line in lines] == [["ab"], ["cde"], ["f", "g"]]
    assert [frame.step for frame in evenly(frames, 3)] == [0, 4, 9]


def test_pictures_are_written(trained: Path, tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(trained)
    plot_frames(list(pipe.stream("To")), pipe.tokenizer, tmp_path / "a/frames.png")
    plot_losses(trained / "metrics.jsonl", tmp_path / "loss.png")
    for path in (tmp_path / "a/frames.png", tmp_path / "loss.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 10_000


def test_runs_without_metrics_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is .* a run folder"):
        plot_losses(tmp_path / "metrics.jsonl", tmp_path / "loss.png")
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match="is empty"):
        plot_losses(tmp_path / "metrics.jsonl", tmp_path / "loss.png")
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"phase": "train", "step": 1, "loss": 1.0, "nelbo": 1.0}) + "\n")
    plot_losses(tmp_path / "metrics.jsonl", tmp_path / "loss.png")
    assert (tmp_path / "loss.png").is_file()


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"phase": "train", "step": 1}\n{"phase": "val", "step": 2, "nelbo": {"mean": 1.0}', "utf-8")
    assert metric_rows(path) == [{"phase": "train", "step": 1}]


def test_smoothing_has_no_bias_at_the_start() -> None:
    assert smooth([3.0, 3.0, 3.0]) == pytest.approx([3.0, 3.0, 3.0])

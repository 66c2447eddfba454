"""unmask thoughts, as a user types it."""

import json
from pathlib import Path

import pytest

from conftest import TEXT
from unmask.backbones.thinking import ThoughtTransformer
from unmask.cli import main
from unmask.cli.evaluate import find_held_out
from unmask.config import build_bound
from unmask.evaluation.likelihood import evaluate_likelihood
from unmask.evaluation.remembering import remember_segments
from unmask.pipeline import Pipeline
from unmask.text.segments import document_windows


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["thoughts", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_session_is_read_shown_and_gone_on_from(
    capsys: pytest.CaptureFixture[str], thoughtful: Path, tmp_path: Path
) -> None:
    source, session = tmp_path / "text.txt", tmp_path / "mind.safetensors"
    source.write_text(TEXT[:40])
    code, _, err = call(capsys, "read", thoughtful, source, "--session", session)
    assert code == 0
    assert "2 of 3 thoughts, and 8 tokens" in err
    code, out, _ = call(capsys, "show", session, "--json")
    shown = json.loads(out)
    assert (code, shown["thoughts"], shown["dims"], shown["tail"]) == (0, 2, [4, 4, 2], 8)
    assert call(capsys, "show", session)[1].startswith("model ")
    code, out, _ = call(capsys, "write", thoughtful, "--session", session, "--tokens", 20, "--json")
    written = json.loads(out)
    assert (code, len(written["text"]), written["thoughts"], written["tail"]) == (0, 20, 3, 12)


def test_ideas_blends_and_steering(capsys: pytest.CaptureFixture[str], thoughtful: Path) -> None:
    code, out, _ = call(capsys, "try", thoughtful, "To", "--thoughts", 2, "--json")
    found = json.loads(out)
    assert code == 0
    assert found[0]["bound"] <= found[1]["bound"]
    code, out, _ = call(capsys, "blend", thoughtful, "To be, or not to", "in the mind to s", "--points", 3, "--json")
    assert [row["alpha"] for row in json.loads(out)] == [0, 0.5, 1]
    code, out, _ = call(capsys, "steer", thoughtful, "--toward", "in the mind to s")
    assert code == 0
    assert "--- free likeness" in out
    assert "--- steered likeness" in out


def test_thoughts_are_analysed(capsys: pytest.CaptureFixture[str], thoughtful: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT * 6)
    code, _, err = call(capsys, "analyse", thoughtful, "--data", text, "--out", tmp_path / "found")
    assert code == 0, err
    report = json.loads((tmp_path / "found/thoughts.json").read_text())
    assert {"stability", "compression", "alignment", "diversity"} < report.keys()
    assert (tmp_path / "found/thoughts.png").is_file()


def test_a_model_is_evaluated_with_its_thoughts(capsys: pytest.CaptureFixture[str], thoughtful: Path) -> None:
    assert main(["evaluate", str(thoughtful), "--json", "--blocks", "8", "--samples", "0", "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    pipe = Pipeline.from_pretrained(thoughtful, "cpu")
    assert isinstance(pipe.model, ThoughtTransformer)
    windows = document_windows(find_held_out(pipe, None, None).split, pipe.length, 2, 4)
    measure = build_bound(pipe.config, pipe.model, pipe.tokenizer)
    bounds = [
        evaluate_likelihood(
            measure.denoiser, windows.flatten(0, 1), measure.corruption, measure.objective, draws=4, memory=memory
        ).nelbo.mean
        for memory in (remember_segments(pipe.model, windows), None)
    ]
    assert found["nelbo"]["mean"] == pytest.approx(bounds[0], rel=1e-4)
    assert bounds[0] != pytest.approx(bounds[1], rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["read"], "needs MODEL"),
        (["show"], "needs SESSION"),
        (["show", "none.safetensors"], "there is no session file"),
        (["read", "{model}", "x.txt"], "--session"),
        (["read", "{model}", "--session", "s"], "takes MODEL and 1 texts, not 0"),
        (["write", "{model}", "--session", "none"], "there is no session file 'none'"),
        (["write", "{model}", "--tokens", "0"], "tokens must be at least 1"),
        (["blend", "{model}", "To", "be", "--points", "1"], "at least 2"),
        (["steer", "{model}"], "--toward"),
        (["try", "{model}", "--thoughts", "0"], "thoughts must be at least 1"),
        (["write", "shakespeare"], "has no thoughts: upgrade it"),
        (["dream", "{model}"], "invalid choice"),
    ],
)
def test_mistakes_are_one_sentence(
    capsys: pytest.CaptureFixture[str], thoughtful: Path, arguments: list[str], message: str
) -> None:
    code, out, err = call(capsys, *(word.format(model=thoughtful) for word in arguments))
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err

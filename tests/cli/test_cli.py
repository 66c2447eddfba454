"""The command line as a user meets it: one process, real files, exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import TEXT
from unmask.cli import COMMANDS, main

TINY = [
    "--data.tokenizer=char",
    "--model.layers=1",
    "--model.width=32",
    "--model.heads=2",
    "--model.length=16",
    "--train.batch_size=4",
    "--train.eval_blocks=4",
    "--train.log_every=1",
]


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    script = "import sys; from unmask.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert all(f"\n  {name} " in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main([command, "--help"])
    except SystemExit as leave:
        code = int(leave.code or 0)
    out = capsys.readouterr().out
    assert code == 0
    assert f"unmask {command}" in out
    assert len(out.splitlines()) > 4


def test_train_generate_fill_evaluate_plot(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    train = ["train", "char-small", "--out", run, "--data", str(corpus_file), *TINY]
    code, _, err = call(capsys, *train, "--train.steps", "6", "--train.eval_every=3")
    assert code == 0, err
    assert "parameters" in err
    assert "bits/byte" in err

    code, out, _ = call(
        capsys, "generate", run, "--prompt", "To", "--length", "12", "--json", "--num-samples", "2", "--live"
    )
    answer = json.loads(out)
    assert code == 0
    assert [sample["seed"] for sample in answer["samples"]] == [0, 1]
    assert all(sample["text"].startswith("To") for sample in answer["samples"])

    picture = tmp_path / "frames.png"
    code, out, err = call(capsys, "fill", run, "To [MASK:2], or", "--picture", str(picture), "--sampler", "threshold")
    assert code == 0
    assert out.startswith("To ")
    assert picture.is_file()
    assert str(picture) in err

    code, out, _ = call(capsys, "evaluate", run, "--json", "--samples", "2", "--blocks", "4", "--draws", "2")
    report = json.loads(out)
    assert code == 0
    assert report["nelbo"]["mean"] > 1
    assert report["nelbo"]["ci95"] > 0
    assert 0 <= report["samples"]["word_share"] <= 1
    code, out, _ = call(capsys, "evaluate", run, "--data", str(corpus_file), "--split", "all", "--samples", "0")
    assert code == 0
    assert "not a bound" in out
    assert "(all, 3,400 characters)" in " ".join(out.split())

    code, _, err = call(capsys, "plot", run)
    assert code == 0
    assert (Path(run) / "loss.png").is_file()
    assert (Path(run) / "frames.png").is_file()

    code, _, err = call(capsys, *train)
    assert code == 2
    assert "already holds a run" in err


def test_data_prepare_and_show(tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out_folder = str(tmp_path / "data")
    code, out, _ = call(
        capsys, "data", "prepare", str(corpus_file), "--out", out_folder, "--tokenizer", "bpe", "--vocab-size", "280"
    )
    assert code == 0
    assert "280 tokens" in out
    code, out, _ = call(capsys, "data", "show", out_folder)
    assert code == 0
    assert 'train: "To be' in out
    code, out, _ = call(capsys, "data", "show", out_folder, "--json")
    assert json.loads(out)["train"]["documents"] == 1
    code, _, err = call(
        capsys, "train", "char-small", "--out", str(tmp_path / "run"), "--data", out_folder, *TINY, "--train.steps=2"
    )
    assert code == 0, err
    assert "280" in err


def test_edit_and_score(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(trained)
    code, out, _ = call(capsys, "edit", model, "To be, or not", "--span", "be", "--keep", "To", "--json")
    assert code == 0
    (sample,) = json.loads(out)["samples"]
    assert sample["text"].startswith("To ")
    assert sample["text"].endswith(", or not")
    code, out, _ = call(capsys, "edit", model, "To be, or not", "--share", "0.3", "--revise", "gibbs:sweeps=2")
    assert code == 0
    assert len(out.strip("\n")) == 13
    code, out, _ = call(capsys, "score", model, "To [MASK], or not", "--fill", "be")
    assert code == 0
    assert "-log p <=" in out
    code, out, _ = call(capsys, "score", model, "To be", "--json")
    assert json.loads(out)["nfe"] == 16
    options = ["--sampler", "entropy_bound:gamma=0.5", "--revise", "remdm_conf+self_correct", "--best-of", "3"]
    code, out, _ = call(capsys, "fill", model, "To [MASK:2-4], or", *options, "--force", "b")
    assert code == 0
    assert "b" in out


def test_a_demo_in_miniature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out_folder = tmp_path / "demo"
    code, out, err = call(capsys, "demo", "--out", str(out_folder), "--steps", "2")
    assert code == 0, err
    names = {path.name for path in out_folder.iterdir()}
    assert names >= {
        "config.yaml",
        "metrics.jsonl",
        "checkpoints",
        "loss.png",
        "frames.png",
        "samples.txt",
        "evaluation.json",
    }
    assert (
        len([line for line in out.splitlines() if " generate " in line or " fill " in line or " evaluate " in line])
        == 3
    )


@pytest.mark.parametrize("what", ["recipes", "samplers", "revisions", "models"])
def test_lists(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "list", what)
    assert code == 0
    assert out.strip()
    assert isinstance(json.loads(call(capsys, "list", what, "--json")[1]), dict)


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "doctor", "--json")
    assert code == 0
    assert json.loads(out)["torch"]
    assert call(capsys, "doctor")[0] == 0


BAD = [
    (["genrate"], "did you mean generate?"),
    (["train", "char-smal"], "did you mean char-small?"),
    (["train", "char-small", "--model.widht", "3"], "did you mean model.width?"),
    (["train", "char-small", "--train.steps", "many"], "train.steps must be of type int"),
    (["train", "char-small", "--train.steps"], "expected one argument"),
    (["train", "char-small", "stray"], "unrecognized arguments: stray"),
    (["train"], "RECIPE_OR_YAML"),
    (["generate", "no-such-model"], "there is no model"),
    (["generate", "MODEL", "--stpes", "3"], "did you mean --steps?"),
    (["generate", "MODEL", "--steps", "0"], "steps must be at least 1"),
    (["generate", "MODEL", "--steps", "x"], "invalid int value"),
    (["generate", "MODEL", "--sampler", "confidenc"], "did you mean confidence?"),
    (["generate", "MODEL", "--sampler", "threshold:tau=2"], "tau must be in [0, 1]"),
    (["generate", "MODEL", "--sampler", "entropy_bound:gamma=-1"], "gamma must be 0 or more"),
    (["generate", "MODEL", "--revise", "gibs"], "did you mean gibbs?"),
    (["generate", "MODEL", "--force", "not", "--ban", "n"], "'not' is forced, but its token"),
    (["generate", "MODEL", "--block", "0"], "block must be at least 1"),
    (["edit", "MODEL", "To be"], "either a span or a share"),
    (["edit", "MODEL", "To be", "--span", "not"], "does not occur"),
    (["score", "MODEL", "To [MASK]", "--fill", "a", "--fill", "b"], "1 holes, but 2 fills"),
    (["fill", "MODEL", "[MASK:9-4]"], "at least 1"),
    (["generate", "MODEL", "--prompt", "To be, or not to be"], "leaves nothing to fill"),
    (["generate", "MODEL", "--prompt", "\u00e9"], "not in the character tokenizer"),
    (["fill", "MODEL", "[MASK:0]"], "at least 1"),
    (["fill", "MODEL", "a [MASK"], "not closed"),
    (["fill", "MODEL", "no holes"], "no hole"),
    (["fill", "MODEL", "[MASK:9999999999]"], "the model's canvas has 16"),
    (["generate", "MODEL", "--device", "foo"], "there is no device 'foo'"),
    (["train", "char-small", "--model.hidden", "-5"], "model.hidden must be at least 1"),
    (["evaluate", "MODEL", "--data", "nowhere.txt"], "there is no corpus"),
    (["evaluate", "MODEL", "--blocks", "0"], "at least 1"),
    (["plot", "nowhere"], "run folder"),
    (["data", "shwo"], "prepare and show"),
    (["data", "show", "nowhere"], "there is no nowhere"),
    (["list", "things"], "invalid choice"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_mistakes_are_one_sentence_and_exit_2(
    arguments: list[str], message: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, *[str(trained) if word == "MODEL" else word for word in arguments])
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if line != "loading ..."]
    assert len(lines) == 1
    assert lines[0].startswith("unmask")
    assert message in lines[0]


CORPORA = {
    "empty.txt": (b"", "is empty"),
    "short.txt": (b"To be", "fewer than one block"),
    "latin.txt": (b"caf\xe9 " * 100, "not UTF-8"),
}


@pytest.mark.parametrize("name", CORPORA)
def test_bad_corpora_are_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, message = CORPORA[name]
    (tmp_path / name).write_bytes(content)
    code, _, err = call(
        capsys, "train", "char-small", "--data", str(tmp_path / name), "--out", str(tmp_path / "run"), *TINY
    )
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_output_may_be_cut_off_by_its_reader() -> None:
    command = f"{sys.executable} -m unmask list recipes | head -0"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr


def test_ctrl_c_saves_and_the_run_goes_on(tmp_path: Path) -> None:
    """A real process, a real signal: exit 130, no traceback, and --resume auto completes the run."""
    corpus, run = tmp_path / "corpus.txt", tmp_path / "run"
    corpus.write_text(TEXT * 40, "utf-8")
    train = [sys.executable, "-m", "unmask", "train", "char-small", "--out", str(run), "--data", str(corpus), *TINY]
    settings = ["--train.eval_every=100000", "--train.save_every=100000"]
    process = subprocess.Popen([*train, *settings, "--train.steps=100000"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and not (run / "metrics.jsonl").is_file():
        time.sleep(0.1)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "--resume auto" in err
    done = json.loads((run / "checkpoints/last/trainer/state.json").read_text())["step"]
    assert done > 0
    result = subprocess.run(
        [*train, *settings, f"--train.steps={done + 3}", "--resume", "auto"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads((run / "checkpoints/last/trainer/state.json").read_text())["step"] == done + 3


def test_kill_9_leaves_the_last_checkpoint_loadable(tmp_path: Path) -> None:
    from unmask.pretrained import load_pretrained

    corpus, run = tmp_path / "corpus.txt", tmp_path / "run"
    corpus.write_text(TEXT * 40, "utf-8")
    settings = ["--train.eval_every=3", "--train.save_every=1", "--train.steps=100000"]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "unmask",
            "train",
            "char-small",
            "--out",
            str(run),
            "--data",
            str(corpus),
            *TINY,
            *settings,
        ],
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and not (run / "checkpoints/last").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert load_pretrained(run).model
    assert load_pretrained(run / "checkpoints/last").model


def test_a_full_disk_is_one_sentence(tmp_path: Path, trained: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    result = subprocess.run(
        f"{sys.executable} -m unmask generate {trained} --json > /dev/full",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr


def test_models_side_by_side(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "evaluate", str(trained), str(trained), "--blocks", "4", "--samples", "2")
    assert code == 0
    assert "bits/byte" in out
    assert "distinct-2" in out
    code, out, _ = call(capsys, "evaluate", str(trained), str(trained), "--blocks", "4", "--samples", "0", "--json")
    first, second = json.loads(out)
    assert first["nelbo"] == second["nelbo"]

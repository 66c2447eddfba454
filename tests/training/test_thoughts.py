"""Training over segments: what is carried, what is learned, what is resumed."""

import io
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import TEXT, tiny_config
from unmask.backbones.thinking import ThoughtTransformer
from unmask.config import RunConfig, read_config
from unmask.diffusion.corruption import Corrupted
from unmask.diffusion.denoiser import Denoised
from unmask.pretrained import load_pretrained
from unmask.training.callbacks import Callback, ProgressBar
from unmask.training.segments import SegmentLearner
from unmask.training.trainer import Trainer, train


class StopAt(Callback):
    """Presses Ctrl-C when a step has been logged."""

    def __init__(self, step: int) -> None:
        self.step = step

    def logged(self, step: int, metrics: dict[str, float]) -> None:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def thinking_config(source: Path | str, **train: object) -> RunConfig:
    values = tiny_config(source, **train).to_dict()
    values["thought"] |= {"dims": [2, 3, 2], "slots": 3, "every": 1}
    values["thinking"] |= {"segments": 2, "ramp": 2}
    return read_config(values)


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """Several documents, for rows to begin and end."""
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": TEXT * (3 + number)}) + "\n" for number in range(6)))
    return path


def test_a_thought_model_trains_and_loads_again(documents: Path, tmp_path: Path) -> None:
    result = train(thinking_config(documents), tmp_path / "run")
    assert result.complete
    loaded = load_pretrained(result.run)
    assert isinstance(loaded.model, ThoughtTransformer)
    rows = [json.loads(line) for line in (result.run / "metrics.jsonl").read_text().splitlines()]
    names = {"thought", "coherence", "alignment", "consistency", "diversity", "sparsity"}
    first = next(row for row in rows if row["phase"] == "train")
    assert {f"{name}_loss" for name in names} < first.keys()
    assert {"thought_rank", "thought_spread", "thought_retrieval"} < first.keys()


def test_a_resumed_run_is_the_same_run_stacks_and_teacher_included(documents: Path, tmp_path: Path) -> None:
    whole = train(thinking_config(documents, steps=6, save_every=3), tmp_path / "whole").run
    stopped = train(thinking_config(documents, steps=6, save_every=3), tmp_path / "half", callbacks=[StopAt(2)])
    assert (stopped.complete, stopped.step) == (False, 2)
    train(thinking_config(documents, steps=6, save_every=3), tmp_path / "half", resume="auto")
    for name in ("model.safetensors", "trainer/learner.safetensors", "trainer/optimizer.safetensors"):
        one, other = (load_file(run / "checkpoints/last" / name) for run in (whole, tmp_path / "half"))
        assert one.keys() == other.keys()
        assert all(one[key].equal(other[key]) for key in one), name
        kept = {key.split(".")[0] for key in one}
        assert name != "trainer/learner.safetensors" or kept == {"stack", "teacher"}


def learner_of(trainer: Trainer) -> SegmentLearner:
    assert isinstance(trainer.learner, SegmentLearner)
    return trainer.learner


def test_stacks_are_carried_from_batch_to_batch_and_forgotten_at_a_documents_end(
    documents: Path, tmp_path: Path
) -> None:
    trainer = Trainer(thinking_config(documents, steps=20), tmp_path / "run")
    learner = learner_of(trainer)
    count = torch.zeros(4, dtype=torch.long)
    forgotten = 0
    for step in range(learner.batches.steps):
        fresh = learner.batches.at(step).fresh
        learner.lesson(step, trainer._generator(step), step)
        count = torch.where(fresh, 2, count + 2).clamp(max=3)
        assert learner.stack.count.equal(count)
        forgotten += int(fresh.sum()) if step else 0
    assert forgotten
    assert not learner.stack.data.requires_grad


def test_gradients_flow_back_through_the_segments_of_a_batch_and_no_further(documents: Path, tmp_path: Path) -> None:
    values = thinking_config(documents).to_dict()
    values["thinking"] |= dict.fromkeys(
        ("present", "thought", "coherence", "alignment", "consistency", "diversity"), 0.0
    )
    trainer = Trainer(read_config(values), tmp_path / "run")
    learner = learner_of(trainer)
    assert learner.teacher is None
    for parameter in trainer.model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    lesson = learner.lesson(0, trainer._generator(0), 0)
    lesson.loss.value.backward()
    # nothing but the text's loss asks for thoughts, and it reaches the writer through the stack
    decoder = trainer.model.decoder.compress.weight.grad
    assert decoder is not None
    assert decoder.abs().max() > 0


def test_the_bound_that_is_reported_has_not_seen_the_present_thought(documents: Path, tmp_path: Path) -> None:
    values = thinking_config(documents).to_dict()
    # as if the model could read its answer off the present thought: all rows but the first may
    values["thinking"] |= {"present": 1.0}
    trainer = Trainer(read_config(values), tmp_path / "run")
    learner = learner_of(trainer)
    seen: list[int] = []
    honest = learner._honest

    def watch(denoised: Denoised, corrupted: Corrupted, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.extend(rows.nonzero()[:, 0].tolist())
        return honest(denoised, corrupted, rows)

    learner._honest = watch  # type: ignore[method-assign]
    metrics = learner.lesson(0, trainer._generator(0), 0).loss.metrics
    assert seen == [0]
    assert float(metrics["nelbo"]) >= 0


def test_a_plain_model_is_upgraded_and_says_the_same_until_it_is_trained(documents: Path, tmp_path: Path) -> None:
    plain = train(tiny_config(documents), tmp_path / "plain").run
    values = thinking_config(documents).to_dict()
    values["adapt"] |= {"source": str(plain)}
    trainer = Trainer(read_config(values), tmp_path / "upgraded")
    before = load_pretrained(plain).model
    tokens = torch.randint(0, 20, (2, 16))
    memory = trainer.model.remember(trainer.model.empty_stack(2).push(torch.randn(2, 2, 3, 2)))
    trainer.model.eval()
    assert trainer.model(tokens, torch.rand(2), memory=memory).equal(before(tokens, torch.rand(2)))
    assert trainer.fit().complete


def test_thoughts_go_with_diffusion_only(documents: Path) -> None:
    values = thinking_config(documents).to_dict()
    values["model"] |= {"attention": "causal"}
    values["diffusion"] |= {"corruption": "none", "objective": "autoregressive"}
    with pytest.raises(ValueError, match="thoughts ride along with diffusion models"):
        read_config(values)


@pytest.mark.parametrize(("name", "value"), [("segments", 0), ("present", 1.5), ("teacher", 1.0), ("compression", 0.0)])
def test_values_that_cannot_train_are_refused(documents: Path, name: str, value: float) -> None:
    values = thinking_config(documents).to_dict()
    values["thinking"] |= {name: value}
    with pytest.raises(ValueError, match=f"thinking.{name}"):
        read_config(values)


def test_it_is_resumed_only_with_the_same_thoughts(documents: Path, tmp_path: Path) -> None:
    train(thinking_config(documents), tmp_path / "run")
    values = thinking_config(documents, steps=8).to_dict()
    values["thought"] |= {"slots": 4}
    with pytest.raises(ValueError, match="another model shape"):
        Trainer(read_config(values), tmp_path / "run", resume="auto")


def test_a_collapse_is_warned_of_once_and_not_at_the_beginning() -> None:
    out = io.StringIO()
    bar = ProgressBar(out, plain_every=1e9)
    line = {"loss": 1.0, "nelbo": 1.0, "tokens_per_second": 1.0, "seconds_per_step": 1.0}
    bar.started(0, 1000, {})
    bar.logged(10, line | {"thought_rank": 1.0, "thought_spread": 0.0})
    bar.logged(200, line | {"thought_rank": 6.0, "thought_spread": 0.5})
    assert "collapsing" not in out.getvalue()
    bar.logged(210, line | {"thought_rank": 1.2, "thought_spread": 0.5})
    bar.logged(220, line | {"thought_rank": 1.1, "thought_spread": 0.5})
    assert out.getvalue().count("thoughts are collapsing (thought_rank 1.20): raise thinking.diversity") == 1

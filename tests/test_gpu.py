"""What needs a CUDA device; skipped everywhere else."""

from pathlib import Path

import pytest
import torch

from conftest import tiny_config
from unmask.pipeline import Pipeline
from unmask.pipeline.qbert import QBert
from unmask.sampling.draws import Purpose, categorical, uniforms
from unmask.training.trainer import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_draws_are_those_of_the_cpu() -> None:
    seeds = torch.arange(100)
    cpu, gpu = (uniforms(seeds.to(device), 3, 50, Purpose.TOKEN) for device in ("cpu", "cuda"))
    assert torch.equal(cpu, gpu.cpu())
    log_probs = torch.randn(5000, 30, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    a, b = (categorical(log_probs.to(u.device), u.flatten()) for u in (cpu, gpu))
    assert torch.equal(a, b.cpu())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_and_sampling_run(corpus_file: Path, tmp_path: Path, precision: str) -> None:
    result = train(tiny_config(corpus_file, steps=20, precision=precision), tmp_path / "run")
    assert result.likelihood is not None
    assert result.likelihood.nelbo.mean < 3.3
    pipe = Pipeline.from_pretrained(result.run)
    assert pipe.device.type == "cuda"
    alone, among = (pipe.generate("To", length=12, seed=2, num_samples=n)[0] for n in (1, 3))
    assert alone.tokens == among.tokens


def test_a_text_is_the_same_on_both_devices(trained: Path) -> None:
    texts = [Pipeline.from_pretrained(trained, device).generate(seed=4, num_samples=3) for device in ("cpu", "cuda")]
    same = [a.tokens == b.tokens for a, b in zip(*texts, strict=True)]
    # rounding may tip one draw in a million
    assert sum(same) >= 2


def test_coherence_runs_there_too(trained: Path) -> None:
    writer = QBert(Pipeline.from_pretrained(trained, "cuda"), encoder="own")
    (first,) = writer.generate("to be", 8)
    assert len(first.generation.tokens) == 13
    *_, last = writer.sequential("to be", 4)
    assert last.tokens.device.type == "cuda"
    assert len(writer.memory) == 1

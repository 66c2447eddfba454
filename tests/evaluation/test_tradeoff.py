"""Samplers compared, and the judge."""

import json
import math
from pathlib import Path

import pytest
import torch

from unmask.cli import main
from unmask.evaluation.judge import causal_judge, load_judge, mean_nll
from unmask.evaluation.tradeoff import Plan, default_plans, hits, measure, repetition
from unmask.pipeline import Pipeline


def test_repetition_counts_what_has_stood_before() -> None:
    assert repetition([1, 2, 3, 4, 5, 6]) == 0
    assert repetition([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(1 / 5)
    assert repetition([1] * 10) == pytest.approx(6 / 7)
    assert repetition([1, 2]) == 0


def test_hits_count_hidden_tokens_only() -> None:
    row = list(range(20))
    assert hits(row, row) == 1
    wrong = [99] * 8 + row[8:12] + [99] * 4 + row[16:]
    assert hits(row, wrong) == 0.5


@pytest.fixture(scope="module")
def judge_model() -> object:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=128, n_positions=64, n_embd=16, n_layer=2, n_head=2)
    return transformers.GPT2LMHeadModel(config).eval()


def test_the_judges_nll_is_the_models_own_loss_whatever_the_padding(judge_model: object) -> None:
    rows = [[5, 6, 7, 8], [1, 2], [9, 8, 7, 6, 5, 4, 3]]
    found = mean_nll(judge_model, rows)
    for row, nll in zip(rows, found, strict=True):
        ids = torch.tensor([row])
        # bfloat16 where the processor has it
        assert nll == pytest.approx(float(judge_model(input_ids=ids, labels=ids).loss.detach()), abs=0.02)
    assert math.isnan(mean_nll(judge_model, [[4], [1, 2]])[0])


def test_a_judge_reads_texts_in_any_order(judge_model: object) -> None:
    class Bytes:
        bos_token_id = 0

        def __call__(self, text: str, add_special_tokens: bool) -> object:
            return type("Encoding", (), {"input_ids": list(text.encode())})

    judge = causal_judge(judge_model, Bytes())
    texts = [f"text {i}" * (i % 4 + 1) for i in range(11)]
    for text, nll in zip(texts, judge(texts), strict=True):
        assert nll == pytest.approx(judge([text])[0], abs=0.02)


def test_a_judge_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no judge"):
        load_judge(str(tmp_path / "none.gguf"))
    with pytest.raises(ValueError, match="there is no judge"):
        load_judge(str(tmp_path))


def test_a_plan_is_measured(trained: Path) -> None:
    pipe = Pipeline.from_pretrained(trained, "cpu")
    text = "To be, or not to be, that is the question"
    blocks = torch.tensor([pipe.tokenizer.encode(text[i : i + 16]) for i in (0, 6, 12)])
    plan = Plan("confidence", "gibbs:sites=4", 4)
    point = measure(pipe, plan, blocks, samples=5, judge=lambda texts: [float(len(text)) for text in texts])
    assert point.nfe.mean == 4 + 16 / 4
    assert point.infill_nfe.mean == 4 + 8 / 4
    assert point.judged_nll is not None
    assert point.judged_nll.mean == 16
    assert 0 <= point.infill_accuracy.mean <= 1
    assert point.tokens_per_second > 0
    again = measure(pipe, plan, blocks, samples=5)
    assert again.judged_nll is None
    assert again.unigram_entropy == point.unigram_entropy
    assert again.infill_accuracy == point.infill_accuracy


def test_the_default_plans_can_all_be_run(trained: Path) -> None:
    pipe = Pipeline.from_pretrained(trained, "cpu")
    plans = default_plans(16)
    assert {plan.steps for plan in plans if plan.sampler == "random" and not plan.revise} == {8, 16}
    for plan in plans:
        request = pipe.request_generate(sampler=plan.sampler, revise=plan.revise, steps=plan.steps)
        assert pipe.stream(request).rows


def test_bench_writes_table_json_and_plot(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plans = ["--plan", "confidence@4", "--plan", "threshold:tau=0.5+verify:tau=0.5", "--plan", "random+remdm_cap@8"]
    small = ["--samples", "2", "--blocks", "2"]
    assert main(["bench", "sampling", str(trained), *small, *plans, "--out", str(tmp_path / "b")]) == 0
    out = capsys.readouterr().out
    assert "confidence" in out
    report = json.loads((tmp_path / "b/sampling.json").read_text())
    assert [point["name"] for point in report["points"]] == ["confidence", "threshold + verify", "random + remdm_cap"]
    assert report["held_out"]["repetition"]["mean"] >= 0
    assert "(held-out text)" in out
    assert (tmp_path / "b/sampling.png").stat().st_size > 10_000
    assert main(["bench", "sampling", str(trained), *small, "--plan", "random@2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plan", "radnom@4"], "did you mean random?"),
        (["--plan", "random@many"], "must be a number, as in confidence@32"),
        (["--nfe", "8,x"], "--nfe must be numbers"),
        (["--samples", "1"], "--samples must be at least 2"),
        (["--judge", "/nowhere/judge.gguf"], "there is no judge"),
    ],
)
def test_bench_says_what_is_wrong(
    arguments: list[str], message: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "sampling", str(trained), *arguments]) == 2
    assert message in capsys.readouterr().err

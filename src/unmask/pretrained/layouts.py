"""Other people's checkpoints: their names for our weights, and their settings for our shape."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unmask.backbones.transformer import TransformerConfig

BLOCK = {"ln_1": "attention_norm", "attn.c_attn": "attention.qkv", "attn.c_proj": "attention.out"} | {
    "ln_2": "mlp_norm",
    "mlp.c_fc": "mlp.up",
    "mlp.c_proj": "mlp.down",
}


class Taken:
    """A checkpoint's tensors, handed out by name; what is missing or left over is known at the end."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors, self.missing = dict(tensors), list[str]()

    def __call__(self, name: str) -> Tensor:
        """The tensor, which must be there."""
        if name not in self.tensors:
            self.missing.append(name)
            return torch.zeros(0)
        return self.tensors.pop(name)


def gpt2(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[TransformerConfig, dict[str, Tensor], Taken]:
    """GPT-2 as transformers saves it: matrices of Conv1D are transposed."""
    activation = config.get("activation_function", "gelu_new")
    if activation not in ("gelu_new", "gelu_pytorch_tanh", "gelu"):
        raise ValueError(f"a GPT-2 with the activation {activation} cannot be read: gelu_new or gelu is expected")
    if config.get("scale_attn_by_inverse_layer_idx"):
        raise ValueError("a GPT-2 that scales attention by layer cannot be read")
    shape = TransformerConfig(
        layers=config["n_layer"],
        width=config["n_embd"],
        heads=config["n_head"],
        hidden=config.get("n_inner"),
        length=config["n_positions"],
        attention="causal",
        positions="learned",
        norm="layer",
        norm_eps=config.get("layer_norm_epsilon", 1e-5),
        activation="gelu" if activation == "gelu" else "gelu_tanh",
        qk_norm=False,
        bias=True,
        tied=config.get("tie_word_embeddings", True),
    )
    # the bare model's names lack the prefix; masks and a tied head are no weights
    named = {
        name.removeprefix("transformer."): tensor
        for name, tensor in tensors.items()
        if not name.endswith((".attn.bias", ".attn.masked_bias"))
    }
    take = Taken(named)
    return shape, gpt2_weights(shape, take, transposed=True), take


def nanogpt(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[TransformerConfig, dict[str, Tensor], Taken]:
    """NanoGPT's ckpt.pt; a compiled model's names begin with _orig_mod."""
    shape = TransformerConfig(
        layers=config["n_layer"],
        width=config["n_embd"],
        heads=config["n_head"],
        length=config["block_size"],
        attention="causal",
        positions="learned",
        norm="layer",
        norm_eps=1e-5,
        activation="gelu",
        qk_norm=False,
        bias=config.get("bias", True),
        tied=True,
    )
    named = {
        name.removeprefix("_orig_mod.").removeprefix("transformer."): tensor
        for name, tensor in tensors.items()
        if not name.endswith(".attn.bias")
    }
    take = Taken(named)
    return shape, gpt2_weights(shape, take, transposed=False), take


def gpt2_weights(shape: TransformerConfig, take: Taken, *, transposed: bool) -> dict[str, Tensor]:
    """The weights of GPT-2's architecture."""
    kinds = ("weight", "bias") if shape.bias else ("weight",)
    weights = {"embedding.weight": take("wte.weight"), "position.weight": take("wpe.weight")}
    for index in range(shape.layers):
        for theirs, ours in BLOCK.items():
            for kind in kinds:
                value = take(f"h.{index}.{theirs}.{kind}")
                matrix = kind == "weight" and "ln" not in theirs and value.ndim == 2
                weights[f"blocks.{index}.{ours}.{kind}"] = value.T if matrix and transposed else value
    weights |= {f"norm.{kind}": take(f"ln_f.{kind}") for kind in kinds}
    if shape.tied:
        take.tensors.pop("lm_head.weight", None)
    else:
        weights["head.weight"] = take("lm_head.weight")
    return weights


def llama(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[TransformerConfig, dict[str, Tensor], Taken]:
    """Llama's architecture as transformers saves it (SmolLM2, TinyLlama, ...)."""
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    if head_dim * config["num_attention_heads"] != config["hidden_size"]:
        raise ValueError(f"a Llama whose heads ({head_dim} wide) do not add up to its width cannot be read")
    if config.get("attention_bias") or config.get("mlp_bias"):
        raise ValueError("a Llama with biases cannot be read")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise ValueError(
            f"a Llama with {rope.get('rope_type', rope.get('type'))} positions cannot be read: plain RoPE is expected"
        )
    shape = TransformerConfig(
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        kv_heads=config.get("num_key_value_heads"),
        hidden=config["intermediate_size"],
        length=config["max_position_embeddings"],
        attention="causal",
        norm_eps=config["rms_norm_eps"],
        activation="swiglu",
        qk_norm=False,
        tied=config.get("tie_word_embeddings", False),
        rope_theta=float(rope.get("rope_theta", config.get("rope_theta", 10000.0))),
    )
    take = Taken({name: tensor for name, tensor in tensors.items() if not name.endswith("rotary_emb.inv_freq")})
    weights = {"embedding.weight": take("model.embed_tokens.weight"), "norm.weight": take("model.norm.weight")}
    for index in range(shape.layers):
        theirs, ours = f"model.layers.{index}.", f"blocks.{index}."
        weights |= {
            f"{ours}attention_norm.weight": take(f"{theirs}input_layernorm.weight"),
            f"{ours}attention.qkv.weight": torch.cat([take(f"{theirs}self_attn.{part}_proj.weight") for part in "qkv"]),
            f"{ours}attention.out.weight": take(f"{theirs}self_attn.o_proj.weight"),
            f"{ours}mlp_norm.weight": take(f"{theirs}post_attention_layernorm.weight"),
            f"{ours}mlp.up.weight": torch.cat([take(f"{theirs}mlp.{part}_proj.weight") for part in ("gate", "up")]),
            f"{ours}mlp.down.weight": take(f"{theirs}mlp.down_proj.weight"),
        }
    if shape.tied:
        take.tensors.pop("lm_head.weight", None)
    else:
        weights["head.weight"] = take("lm_head.weight")
    return shape, weights, take


LAYOUTS = {"gpt2": gpt2, "llama": llama}


def read_layout(
    kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str
) -> tuple[TransformerConfig, dict[str, Tensor]]:
    """Our shape and weights from a checkpoint of one of these kinds.

    Raises:
        ValueError: a setting is missing or cannot be had, or tensors are missing or left over (which are named).
    """
    reader = {"nanogpt": nanogpt, **LAYOUTS}[kind]
    try:
        shape, weights, take = reader(config, tensors)
    except KeyError as error:
        raise ValueError(f"{where} is no {kind} checkpoint: its settings lack {error.args[0]}") from None
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{where}: {error}") from None
    if take.missing or take.tensors:
        raise ValueError(
            f"{where} is no {kind} checkpoint of these settings: missing {listed(take.missing)}, unknown {listed(take.tensors)}"
        )
    return shape, weights


def listed(names: Any) -> str:
    """The first few names."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return ", ".join(ordered[:3]) + more if ordered else "nothing"

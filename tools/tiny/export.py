"""Writes the tiny model as an ordinary Hugging Face folder: config, shards with an index, and texts.

    python3 tools/tiny/export.py CHECKPOINT_DIR|random OUT_DIR

CHECKPOINT_DIR is what train.py wrote (the same shards); `random` gives untrained weights of the same shape.
The tokenizer and the chat template are already in OUT_DIR or are made by tokenizer.py.
"""

import json
import pathlib
import sys

import torch
from safetensors import safe_open
from safetensors.torch import save_file

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from model import Config, Tiny
from tokenizer import IDS

SHARD = 14_500_000
CONTEXT = 32768


def config(c):
    """config.json, with the nesting and the fields of the real one; there is no vision part."""
    end = IDS["<|endoftext|>"]
    text = {
        "attention_bias": False, "attention_dropout": 0.0, "attn_output_gate": True,
        "bos_token_id": end, "dtype": "bfloat16", "eos_token_id": end,
        "full_attention_interval": c.interval, "head_dim": c.head_dim, "hidden_act": "silu",
        "hidden_size": c.hidden, "initializer_range": 0.02,
        "layer_types": ["full_attention" if c.is_attention(i) else "linear_attention" for i in range(c.layers)],
        "linear_conv_kernel_dim": c.conv, "linear_key_head_dim": c.gdn_dim,
        "linear_num_key_heads": c.gdn_k_heads, "linear_num_value_heads": c.gdn_v_heads,
        "linear_value_head_dim": c.gdn_dim, "mamba_ssm_dtype": "float32",
        "max_position_embeddings": CONTEXT, "model_type": "qwen3_5_moe_text",
        "moe_intermediate_size": c.inter, "mtp_num_hidden_layers": 1, "mtp_use_dedicated_embeddings": False,
        "num_attention_heads": c.heads, "num_experts": c.experts, "num_experts_per_tok": c.top_k,
        "num_hidden_layers": c.layers, "num_key_value_heads": c.kv_heads, "output_router_logits": False,
        "pad_token_id": None, "partial_rotary_factor": c.rotary / c.head_dim, "rms_norm_eps": c.eps,
        "rope_parameters": {"mrope_interleaved": True, "mrope_section": [11, 11, 10],
                            "partial_rotary_factor": c.rotary / c.head_dim, "rope_theta": int(c.theta),
                            "rope_type": "default"},
        "router_aux_loss_coef": 0.001, "shared_expert_intermediate_size": c.inter,
        "tie_word_embeddings": False, "use_cache": True, "vocab_size": c.vocab}
    return {
        "architectures": ["Qwen3_5MoeForConditionalGeneration"],
        "image_token_id": IDS["<|image_pad|>"], "model_type": "qwen3_5_moe", "text_config": text,
        "tie_word_embeddings": False, "transformers_version": "5.17.0",
        "video_token_id": IDS["<|video_pad|>"], "vision_end_token_id": IDS["<|vision_end|>"],
        "vision_start_token_id": IDS["<|vision_start|>"]}


def generation_config():
    end = IDS["<|endoftext|>"]
    return {"bos_token_id": end, "do_sample": True, "eos_token_id": [IDS["<|im_end|>"], end],
            "pad_token_id": end, "temperature": 1.0, "top_k": 20, "top_p": 0.95,
            "transformers_version": "5.17.0"}


def save_weights(model, out):
    """BF16 shards of at most SHARD bytes and their index."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().to(torch.bfloat16).cpu().contiguous() for k, v in model.state_dict().items()}
    shards, size = [{}], 0
    for name in sorted(tensors):
        n = 2 * tensors[name].numel()
        if size + n > SHARD:
            shards.append({})
            size = 0
        shards[-1][name] = tensors[name]
        size += n
    index = {"metadata": {"total_size": sum(2 * t.numel() for t in tensors.values())}, "weight_map": {}}
    for i, shard in enumerate(shards):
        name = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, str(out / name), metadata={"format": "pt"})
        index["weight_map"].update({k: name for k in shard})
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")


def load_weights(model, folder):
    folder = pathlib.Path(folder)
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    state = {}
    for shard in sorted(set(index.values())):
        with safe_open(str(folder / shard), "pt") as f:
            for k in f.keys():
                state[k] = f.get_tensor(k).float()
    model.load_state_dict(state)
    return model


def save_configs(c, out):
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(config(c), indent=2) + "\n")
    (out / "generation_config.json").write_text(json.dumps(generation_config(), indent=2) + "\n")


if __name__ == "__main__":
    src, out = sys.argv[1], pathlib.Path(sys.argv[2])
    torch.manual_seed(1)
    model = Tiny(Config())
    if src != "random":
        load_weights(model, src)
    save_configs(model.c, out)
    save_weights(model, out)

#!/usr/bin/env python3
"""Writes a model folder whose headers are those of a published checkpoint, and whose data is a hole.

    python3 tests/tools/synthetic_checkpoint.py KIND OUT [--layers N] [--experts N] [--vocab N] [--shards N] [--no-vision] [--fill]

KIND: bf16-35b, fp8-35b (Qwen/Qwen3.6-35B-A3B-FP8), nvfp4-35b (nvidia/Qwen3.6-35B-A3B-NVFP4), redhat-35b
(RedHatAI/Qwen3.6-35B-A3B-NVFP4), bf16-27b.  Names, types, shapes and the number of tensors are the real ones; the files are
sparse, so 23 GB take some MB.  Only one-number scales have a value.  --fill writes finite numbers everywhere, so that
reading is reading, and leaves nothing of it in the page cache; with fewer layers it then fits somewhere.  Standard library only.
"""

import argparse
import json
import os
import struct

SIZE = {"BF16": 2, "F32": 4, "F8_E4M3": 1, "U8": 1}
SHARDS = 41


class Big:
    def __init__(self, moe, size=None):
        self.moe, self.vision = moe, True
        self.hidden, self.layers, self.heads, self.kv = (2048, 40, 16, 2) if moe else (5120, 64, 24, 4)
        self.v_heads, self.inter, self.experts = (32, 512, 256) if moe else (48, 17408, 0)
        self.vocab, self.k_dim, self.v_dim = 248320, 16 * 128, (32 if moe else 48) * 128
        for name, n in (size or {}).items():
            if n is not None:
                setattr(self, name, n)

    def config(self):
        text = {"model_type": "qwen3_5_moe_text" if self.moe else "qwen3_5_text", "hidden_size": self.hidden,
                "num_hidden_layers": self.layers, "full_attention_interval": 4, "vocab_size": self.vocab,
                "num_attention_heads": self.heads, "num_key_value_heads": self.kv, "head_dim": 256,
                "linear_num_key_heads": 16, "linear_num_value_heads": self.v_heads, "linear_key_head_dim": 128,
                "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "rms_norm_eps": 1e-6,
                "max_position_embeddings": 262144, "mtp_num_hidden_layers": 1, "hidden_act": "silu",
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000000, "partial_rotary_factor": 0.25,
                                    "mrope_interleaved": True, "mrope_section": [11, 11, 10]}}
        if self.moe:
            text |= {"num_experts": self.experts, "num_experts_per_tok": 8, "moe_intermediate_size": 512,
                     "shared_expert_intermediate_size": 512}
        else:
            text |= {"intermediate_size": self.inter}
        return {
            "model_type": "qwen3_5_moe" if self.moe else "qwen3_5",
            "tie_word_embeddings": False,
            "text_config": text,
        }

    def mixer(self, p, attention):
        h, q, kv = self.hidden, self.heads * 256, self.kv * 256
        if attention:
            p += "self_attn."
            return [
                (p + "q_proj", [2 * q, h]),
                (p + "k_proj", [kv, h]),
                (p + "v_proj", [kv, h]),
                (p + "o_proj", [h, q]),
                (p + "q_norm.weight", [256]),
                (p + "k_norm.weight", [256]),
            ]
        p += "linear_attn."
        c = 2 * self.k_dim + self.v_dim
        return [(p + "in_proj_qkv", [c, h]), (p + "in_proj_z", [self.v_dim, h]), (p + "out_proj", [h, self.v_dim]),
                (p + "in_proj_a.weight", [self.v_heads, h]), (p + "in_proj_b.weight", [self.v_heads, h]),
                (p + "conv1d.weight", [c, 1, 4]), (p + "A_log", [self.v_heads]), (p + "dt_bias", [self.v_heads]),
                (p + "norm.weight", [128])]

    def mlp(self, p, fused):
        h, i, p = self.hidden, self.inter, p + "mlp."
        if not self.moe:
            return [(p + "gate_proj", [i, h]), (p + "up_proj", [i, h]), (p + "down_proj", [h, i])]
        out = [(p + "gate.weight", [self.experts, h]), (p + "shared_expert_gate.weight", [1, h]),
               (p + "shared_expert.gate_proj", [i, h]), (p + "shared_expert.up_proj", [i, h]),
               (p + "shared_expert.down_proj", [h, i])]
        if fused:
            return out + [(p + "experts.gate_up_proj", [self.experts, 2 * i, h]),
                          (p + "experts.down_proj", [self.experts, h, i])]
        for e in range(self.experts):
            out += [(f"{p}experts.{e}.gate_proj", [i, h]), (f"{p}experts.{e}.up_proj", [i, h]),
                    (f"{p}experts.{e}.down_proj", [h, i])]
        return out

    def layer(self, p, attention, fused):
        return (
            [(p + "input_layernorm.weight", [self.hidden]), (p + "post_attention_layernorm.weight", [self.hidden])]
            + self.mixer(p, attention)
            + self.mlp(p, fused)
        )

    def text(self, fused):
        p = "model.language_model."
        out = [(p + "embed_tokens.weight", [self.vocab, self.hidden]), (p + "norm.weight", [self.hidden]),
               ("lm_head", [self.vocab, self.hidden])]
        for i in range(self.layers):
            out += self.layer(f"{p}layers.{i}.", i % 4 == 3, fused)
        return out

    def mtp(self, fused):
        h = self.hidden
        return [("mtp.fc.weight", [h, 2 * h])] + \
            [(f"mtp.{n}.weight", [h]) for n in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden")] + \
            self.layer("mtp.layers.0.", True, fused)

    def visual(self):
        v, out = "model.visual.", []
        if not self.vision:
            return out

        def both(name, shape):
            out.append((v + name + ".weight", shape))
            out.append((v + name + ".bias", shape[:1]))
        both("patch_embed.proj", [1152, 3, 2, 16, 16])
        out.append((v + "pos_embed.weight", [2304, 1152]))
        for b in range(27):
            for n, s in (("norm1", [1152]), ("norm2", [1152]), ("attn.qkv", [3456, 1152]), ("attn.proj", [1152, 1152]),
                         ("mlp.linear_fc1", [4304, 1152]), ("mlp.linear_fc2", [1152, 4304])):
                both(f"blocks.{b}.{n}", s)
        both("merger.norm", [1152])
        both("merger.linear_fc1", [4608, 4608])
        both("merger.linear_fc2", [self.hidden, 4608])
        return out


# ---- formats: a module is a name without .weight --------------------------------------------------------------

def is_module(name):
    return name == "lm_head" or name.endswith("_proj") or name.endswith(("in_proj_qkv", "in_proj_z"))


def plain(name, shape):
    fused = name.endswith(("experts.gate_up_proj", "experts.down_proj"))
    return [(name + (".weight" if is_module(name) and not fused else ""), "BF16", shape)]


def fp8_block(name, shape):
    return [(name + ".weight", "F8_E4M3", shape),
            (name + ".weight_scale_inv", "BF16", [-(-shape[0] // 128), -(-shape[1] // 128)])]


def fp8_tensor(name, shape):
    return [
        (name + ".weight", "F8_E4M3", shape),
        (name + ".weight_scale", "F32", []),
        (name + ".input_scale", "F32", []),
    ]


def nvfp4_modelopt(name, shape):
    n, k = shape
    return [(name + ".weight", "U8", [n, k // 2]), (name + ".weight_scale", "F8_E4M3", [n, k // 16]),
            (name + ".weight_scale_2", "F32", []), (name + ".input_scale", "F32", [])]


def nvfp4_ct(name, shape):
    n, k = shape
    return [(name + ".weight_packed", "U8", [n, k // 2]), (name + ".weight_scale", "F8_E4M3", [n, k // 16]),
            (name + ".weight_global_scale", "F32", [1]), (name + ".input_global_scale", "F32", [1])]


def spread(tensors, choose):
    out = []
    for name, shape in tensors:
        out += (choose(name) if is_module(name) else plain)(name, shape)
    return out


def make(kind, size=None, shards=SHARDS):
    """(config, {file: [(name, dtype, shape)]}, hf_quant_config or None)"""
    m = Big(kind.endswith("35b"), size)
    config, quant, fused, mtp_fused = m.config(), None, True, True
    text = mtp = lambda name: plain
    if kind == "fp8-35b":
        fused = mtp_fused = False
        text = mtp = lambda name: plain if name == "lm_head" else fp8_block
        config["quantization_config"] = {
            "quant_method": "fp8",
            "fmt": "e4m3",
            "activation_scheme": "dynamic",
            "weight_block_size": [128, 128],
            "modules_to_not_convert": ["lm_head", "mtp.fc"],
        }
    elif kind == "nvfp4-35b":
        fused = False

        def text(name):
            return fp8_tensor if "self_attn" in name or "linear_attn" in name else nvfp4_modelopt
        layers = {"lm_head": "W4A16_NVFP4"}
        for i in range(m.layers):
            p = f"model.language_model.layers.{i}."
            layers[p + "mlp.experts"] = layers[p + "mlp.shared_expert"] = "W4A16_NVFP4"
            for n, _ in m.mixer(p, i % 4 == 3):
                if is_module(n):
                    layers[n] = "FP8"
        config["quantization_config"] = {"quant_method": "modelopt"}
        quant = {
            "quantization": {
                "quant_algo": "MIXED_PRECISION",
                "kv_cache_quant_algo": "FP8",
                "exclude_modules": ["model.visual*"],
                "quantized_layers": {k: {"quant_algo": v} for k, v in layers.items()},
            }
        }
    elif kind == "redhat-35b":
        fused = False

        def text(name):
            return plain if name == "lm_head" or "linear_attn" in name else nvfp4_ct
        config["quantization_config"] = {
            "quant_method": "compressed-tensors",
            "format": "nvfp4-pack-quantized",
            "config_groups": {
                "group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "float", "group_size": 16}}
            },
            "ignore": ["lm_head", "re:.*visual.*", "re:.*mlp.gate$", "re:.*linear_attn.*", "re:^mtp.*"],
        }
    tensors = spread(m.text(fused), text)
    files = {f"model-{i + 1:05d}-of-{shards + 1:05d}.safetensors": [] for i in range(shards)}
    names = list(files)
    for i, t in enumerate(tensors + spread(m.visual(), lambda name: plain)):
        files[names[i * shards // (len(tensors) + 333)]].append(t)
    files["mtp.safetensors"] = spread(m.mtp(mtp_fused), mtp)
    return config, files, quant


def count(shape):
    n = 1
    for d in shape:
        n *= d
    return n


BLOCK = 4 << 20
RANDOM = os.urandom(BLOCK + 4096)
# what keeps a number finite: of the high byte of BF16 (magnitudes below 1), of FP8
TAME = {"BF16": bytes(b & 0x81 | 0x3c for b in range(256)), "F8_E4M3": bytes(b & 0xbf for b in range(256))}


def block(dtype, n, at):
    b = bytearray(RANDOM[at % 4096:at % 4096 + n])
    if dtype == "BF16":
        b[1::2] = b[1::2].translate(TAME[dtype])
    elif dtype == "F8_E4M3":
        b = b.translate(TAME[dtype])
    return b


def fill(f, dtype, place, n):
    f.seek(place)
    for at in range(0, n, BLOCK):
        f.write(block(dtype, min(BLOCK, n - at), at // BLOCK * 64))
        f.flush()
        os.fdatasync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def write(path, tensors, filled=False):
    """In safetensors' own order: wide types first, then by name; so all scalars lie together."""
    header, at, scalars, fills = {}, 0, [], []
    for name, dtype, shape in sorted(tensors, key=lambda t: (-SIZE[t[1]], t[0])):
        n = count(shape) * SIZE[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + n]}
        if dtype == "F32" and n == 4:
            scalars.append((at, 400.0 if "global" in name else 0.0025))
        elif filled:
            fills.append((dtype, at, n))
        at += n
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + at)
        for dtype, place, n in fills:
            fill(f, dtype, 8 + len(text) + place, n)
        for place, x in scalars:
            f.seek(8 + len(text) + place)
            f.write(struct.pack("<f", x))
    return at


def build(kind, out, size=None, shards=SHARDS, filled=False):
    """(tensors, bytes of data)"""
    config, files, quant = make(kind, size, shards)
    os.makedirs(out, exist_ok=True)
    total = sum(write(os.path.join(out, name), tensors, filled) for name, tensors in files.items())
    index = {"metadata": {"total_size": total}, "weight_map": {t[0]: name for name, ts in files.items() for t in ts}}
    texts = {"config.json": config, "model.safetensors.index.json": index}
    if quant:
        texts["hf_quant_config.json"] = quant
    for name, v in texts.items():
        with open(os.path.join(out, name), "w") as f:
            json.dump(v, f)
    return sum(map(len, files.values())), total


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("kind", choices=["bf16-35b", "fp8-35b", "nvfp4-35b", "redhat-35b", "bf16-27b"])
    p.add_argument("out")
    for name in ("layers", "experts", "vocab"):
        p.add_argument("--" + name, type=int)
    p.add_argument("--shards", type=int, default=SHARDS)
    p.add_argument("--no-vision", dest="vision", action="store_false")
    p.add_argument("--fill", action="store_true")
    a = p.parse_args()
    size = {"layers": a.layers, "experts": a.experts, "vocab": a.vocab, "vision": a.vision}
    print("%d tensors, %d bytes" % build(a.kind, a.out, size, a.shards, a.fill))


if __name__ == "__main__":
    main()

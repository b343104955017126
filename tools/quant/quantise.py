"""Writes a quantised checkpoint of a small model with the tools that people use for the large one.

    python3 tools/quant/quantise.py RECIPE MODEL OUT

Everything runs on the CPU.  Recipes, after the published checkpoints:

    ct-nvfp4        llmcompressor, W4A4 NVFP4: experts, shared expert, attention; the rest BF16  (RedHatAI)
    ct-mixed        llmcompressor, two groups: attention, DeltaNet projections and head FP8 per channel, experts and
                    shared expert NVFP4  (unsloth "Fast")
    ct-fp8-block    llmcompressor, FP8 in blocks of 128 x 128 (weight_scale)
    modelopt-mixed  ModelOpt, MIXED_PRECISION: experts, shared expert and head NVFP4, attention and DeltaNet projections FP8
                    per tensor, KV cache FP8 declared; no MTP tensors in the output  (nvidia)
    modelopt-fp8    ModelOpt, FP8 per tensor
    qwen-fp8        FP8 in blocks of 128 x 128 (weight_scale_inv) by transformers' own conversion op, experts by name, MTP
                    quantised, scales in BF16  (Qwen)

The model gets a small random vision tower where it has none, so that vision tensors are met as well; ct-mixed quantises it.
"""

import copy
import json
import pathlib
import shutil
import sys
import tempfile

import torch
from safetensors import safe_open
from safetensors.torch import save_file

TEXTS = ["What is 47 + 385?", "The quick brown fox jumps over the lazy dog.", "{\"a\": [1, 2.5, true, null]}\n\n",
         "Write a short story about a fox who keeps the code word heliotrope-17.", "def f(x):\n    return x * 2\n"]
VISION = {"depth": 1, "hidden_size": 64, "num_heads": 2, "intermediate_size": 128, "patch_size": 16,
          "temporal_patch_size": 2, "spatial_merge_size": 2, "in_channels": 3, "num_position_embeddings": 16,
          "deepstack_visual_indexes": [], "hidden_act": "gelu_pytorch_tanh", "model_type": "qwen3_5_moe"}
ATTENTION = r"re:.*self_attn\.(q|k|v|o)_proj$"
DELTA = r"re:.*linear_attn\.(in_proj_qkv|in_proj_z|out_proj)$"
EXPERTS = [r"re:.*mlp\.experts\.\d+\.(gate|up|down)_proj$", r"re:.*mlp\.shared_expert\.(gate|up|down)_proj$"]


def with_vision(model, work):
    shutil.copytree(model, work, dirs_exist_ok=True)
    path = work / "config.json"
    config = json.loads(path.read_text())
    if "vision_config" not in config:
        config["vision_config"] = VISION | {"out_hidden_size": config["text_config"]["hidden_size"]}
    path.write_text(json.dumps(config))


def load(work):
    """Model, tokenizer, and the texts to calibrate with as ids."""
    from transformers import AutoTokenizer, Qwen3_5MoeForConditionalGeneration
    torch.manual_seed(1)
    model = Qwen3_5MoeForConditionalGeneration.from_pretrained(work, dtype=torch.bfloat16)
    tok = AutoTokenizer.from_pretrained(work)
    return model.eval(), tok, [tok(t, return_tensors="pt").input_ids for t in TEXTS]


def copy_texts(model, out):
    """What a quantiser leaves behind: tokenizer and template."""
    for p in pathlib.Path(model).iterdir():
        if p.suffix != ".safetensors" and not (out / p.name).exists() and "index" not in p.name:
            shutil.copy(p, out)


# ---- llmcompressor ---------------------------------------------------------------------------------------

def ct_recipe(name):
    from compressed_tensors.quantization import preset_name_to_scheme
    from llmcompressor.modifiers.quantization import QuantizationModifier
    if name == "ct-nvfp4":
        return QuantizationModifier(targets=EXPERTS + [ATTENTION], scheme="NVFP4", ignore=["lm_head", r"re:.*visual.*"])
    if name == "ct-fp8-block":
        return QuantizationModifier(targets=EXPERTS + [ATTENTION, DELTA], scheme="FP8_BLOCK", ignore=[r"re:.*visual.*"])
    groups = {"group_0": preset_name_to_scheme("FP8_DYNAMIC", [ATTENTION, DELTA, "lm_head", r"re:.*visual\.blocks.*"]),
              "group_1": preset_name_to_scheme("NVFP4A16", EXPERTS)}
    return QuantizationModifier(config_groups=groups, ignore=[r"re:.*merger.*"])


def compressed_tensors(name, work, out):
    from datasets import Dataset
    from llmcompressor import oneshot
    model, tok, ids = load(work)
    data = Dataset.from_list([{"input_ids": i[0].tolist(), "attention_mask": [1] * i.shape[1]} for i in ids])
    more = {"dataset": data, "processor": tok, "num_calibration_samples": len(ids), "max_seq_length": 256}
    oneshot(model=model, recipe=ct_recipe(name), **(more if name == "ct-nvfp4" else {}))
    model.save_pretrained(out, save_compressed=True)


# ---- ModelOpt ----------------------------------------------------------------------------------------------

def modelopt(name, work, out):
    import modelopt.torch.quantization as mtq
    from modelopt.torch.export import export_hf_checkpoint
    model, _, ids = load(work)
    config = copy.deepcopy(mtq.FP8_DEFAULT_CFG if name == "modelopt-fp8" else mtq.W4A16_NVFP4_CFG)
    if name == "modelopt-mixed":
        fp8 = {"num_bits": (4, 3), "axis": None}
        fp4 = next(c["cfg"] for c in config["quant_cfg"] if c["quantizer_name"] == "*weight_quantizer")
        config["quant_cfg"] += [
            {"quantizer_name": f"*{where}*{what}_quantizer", "enable": True, "cfg": fp8}
            for where in ("self_attn", "linear_attn.in_proj_qkv", "linear_attn.in_proj_z", "linear_attn.out_proj")
            for what in ("weight", "input")]
        config["quant_cfg"] += [{"quantizer_name": "*lm_head*weight_quantizer", "enable": True, "cfg": fp4},
                                {"quantizer_name": "*[kv]_bmm_quantizer", "enable": True, "cfg": fp8}]

    def calibrate(m):
        with torch.no_grad():
            for i in ids:
                m(input_ids=i)

    export_hf_checkpoint(mtq.quantize(model, config, calibrate), export_dir=out)


# ---- the official FP8 -----------------------------------------------------------------------------------------

def is_official_fp8(name):
    """The modules that Qwen/Qwen3.6-35B-A3B-FP8 has in FP8."""
    tail = name.removesuffix(".weight").rsplit(".", 2)
    if ".experts." in name or ".shared_expert." in name:
        return True
    return tail[-2:-1] == ["self_attn"] and tail[-1].endswith("_proj") or \
        tail[-2:] in (["linear_attn", "in_proj_qkv"], ["linear_attn", "in_proj_z"], ["linear_attn", "out_proj"])


def by_expert(name, t):
    """Fused experts as the published file names them."""
    if not name.endswith(("gate_up_proj", "down_proj")) or t.dim() != 3:
        yield name, t
        return
    head, what = name.rsplit(".", 1)
    for e in range(t.shape[0]):
        if what == "down_proj":
            yield f"{head}.{e}.down_proj.weight", t[e]
        else:
            half = t.shape[1] // 2
            yield f"{head}.{e}.gate_proj.weight", t[e, :half]
            yield f"{head}.{e}.up_proj.weight", t[e, half:]


def qwen_fp8(name, work, out):
    from types import SimpleNamespace
    from transformers import FineGrainedFP8Config
    from transformers.integrations.finegrained_fp8 import Fp8Quantize
    config = FineGrainedFP8Config(weight_block_size=(128, 128))
    op = Fp8Quantize(SimpleNamespace(quantization_config=config))
    out.mkdir(parents=True)
    tensors, plain = {}, []
    for path in sorted(work.glob("*.safetensors")):
        with safe_open(path, "pt") as f:
            for key in f.keys():
                for n, t in by_expert(key, f.get_tensor(key)):
                    if not is_official_fp8(n):
                        tensors[n] = t.contiguous()
                        plain.append(n.removesuffix(".weight"))
                        continue
                    for k, v in op.convert({n: t.contiguous()}).items():
                        tensors[k] = v.to(torch.bfloat16) if k.endswith("_inv") else v
    save_file({k: v for k, v in tensors.items() if not k.startswith("mtp.")}, out / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if k.startswith("mtp.")}, out / "mtp.safetensors")
    full = json.loads((work / "config.json").read_text())
    full["quantization_config"] = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                   "weight_block_size": [128, 128], "modules_to_not_convert": plain}
    (out / "config.json").write_text(json.dumps(full, indent=1))


def main(recipe, model, out):
    out = pathlib.Path(out)
    write = compressed_tensors if recipe.startswith("ct-") else modelopt if recipe.startswith("modelopt-") else qwen_fp8
    with tempfile.TemporaryDirectory() as d:
        with_vision(pathlib.Path(model), pathlib.Path(d))
        write(recipe, pathlib.Path(d), out)
    copy_texts(model, out)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])

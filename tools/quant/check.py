"""Compares hearth's dequantised matrices with what the tool that wrote a checkpoint makes of it.

    python3 tools/quant/check.py QUANTISED_FOLDER DEQUANT_DRIVER

For every quantised matrix: the operands (kernels/cpu/dequant.h) bit for bit with the tool's own decompressed weights when its
global factor is left out or 1; FP8 weights bit for bit with the factor; NVFP4 weights with their global within one unit in the last place
of bfloat16, or two of float32 (the tools multiply in another order, and compressed-tensors divides).  Exits with 1 when one of these is not so.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np
import torch
from safetensors import safe_open


def records(driver, folder):
    out = subprocess.run([driver, folder], stdout=subprocess.PIPE, check=True).stdout
    at = 0
    while at < len(out):
        end = out.index(b"\n", at)
        name, fmt, rows, cols, _ = out[at:end].decode().split()
        n, at = int(rows) * int(cols), end + 1
        pair = np.frombuffer(out, np.float32, 2 * n, at).reshape(2, int(rows), int(cols))
        at += 8 * n
        yield name, fmt, torch.from_numpy(pair[0].copy()), torch.from_numpy(pair[1].copy())


def tensors_of(folder):
    ret = {}
    for p in pathlib.Path(folder).glob("*.safetensors"):
        with safe_open(p, "pt") as f:
            ret.update({k: f.get_tensor(k) for k in f.keys()})
    return ret


def parts(tensors, name):
    module = name.rsplit(".", 1)[0] + "."
    return {k.removeprefix(module): v for k, v in tensors.items() if k.startswith(module)}


def ct(config):
    """compressed-tensors: decompress() of the format's compressor."""
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationScheme
    groups = config["config_groups"].values()
    by_bits = {
        g["weights"]["num_bits"]: QuantizationScheme(**{k: v for k, v in g.items() if k != "format"}) for g in groups
    }

    def decompress(fmt, p, factor):
        scheme = by_bits[4 if fmt == "NVFP4" else 8]
        if not factor:
            p = {k: torch.ones_like(v) if fmt == "FP8" and k == "weight_scale" else v
                 for k, v in p.items() if k != "weight_global_scale"}
        tool = BaseCompressor.get_value_from_registry("nvfp4-pack-quantized" if fmt == "NVFP4" else "float-quantized")
        return tool.decompress(p, scheme)["weight"]
    return decompress


def modelopt(_):
    from modelopt.torch.quantization.qtensor import FP8QTensor, NVFP4QTensor

    def decompress(fmt, p, factor):
        w = p["weight"]
        one = torch.ones((), dtype=torch.float32)
        if fmt == "FP8":
            return FP8QTensor(w.shape, torch.float32, w).dequantize(
                torch.float32, scale=p["weight_scale"] if factor else one
            )
        shape = (w.shape[0], 2 * w.shape[1])
        return NVFP4QTensor(shape, torch.float32, w).dequantize(
            torch.float32,
            scale=p["weight_scale"],
            double_scale=p["weight_scale_2"] if factor else one,
            block_sizes={-1: 16},
        )
    return decompress


def transformers(_):
    from types import SimpleNamespace
    from transformers import FineGrainedFP8Config
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize
    op = Fp8Dequantize(SimpleNamespace(quantization_config=FineGrainedFP8Config(weight_block_size=(128, 128))))

    def decompress(_, p, factor):
        scale = p["weight_scale_inv"]
        return op._dequantize_one(p["weight"], scale if factor else torch.ones_like(scale), torch.float32)
    return decompress


def main(folder, driver):
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())["quantization_config"]
    decompress = {"compressed-tensors": ct, "modelopt": modelopt, "fp8": transformers}[config["quant_method"]](config)
    tensors, seen, bad = tensors_of(folder), {}, 0
    for name, fmt, operand, weight in records(driver, folder):
        p = parts(tensors, name)
        tool_operand, tool_weight = decompress(fmt, p, False), decompress(fmt, p, True)
        ours = weight.to(tool_weight.dtype)
        bits = torch.int16 if ours.dtype == torch.bfloat16 else torch.int32
        # in units of the last place; + 0 because ModelOpt reads the code of -0 as 0
        off = ((ours + 0).view(bits).long() - (tool_weight + 0).contiguous().view(bits).long()).abs()
        same, worst = int((off == 0).sum()), int(off.max())
        ok = torch.equal(operand, tool_operand.float()) and worst <= (
            0 if fmt == "FP8" else 1 if bits == torch.int16 else 2
        )
        if not ok:
            bad += 1
            print("DIFFERS", name, fmt)
        s = seen.setdefault(f"{fmt} against {str(tool_weight.dtype).removeprefix('torch.')}", [0, 0, 0, 0])
        s[0] += 1
        s[1] += ours.numel()
        s[2] += same
        s[3] = max(s[3], worst)
    for kind, (n, total, same, worst) in sorted(seen.items()):
        print(
            f"{kind}: {n} matrices, operands equal bit for bit; with the factor {same} of {total} weights equal bit for bit"
            + ("" if same == total else f", the others at most {worst} in the last place")
        )
    if bad or not seen:
        sys.exit(f"{bad} matrices differ, {len(seen)} kinds seen")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])

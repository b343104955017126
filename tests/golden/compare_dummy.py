"""tests/golden/dummy_weights.py against kernels/dummy_fill.c, byte for byte.

    python tests/golden/compare_dummy.py BUILD_DIR

All tensors of both small shapes, in every recipe and with two seeds; and random rows of every kind of tensor at the
true dimensions of the 35B and the 27B.  Exit status 1 when a byte differs.
"""
import random
import subprocess
import sys
import tempfile

import torch

import dummy_weights as dw
from true_shapes import config_of, write_config

RECIPES = ("bf16", "fp8", "nvfp4", "nvfp4-fp8")


class Driver:
    """Bytes as our own programs make them."""

    def __init__(self, build, config, recipe, seed):
        self.folder = tempfile.TemporaryDirectory()
        write_config(config, self.folder.name)
        self.p = subprocess.Popen([build + "/tests/tools/dummy_driver", self.folder.name, recipe, str(seed)],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.seed = seed

    def all(self, asked):
        """[(slot, layer, expert, first, rows)] -> [None or (format, rows, cols, global, data, scales)]."""
        text = "".join("%d %d %d %d %d\n" % (dw.SLOT[a[0]], *a[1:]) for a in asked)
        out, _ = self.p.communicate(text.encode())
        assert self.p.returncode == 0
        answers, at = [], 0
        for _ in asked:
            end = out.index(b"\n", at)
            line, at = out[at:end].decode().split(), end + 1
            if line == ["none"]:
                answers.append(None)
                continue
            n, m = int(line[3]), int(line[4])
            data, scales, at = out[at:at + n], out[at + n:at + n + m], at + n + m
            answers.append((line[0], int(line[1]), int(line[2]), float(line[5]), data, scales))
        assert at == len(out)
        return answers


def ours(seed, recipe, ask, answer):
    """The same rows, made here: (data, scales)."""
    slot, layer, expert, first, _ = ask
    form, rows, cols = answer[:3]
    s = torch.tensor([dw.stream_of(slot, layer, expert)])
    if form == "BF16":
        return dw.bf16(seed, s, slot, cols, first * cols, (first + rows) * cols).view(torch.uint8), b""
    if form == "NVFP4":
        row = cols // 2
        return (dw.nvfp4(seed, s, first * row, (first + rows) * row),
                dw.nvfp4_scales(seed, s, first * cols // 16, (first + rows) * cols // 16))
    high, wide = (128, 128) if recipe == "fp8" else (1, cols)
    n = -(-cols // wide)
    return (dw.fp8(seed, s, first * cols, (first + rows) * cols),
            dw.fp8_scales(seed, s, slot, cols, first // high * n, -(-(first + rows) // high) * n).view(torch.uint8))


def raw(x):
    return x if isinstance(x, bytes) else x.flatten().numpy().tobytes()


def check(build, config, recipe, seed, asked, tally):
    for ask, answer in zip(asked, Driver(build, config, recipe, seed).all(asked)):
        if answer is None:
            tally["none"] += 1
            continue
        data, scales = ours(seed, recipe, ask, answer)
        same = raw(data) == answer[4] and raw(scales) == answer[5]
        tally["tensors"] += 1
        tally["bytes"] += len(answer[4]) + len(answer[5])
        tally["slots"].add(ask[0])
        if not same:
            tally["wrong"] += 1
            print("differs:", recipe, seed, ask, answer[:4])


def everything(config):
    """Every tensor there may be; what a model of this kind has not is answered with none."""
    experts = getattr(config, "num_experts", 0)
    for slot in dw.SLOTS:
        for layer in range(config.num_hidden_layers if dw.SLOT[slot] >= dw.PER_LAYER else 1):
            for expert in range(experts if slot.startswith("EXPERT") else 1):
                yield slot, layer, expert, 0, 0


def slices(config, r):
    """Four times some rows of every kind of tensor (whole blocks of 128), or all of one that is small."""
    layers, experts = config.num_hidden_layers, getattr(config, "num_experts", 1)
    tall = dict.fromkeys(dw.SLOTS, 512)
    tall.update(EMBED=config.vocab_size, HEAD=config.vocab_size, GDN_QKV=8192, GDN_CONV=8192, GDN_Z=4096, GDN_OUT=2048,
                Q=8192, O=2048, EXPERT_DOWN=2048, ROUTER=256, MLP_GATE=17408, MLP_UP=17408, MLP_DOWN=5120)
    for slot in dw.SLOTS:
        small = "NORM" in slot or slot in ("GDN_A", "GDN_B", "GDN_A_LOG", "GDN_DT_BIAS", "SHARED_SCORE")
        for _ in range(4):
            layer = r.randrange(layers) if dw.SLOT[slot] >= dw.PER_LAYER else 0
            expert = r.randrange(experts) if slot.startswith("EXPERT") else 0
            first = 0 if small else r.randrange(tall[slot] // 128) * 128
            yield slot, layer, expert, first, 0 if small else 128


def main():
    build = sys.argv[1]
    r = random.Random(3)
    tally = dict(tensors=0, bytes=0, none=0, wrong=0, slots=set())
    for shape in ("small-35b", "small-27b"):
        config = config_of(shape)
        for recipe in RECIPES:
            for seed in (1, 0xFEDCBA9876543210):
                check(build, config, recipe, seed, list(everything(config)), tally)
    whole = dict(tally)
    for shape in ("35b", "27b"):
        config = config_of(shape)
        for recipe in RECIPES:
            check(build, config, recipe, 1, list(slices(config, r)), tally)
    print(f"small shapes: {whole['tensors']} tensors, {whole['bytes']} bytes; true dimensions: "
          f"{tally['tensors'] - whole['tensors']} pieces, {tally['bytes'] - whole['bytes']} bytes; "
          f"{len(tally['slots'])} kinds of {len(dw.SLOTS)} (MTP is in neither); {tally['wrong']} differ")
    sys.exit(tally["wrong"] != 0 or tally["tensors"] == 0)


if __name__ == "__main__":
    main()

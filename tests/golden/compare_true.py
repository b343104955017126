"""Our logits against Hugging Face transformers at the true dimensions, over made-up weights.

    python tests/golden/compare_true.py BUILD_DIR [--device cuda:0] [--shape 35b] [--layers 8] [--positions 576]

Hugging Face runs first, in float32 (what is true) and in bfloat16 (how far an honest bfloat16 is from it), a layer at a
time (hf_dummy.py), over one sequence of random ids.  Then ours runs the same weights through submit and collect: all
positions as a prompt, and all of them teacher-forced, one decode step each.  On the CPU back end also without rounding,
as a check of the operations themselves.  Shapes: true_shapes.py.

Exit status 1 when a bar is missed:
  - bfloat16, against float32: mean KL and (of 512 positions or more) its 99th percentile at most 1.5 times those of
    Hugging Face's own bfloat16 (and 1e-5); arg-max agreement at most 1.5 points below its own;
    where the arg-max differs, the two likeliest logits of float32 at most 1.5 times as far apart as where its own
    does (and 0.15);
  - the yardstick itself: mean KL at most 0.5, arg-max agreement at least 50 %, else it measures nothing (logits of
    deviation 4 that have nothing to do with one another: 16 and 0 %);
  - without rounding: relative RMS 1e-4, mean KL 1e-5, arg-max agreement 99.9 %.
"""
import argparse
import json
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
import transformers

import hf_dummy
from true_shapes import SHAPES, config_of, write_config

STEP = 32  # positions at a time


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("--device", default="cpu")
    p.add_argument("--shape", default="small-35b", choices=SHAPES)
    p.add_argument("--layers", type=int)
    p.add_argument("--positions", type=int, default=576)
    p.add_argument("--rows", type=int, default=512, help="of a prompt in one step")
    p.add_argument("--json", help="file to write the figures to as well")
    return p.parse_args()


def ours(a, folder, ids, numerics, how):
    args = [a.build + "/tests/tools/logits_driver", "-d", a.device, "-m", "bf16", "-r", str(a.rows), folder, numerics,
            how]
    out = subprocess.run(args, input=" ".join(map(str, ids)).encode(), stdout=subprocess.PIPE, check=True).stdout
    return torch.from_numpy(np.frombuffer(out, np.float32).reshape(len(ids), -1).copy())


def figures(want, got, device):
    """How `got` differs from `want`, position by position, in double."""
    kl, differ, gap, square, size = [], [], [], 0, 0
    for i in range(0, len(want), STEP):
        x, y = want[i:i + STEP].to(device).double(), got[i:i + STEP].to(device).double()
        p, q = x.log_softmax(-1), y.log_softmax(-1)
        top = x.topk(2)
        kl.append((p.exp() * (p - q)).sum(-1).cpu())
        differ.append((top.indices[:, 0] != y.argmax(-1)).cpu())
        gap.append((top.values[:, 0] - top.values[:, 1]).cpu())
        square, size = square + (x - y).pow(2).sum().item(), size + x.pow(2).sum().item()
    kl, differ, gap = torch.cat(kl), torch.cat(differ), torch.cat(gap)
    return dict(positions=len(kl), differ=int(differ.sum()), agree=100 * (1 - differ.double().mean().item()),
                gap=gap[differ].max().item() if differ.any() else 0.0, kl=kl.mean().item(),
                kl99=kl.quantile(0.99).item(), kl_most=kl.max().item(), rms=(square / size) ** 0.5)


def row(name, f):
    print(f"| {name} | {f['positions']} | {f['differ']} ({f['agree']:.2f} %) | {f['gap']:.3f} | {f['kl']:.2e} | "
          f"{f['kl99']:.2e} | {f['kl_most']:.2e} | {f['rms']:.2e} |", flush=True)


def describe(want, sizes):
    """Whether these are distributions that can tell anything."""
    p = want.double().log_softmax(-1) if want.shape[1] < 10000 else want[::8].double().log_softmax(-1)
    entropy = -(p.exp() * p).sum(-1).mean().item()
    likeliest = 100 * p.max(-1).values.exp().mean().item()
    print(f"\nfloat32: logits of deviation {want.std().item():.2f}, most likely id {likeliest:.1f} % in the mean, "
          f"entropy {entropy:.2f} nats, {len(want.argmax(-1).unique())} ids are the most likely somewhere; "
          f"residual stream {sizes[0]:.2f} behind the first layer, {sizes[-1]:.2f} behind the last")


def bars(f, yard):
    """What is missed, in words."""
    missed = []
    if yard["kl"] > 0.5 or yard["agree"] < 50:
        missed.append("Hugging Face's bfloat16 is too far from its float32 to measure with")
    for name, x in f.items():
        if name.startswith("ours f32"):
            if x["rms"] > 1e-4 or x["kl"] > 1e-5 or x["agree"] < 99.9:
                missed.append(name + ": not the same operations")
            continue
        for key in ("kl", "kl99") if x["positions"] >= 512 else ("kl",):  # of fewer it is one position or two
            if x[key] > max(1.5 * yard[key], 1e-5):
                missed.append(f"{name}: {key} {x[key]:.2e}, more than 1.5 times {yard[key]:.2e}")
        if x["agree"] < yard["agree"] - 1.5:
            missed.append(f"{name}: arg-max agrees at {x['agree']:.2f} %, Hugging Face's at {yard['agree']:.2f}")
        if x["gap"] > 1.5 * max(yard["gap"], 0.1):
            missed.append(f"{name}: another arg-max across a gap of {x['gap']:.3f}")
    return missed


def main():
    a = parse()
    config = config_of(a.shape, a.layers)
    ids = np.random.default_rng(20261121).integers(0, config.vocab_size, a.positions).tolist()
    chip = torch.cuda.get_device_name(a.device) if a.device.startswith("cuda") else "CPU"
    print(f"{a.shape}, {config.num_hidden_layers} layers, {a.positions} positions, {chip}; torch {torch.__version__}, "
          f"transformers {transformers.__version__}", flush=True)
    clock = time.monotonic()
    want, sizes = hf_dummy.logits(config, ids, torch.float32, a.device)
    half, _ = hf_dummy.logits(config, ids, torch.bfloat16, a.device)
    describe(want, sizes)
    print(f"Hugging Face: {time.monotonic() - clock:.0f} s\n")
    print("| against float32 | positions | arg-max differs (agrees) | gap there, most | KL mean | p99 | most | "
          "relative RMS |\n|---|--:|--:|--:|--:|--:|--:|--:|")
    yard, f = figures(want, half, a.device), {}
    row("Hugging Face bfloat16", yard)
    with tempfile.TemporaryDirectory() as folder:
        write_config(config, folder)
        for numerics in ("f32", "bf16") if a.device == "cpu" else ("bf16",):
            for how in ("prefill", "decode"):
                got = ours(a, folder, ids, numerics, how)
                name = f"ours {numerics} {how}"
                f[name] = figures(want, got, a.device)
                row(name, f[name])
                if numerics == "bf16":
                    row(name + ", against HF bfloat16", figures(half, got, a.device))
    missed = bars(f, yard)
    verdict = "\n".join("MISSED: " + m for m in missed) or "all bars met"
    print(f"\n{verdict}; {time.monotonic() - clock:.0f} s in all")
    if a.json:
        with open(a.json, "w") as out:
            json.dump(dict(shape=a.shape, layers=config.num_hidden_layers, chip=chip, yardstick=yard, ours=f,
                           missed=missed), out)
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()

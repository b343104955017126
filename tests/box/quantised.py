#!/usr/bin/env python3
"""quantised.py - checkpoints that the usual quantisers write from models/tiny, read and served.

    HEARTH_QUANT_PYTHON=/path/to/venv/bin/python top_builddir=build top_srcdir=. python3 tests/box/quantised.py [RECIPE...]

The interpreter must have tools/quant/requirements.txt; without it the test skips (77).  HEARTH_QUANT_KEEP=DIR keeps the
checkpoints there, and uses those that are there already.
"""

import os
import subprocess
import sys
import tempfile

from rack import Rack

TOP = os.environ.get("top_srcdir", ".")
BUILD = os.environ.get("top_builddir", "build")
PYTHON = os.environ.get("HEARTH_QUANT_PYTHON", "")
TINY = TOP + "/models/tiny"
QUANT = TOP + "/tools/quant/"
# recipe: mean KL of all text allowed (measured: docs/measurements), what must be said of it
RECIPES = {
    "qwen-fp8": (0.002, ["FP8 128x128"]),
    "ct-fp8-block": (0.002, ["FP8 128x128"]),
    "modelopt-fp8": (0.002, ["FP8 per tensor"]),
    "ct-nvfp4": (0.01, ["NVFP4", "BF16"]),
    "ct-mixed": (0.01, ["NVFP4", "FP8 per row", "4 of 25 vision tensors"]),
    "modelopt-mixed": (0.02, ["NVFP4", "FP8 per tensor", "no MTP"]),
}


def skip(why):
    print("skipped: " + why)
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(77)


def run(*args):
    p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if p.returncode:
        raise AssertionError(f"{' '.join(args)}: {p.returncode}\n{p.stdout[-3000:]}")
    return p.stdout


def sums(folder, recipe, *options):
    """A few sums that no training text has, over HTTP, through router and worker."""
    sys.path.insert(0, TOP + "/tools/tiny")
    import corpus
    right, asked = 0, list(corpus.held_out({"sum": 12}))
    with Rack(BUILD, folder, alias=recipe, worker_args=["--context", "4096", *options]) as rack:
        for item in asked:
            status, reply, _ = rack.post(
                "/v1/chat/completions",
                {"model": recipe, "messages": item["messages"], "temperature": 0, "max_tokens": 400},
            )
            assert status == 200, reply
            right += item["check"]["want"] in (reply["choices"][0]["message"]["content"] or "")
        assert "weights quantised by" in rack.log("worker0"), rack.log("worker0")
        assert not options or "prefill-fp4=all)" in rack.log("worker0"), rack.log("worker0")
    print(f"{recipe}{' '.join(('', *options))}: {right} of {len(asked)} sums right")
    assert right >= len(asked) - 1, right


def one(recipe, folder):
    most, words = RECIPES[recipe]
    if not os.path.exists(folder + "/config.json"):
        run(PYTHON, QUANT + "quantise.py", recipe, TINY, folder)
    said = run(BUILD + "/bin/hearth-worker", "check", folder)
    for w in words:
        assert w in said, (w, said)
    print(run(PYTHON, QUANT + "check.py", folder, BUILD + "/tests/tools/dequant_driver"), end="")
    print(
        run(
            PYTHON,
            QUANT + "kl.py",
            TINY,
            folder,
            BUILD + "/tests/tools/logits_driver",
            "--docs",
            "6",
            "--max",
            str(most),
        ),
        end="",
    )
    sums(folder, recipe)
    if recipe == "ct-nvfp4":
        sums(folder, recipe, "--prefill-fp4", "all")


def main(recipes):
    if not PYTHON:
        skip("HEARTH_QUANT_PYTHON is not set")
    if subprocess.run(
        [PYTHON, "-c", "import torch, transformers, compressed_tensors, llmcompressor, modelopt, tokenizers"],
        capture_output=True,
    ).returncode:
        skip(PYTHON + " lacks tools/quant/requirements.txt")
    failed = 0
    with tempfile.TemporaryDirectory() as d:
        for recipe in recipes:
            try:
                one(recipe, os.path.join(os.environ.get("HEARTH_QUANT_KEEP", d), recipe))
                print("ok", recipe, flush=True)
            except AssertionError as e:
                failed += 1
                print("FAILED", recipe, e, flush=True)
    print(f"{len(recipes) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


main(sys.argv[1:] or list(RECIPES))

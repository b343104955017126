#!/usr/bin/env python3
"""dummy_checkpoint.py - a folder of files with made-up weights computes what the made-up weights compute.

    top_builddir=build top_srcdir=. python3 tests/box/dummy_checkpoint.py

Headers of a published checkpoint with few layers and experts (tests/tools/synthetic_checkpoint.py), filled by
tests/tools/dummy_checkpoint; then the logits of some ids from the files, and from the same weights made in memory: the same
bytes.  So the loader brings every tensor to its place, and what tests/gpu/serve_big.py serves is what `hearth-bench` measures.
"""
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))

import synthetic_checkpoint  # noqa: E402

BUILD = os.path.abspath(os.environ.get("top_builddir", "build"))
TOOLS = BUILD + "/tests/tools/"
SIZE = {"vision": False, "layers": 4, "experts": 8, "vocab": 512}
IDS = b"5 17 300 2 2 499 88 17 5 41 7 250"


def logits(*args):
    return subprocess.run([TOOLS + "logits_driver", *args, "bf16", "prefill"], input=IDS, stdout=subprocess.PIPE,
                          check=True).stdout


def main():
    failed = 0
    for kind, recipe in (("fp8-35b", "fp8"), ("bf16-35b", "bf16")):
        with tempfile.TemporaryDirectory() as folder:
            synthetic_checkpoint.build(kind, folder, SIZE, 3)
            hollow = logits(folder)
            subprocess.run([TOOLS + "dummy_checkpoint", folder, recipe], check=True)
            files, made = logits(folder), logits("-m", recipe, folder)
            wrong = subprocess.run([TOOLS + "dummy_checkpoint", folder, "nvfp4"], capture_output=True).returncode
        ok = files == made and len(files) == 4 * SIZE["vocab"] * len(IDS.split()) and files != hollow and wrong == 1
        print("%s %s: %d bytes of logits" % ("ok     " if ok else "FAILED ", kind, len(files)))
        failed += not ok
    print("%d passed, %d failed" % (2 - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""fp4_code.py - the FP4 product of prompts is in the object code: for sm_120a and sm_121a the block-scaled instruction,
for sm_90a none.

    top_builddir=build python3 tests/gpu/fp4_code.py

No machine of ours has such a chip, so what can be seen without one is seen here.  Needs cuobjdump and nvdisasm (CUDA
Toolkit, or PyPI's nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm) that know sm_121; exits 77 without.
"""
import os
import re
import shutil
import subprocess
import sys

OBJECT = os.environ.get("top_builddir", "build") + "/kernels/cuda/prefill_fp4.o"
# A warp's 16 rows by 8 columns for every 64 of K: blocks of 64 columns have 8 x 4 of them, of 256 32 x 4.
WANT = {"ILb0ELi64E": 32, "ILb1ELi64E": 32, "ILb0ELi256E": 128, "ILb1ELi256E": 128}
INSTRUCTION = re.compile(r"\bOMMA\S*16864\S*E2M1\.E2M1\S*UE4M3\S*4X\b")


def skip(why):
    print("skipped: " + why)
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(77)


def instructions(arch, env):
    """Of each kernel: how often it has the instruction."""
    r = subprocess.run(["cuobjdump", "-sass", "-arch", arch, OBJECT], env=env, capture_output=True, text=True)
    if r.returncode or "Cannot decode" in r.stderr:
        skip("cuobjdump cannot read " + arch + ": " + r.stderr.strip())
    found, name = {}, None
    for line in r.stdout.splitlines():
        if line.strip().startswith("Function :"):
            name = line.split(":")[1].strip()
            found[name] = 0
        elif name and INSTRUCTION.search(line):
            found[name] += 1
    return found


def main():
    if not os.path.exists(OBJECT):
        skip("no " + OBJECT)
    path = ":".join([os.environ.get("PATH", ""), os.environ.get("CUDA_HOME", "/usr/local/cuda") + "/bin"])
    if not shutil.which("cuobjdump", path=path) or not shutil.which("nvdisasm", path=path):
        skip("no cuobjdump with nvdisasm")
    env = dict(os.environ, PATH=path)
    failed = 0
    for arch in ("sm_120a", "sm_121a", "sm_90a"):
        found = instructions(arch, env)
        assert found, arch + ": no code"
        for mark, n in WANT.items():
            counts = [c for name, c in found.items() if mark in name]
            want = [0 if arch == "sm_90a" else n]
            ok = counts == want
            failed += not ok
            word = "ok    " if ok else "WRONG "
            print(f"{word}{arch} fp4_kernel<{mark}>: block-scaled mma {counts}, wanted {want}")
    print(f"{3 * len(WANT) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()

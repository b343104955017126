#!/usr/bin/env python3
"""load_options.py - what a worker may do to numbers while it loads: --quantize and --kv.

    top_builddir=build top_srcdir=. python3 tests/box/load_options.py

What they cost on held-out text against bounds a few times what docs/numerics.md measured; that every choice is a
numeric class of its own, and said in log, status and check; that what cannot be is refused.
"""
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

from rack import Rack

TOP = os.environ.get("top_srcdir", ".")
BUILD = os.environ.get("top_builddir", "build")
TINY = TOP + "/models/tiny"
WORKER = BUILD + "/bin/hearth-worker"

if not os.path.exists(TINY + "/model.safetensors.index.json"):
    print("skipped: no weights in " + TINY)
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(77)


def run(*args, status=0, given=None):
    p = subprocess.run(args, input=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=600)
    assert p.returncode == status, (args, p.returncode, p.stdout[-2000:], p.stderr[-2000:])
    return p.stdout if status == 0 else p.stderr


def held_out(docs):
    text = run(sys.executable, TOP + "/tools/quant/held_out.py", "--docs", str(docs))
    return run(WORKER, "text", "encode", TINY, given=text)


# options, what B's line says, bounds: mean KL, percent of positions whose likeliest token differs
COSTS = [
    (["--with-quantize", "none"], "numerics=1 bf16)", 0, 0),
    (["--with-quantize", "head"], "quantize head: 1 matrices", 2e-3, 3),
    (["--with-quantize", "dense"], "quantize dense: 32 matrices", 2e-3, 3),
    (["--with-quantize", "head+dense"], "quantize head+dense: 33 matrices", 2e-3, 3),
    (["--with-kv", "fp8"], "kv=fp8", 2e-3, 3),
]


def test_cost():
    ids = held_out(5)
    for options, words, most_kl, most_differ in COSTS:
        out = run(BUILD + "/bin/hearth-bench", "compare", *options, TINY, given=ids)
        assert words in out.split("\n")[1], out
        table = [line for line in out.split("\n") if line.startswith(("| prompt", "| answer"))]
        rows = [[x.strip() for x in line.split("|")[2:]] for line in table]
        n = sum(int(r[0]) for r in rows)
        kl = sum(int(r[0]) * float(r[4]) for r in rows) / n
        differ = 100 * sum(int(r[1].split()[0]) for r in rows) / n
        print(f"{' '.join(options)}: {n} positions, KL mean {kl:.2e}, likeliest differs {differ:.2f} %")
        assert n >= 1000, out
        assert kl <= most_kl and differ <= most_differ, out
        assert most_kl == 0 or kl > 1e-8, out     # it did something


CHOICES = [[], ["--quantize", "head"], ["--quantize", "dense"], ["--quantize", "head+dense"], ["--kv", "fp8"],
           ["--quantize", "head+dense", "--kv", "fp8"]]


def serving(said):
    return [line for line in said if line.startswith("STATUS=serving tiny")]


def served(options):
    """Numeric class, log, last status line and an answer of a worker with these options."""
    said = []

    def listen(s):          # whoever says something waits until it is heard
        while True:
            try:
                said.extend(s.recv(65536).decode().split("\n"))
            except OSError:
                return

    with tempfile.TemporaryDirectory() as d, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(d + "/notify")
        threading.Thread(target=listen, args=[s], daemon=True).start()
        os.environ["NOTIFY_SOCKET"] = d + "/notify"
        try:
            with Rack(BUILD, TINY, worker_args=["--context", "1024", "--hearthd", "none", *options]) as rack:
                asked = {"model": "tiny", "temperature": 0, "max_tokens": 60,
                         "messages": [{"role": "user", "content": "Compute the sum: 41 + 25"}]}
                status, reply, _ = rack.post("/v1/chat/completions", asked)
                assert status == 200, reply
                end = time.monotonic() + 20
                while not serving(said) and time.monotonic() < end:
                    time.sleep(0.1)
                log = rack.log("worker0")
        finally:
            del os.environ["NOTIFY_SOCKET"]
    assert serving(said), said
    name = re.search(r"numeric class ([0-9a-f]{32})", log)[1]
    return name, log, serving(said)[-1], reply["choices"][0]["message"]["content"]


def test_class_log_and_status():
    classes = {}
    for options in CHOICES:
        name, log, status, answer = served(options)
        assert name not in classes, (options, classes[name])
        classes[name] = options
        assert "66" in answer, (options, answer)
        what = options[options.index("--quantize") + 1] if "--quantize" in options else None
        assert (f"quantize {what}: " in log if what else "quantize" not in log), log
        assert status.endswith(f"FP8: {what}") if what else "FP8" not in status, status
        # 2 layers x K and V x 64 positions x 256; in FP8 a power for each position
        kv = "fp8, 65792 bytes" if "fp8" in options else "bf16, 131072 bytes"
        assert f"blocks of 64 tokens in {kv}" in log, log
    # a wish that this model cannot grant: said aloud, and the worker is the one that was not asked
    name, log, _, answer = served(["--prefill-fp4", "all"])
    assert classes[name] == [] and "66" in answer, answer
    assert len(re.findall("prefill-fp4 is NOT in use: no such matrix of this model is NVFP4", log)) == 1, log
    # the same once more is the same class; and "none" is the worker that was not asked
    for options in (["--quantize", "none", "--kv", "bf16"], ["--quantize", "dense"]):
        name = served(options)[0]
        assert classes[name] == (options if "dense" in options else []), options


def numbers(out, name):
    return [float(x) for x in re.search(rf"^{name} +([0-9.]+) +([0-9.]+)(?: |$)", out, re.M).groups()]


def test_check():
    plain = run(WORKER, "check", TINY, "--context", "2048", "--streams", "4")
    out = run(WORKER, "check", TINY, "--context", "2048", "--streams", "4", "--quantize", "head+dense", "--kv", "fp8")
    assert "quantize head+dense: 33 matrices become FP8 per row" in out and "quantize" not in plain, out
    assert "1 FP8 per row" in out and "FP8" not in plain, out
    for name in ("head", "DeltaNet", "attention", "shared expert", "all"):
        small, large = numbers(out, name), numbers(plain, name)
        assert small[0] < large[0] and small[1] < large[1], (name, out)
        if name in ("head", "shared expert"):       # nothing else is in there: half, and a float32 a row of 384
            assert abs(small[0] / large[0] - (384 + 4) / 768) < 0.02, (name, out)
    assert numbers(out, "experts") == numbers(plain, "experts")
    # 2 layers (one of them MTP) x K and V x (256 codes and a power)
    assert "1028 bytes a token, FP8" in out and "2048 bytes a token, BF16" in plain, out
    assert "range" in run(WORKER, "check", TINY, "--quantize", "experts", status=64)
    assert "range" in run(WORKER, "check", TINY, "--kv", "fp4", status=64)


def test_refused():
    to = ["--connect", "ipc:///nowhere/bus", "--alias", "a"]
    assert "not off, up or all" in run(WORKER, "serve", TINY, *to, "--prefill-fp4", "on", status=64)
    assert "none, head, dense or head+dense" in run(WORKER, "serve", TINY, *to, "--quantize", "all", status=64)
    assert "not bf16 or fp8" in run(WORKER, "serve", TINY, *to, "--kv", "fp16", status=64)


def main():
    tests = [test_check, test_refused, test_cost, test_class_log_and_status]
    failed = 0
    for t in tests:
        try:
            t()
        except Exception as e:       # noqa: BLE001
            failed += 1
            print(f"FAIL {t.__name__}: {type(e).__name__} {str(e)[:3000]}")
        else:
            print(f"ok {t.__name__}")
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()

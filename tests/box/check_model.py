#!/usr/bin/env python3
"""check_model.py - hearth-worker check: the tiny model, broken ones, and folders as large as the published checkpoints.

    top_builddir=build top_srcdir=. python3 tests/box/check_model.py
"""
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

TOP = os.environ.get("top_srcdir", ".")
WORKER = os.environ.get("top_builddir", "build") + "/bin/hearth-worker"
TINY = TOP + "/models/tiny"
sys.path.insert(0, TOP + "/tests/tools")
import synthetic_checkpoint  # noqa: E402

if not os.path.exists(TINY + "/model.safetensors.index.json"):
    print("skipped: no weights in " + TINY)
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(77)

# kind: tensors and bytes as published, MB read for one token, lines that must be said
FULL = {
    "bf16-35b": (1045, 71903645408, 5892.9, ["310 BF16|40 BF16"]),
    "fp8-35b": (64196, 37454789472, 3481.4, ["30720 FP8 128x128", "775 FP8 128x128"]),
    "nvfp4-35b": (124468, 23407580856, 2254.6, ["30720 NVFP4", "90 FP8 per tensor", "1 NVFP4", "meant to be FP8"]),
    "redhat-35b": (None, None, 3873.0, ["30720 NVFP4", "40 NVFP4"]),
    "bf16-27b": (1199, 55562855904, 51249.2, ["192 BF16"]),
}
# MB a token with --quantize head+dense.  The 35B in BF16 by hand: the head has 248320 x 2048 weights; DeltaNet's
# projections 33.55 million a layer, attention's 27.26, a shared expert's 3.146: 1405.1 million together.  A byte of each
# goes, and four bytes a row of 14336, 11264 and 3072 come.
QUANTISED = {
    "bf16-35b": 5892.9 - (248320 * 2048 + 1405.1e6) / 1e6 + (248320 + 30 * 14336 + 10 * 11264 + 40 * 3072) * 4 / 1e6,
    "fp8-35b": 3481.4 - 248320 * (2048 - 4) / 1e6,
    "redhat-35b": 3873.0 - 248320 * (2048 - 4) / 1e6 - 30 * (33.55e6 - 14336 * 4) / 1e6,
}


def check(*args, status=0, command="check"):
    p = subprocess.run([WORKER, command, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=600)
    assert p.returncode == status, (p.returncode, p.stdout, p.stderr)
    return p.stdout if status == 0 else p.stderr


def texts_into(folder):
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy(f"{TINY}/{name}", folder)


def test_tiny(d):
    out = check(TINY, "--all", "--context", "2048", "--streams", "4")
    for words in (
        "91 tensors",
        "48 BF16",
        "every number finite",
        "memory for 4 streams of 2048 tokens",
        "GB10",
        "RTX PRO 6000",
        "this processor",
    ):
        assert words in out, (words, out)
    # 4 streams x 2048 tokens x 2 layers (one of them MTP) x K and V x 256 x 2 bytes
    assert "%.1f MB, 2048 bytes a token" % (4 * 2048 * 2048 / 1e6) in out, out
    assert check(TINY, command="--check").startswith("model ")


def test_usage(d):
    assert "usage" in check(status=64)
    assert "range" in check(TINY, "--context", "0", status=64)
    assert "range" in check(TINY, "--streams", "many", status=64)
    assert "usage" in check(TINY, "--nonsense", status=64)
    assert "32768 positions" in check(TINY, "--context", "40000", status=78)
    assert "no such folder" in check(d + "/nowhere", status=78)


def copy_of_tiny(d, name):
    to = f"{d}/{name}"
    shutil.copytree(TINY, to)
    return to


def test_a_broken_folder_is_refused(d):
    m = copy_of_tiny(d, "short")
    shard = m + "/model-00002-of-00003.safetensors"
    os.truncate(shard, os.path.getsize(shard) - 1)
    assert "truncated" in check(m, status=78)
    m = copy_of_tiny(d, "mute")
    os.unlink(m + "/tokenizer.json")
    assert "tokenizer.json" in check(m, status=78)


def test_only_regular_files_are_read(d):
    """A FIFO that nobody writes to held open() for ever."""
    m = copy_of_tiny(d, "fifo")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
                 "model.safetensors.index.json", "model-00002-of-00003.safetensors"):
        path = f"{m}/{name}"
        os.rename(path, path + ".kept")
        for make in (os.mkfifo, os.mkdir, lambda p: os.symlink("/dev/null", p)):
            make(path)
            said = check(m, status=78)
            assert f"{path}: not a regular file" in said, (make, said)
            os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
        os.symlink(path + ".kept", path)    # as the hub's cache has them
    check(m)


def read_shard(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    header.pop("__metadata__", None)
    return {k: (t["dtype"], t["shape"], data[t["data_offsets"][0]:t["data_offsets"][1]]) for k, t in header.items()}


def write_shard(path, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def move_tensors(model, tensors):
    """{file: {name: (dtype, shape, bytes)}}, out of whatever files they were in."""
    index = model + "/model.safetensors.index.json"
    with open(index) as f:
        top = json.load(f)
    for file, of_file in tensors.items():
        for name in of_file:
            old = top["weight_map"].get(name)
            if old:
                kept = read_shard(f"{model}/{old}")
                del kept[name]
                write_shard(f"{model}/{old}", kept)
            top["weight_map"][name] = file
        write_shard(f"{model}/{file}", of_file)
    with open(index, "w") as f:
        json.dump(top, f)


def load_fails(model, *options):
    args = ["--connect", "ipc://" + model + "/nobody", "--alias", "m", "--context", "256", "--slots", "1", *options]
    return check(model, *args, command="serve", status=78)


def test_a_scale_that_is_no_number_is_found_in_its_file(d):
    """It may lie in another shard than its matrix."""
    m = copy_of_tiny(d, "scale")
    name = "model.language_model.layers.0.linear_attn.out_proj.weight"
    move_tensors(m, {"codes.safetensors": {name: ("F8_E4M3", [384, 512], bytes(384 * 512))},
                     "scales.safetensors": {name + "_scale_inv": ("BF16", [3, 4], 11 * b"\x80\x3f" + b"\x80\x7f")}})
    want = f"{m}/scales.safetensors: {name}: "
    assert want + "scale 11 is not a finite number" in check(m, "--all", status=78)
    said = load_fails(m)
    assert want + "the scale of [256, 384] is not a finite number" in said, said


def test_what_is_no_number_is_found(d):
    m = copy_of_tiny(d, "nan")
    shard = m + "/model-00001-of-00003.safetensors"
    with open(shard, "r+b") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        f.seek(8 + n + 100002)
        f.write(b"\xc0\x7f")
    assert "all" in check(m)        # the headers are fine
    said = check(m, "--all", status=78)
    assert re.search(r"model-00001-of-00003\.safetensors: \S+: element \d+ is not a finite number", said), said
    said = load_fails(m, "--quantize", "head")
    assert f"{shard}: lm_head.weight: [130, 81] is not finite and cannot become FP8" in said, said


def test_full_scale(d):
    for kind, (tensors, size, token_mb, words) in FULL.items():
        m = f"{d}/{kind}"
        n, total = synthetic_checkpoint.build(kind, m)
        assert tensors in (None, n) and size in (None, total), (kind, n, total)
        texts_into(m)
        begin = time.monotonic()
        out = check(m, "--streams", "16", "--context", "1024")
        took = time.monotonic() - begin
        opened = float(re.search(r"%d tensors, checked in ([\d.]+) s" % n, out).group(1))
        total_line = re.search(r"^all +([\d.]+) +([\d.]+)$", out, re.M)
        assert float(total_line.group(2)) == token_mb, (kind, total_line.group(0), token_mb)
        for w in words:
            assert re.search(w, out), (kind, w, out)
        assert "are not what the configuration says" not in out and "belong to nothing" not in out, out
        if kind in QUANTISED:
            small = float(re.search(r"^all +[\d.]+ +([\d.]+)$", check(m, "--quantize", "head+dense"), re.M).group(1))
            assert abs(small - QUANTISED[kind]) < 1, (kind, small, QUANTISED[kind])
        print(f"{kind}: {n} tensors, {total} bytes, opened in {opened:.2f} s, the program took {took:.2f} s")
        assert opened < 60
        shutil.rmtree(m)


failed = 0
tests = [(k, v) for k, v in list(globals().items()) if k.startswith("test_")]
for name, test in tests:
    with tempfile.TemporaryDirectory() as folder:
        try:
            test(folder)
            print("ok", name, flush=True)
        except AssertionError as e:
            failed += 1
            print("FAILED", name, e, flush=True)
print(f"{len(tests) - failed} passed, {failed} failed")
sys.exit(failed > 0)

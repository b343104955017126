#!/usr/bin/env python3
"""step_bench.py - hearth-bench step on the tiny model: its three formats, its arithmetic, what it leaves out and refuses.

    top_builddir=build top_srcdir=. python3 tests/box/step_bench.py
"""
import csv
import json
import os
import re
import subprocess
import sys

TOP = os.environ.get("top_srcdir", ".")
BENCH = os.environ.get("top_builddir", "build") + "/bin/hearth-bench"
TINY = TOP + "/models/tiny"
SMALL = ["--batch", "1,2", "--context", "64", "--prompt", "8,65", "--steps", "4", "--repeat", "2", "--threads", "1"]
CONDITIONS = ("date", "command", "commit", "device", "numerics", "host", "model", "shape", "formats", "sampling", "method", "read_roof")

if not os.path.exists(TINY + "/model.safetensors.index.json"):
    print("skipped: no weights in " + TINY)
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(77)


def step(*args, status=0):
    p = subprocess.run([BENCH, "step", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=600)
    assert p.returncode == status, (p.returncode, p.stdout, p.stderr)
    return p.stdout if status == 0 else p.stderr


def near(a, b, part=1e-6):
    return abs(a - b) <= part * max(abs(a), abs(b))


def check_prompt(c):
    assert near(c["tok_s"], c["tokens"] / c["ms"] * 1e3), c
    assert c["ms_median"] >= c["ms"] > 0 and c["bytes"] is None and c["steps"] == 1, c
    assert 0 <= c["submit_share"] <= 1 and near(c["submit_us"], c["submit_share"] * c["ms"] * 1e3), c


def check_decode(c, k):
    assert near(c["tok_s"], c["batch"] / c["ms"] * 1e3) and c["steps"] == 4, c
    # 2 of 4 experts in each of 4 layers: one token meets 2, two at most 4
    assert c["experts_expected"] == {1: 2, 2: 3}[c["batch"]], c
    assert 2 <= c["experts"] <= 2 * c["batch"], c
    length = c["tokens"] + 8 + c["steps"] / 2
    rest = 4 * c["experts"] * k["bytes_expert"] + c["batch"] * (k["bytes_sequence"] + length * k["bytes_position"])
    assert near(c["bytes"], k["bytes_always"] + rest), (c, k)
    assert c["device_bytes"] >= c["bytes"] and near(c["device_bytes"], c["bytes"], 0.05), c
    assert near(c["bytes_s"], c["device_bytes"] / c["ms"] * 1e3), c
    assert near(c["roof_fraction"], c["bytes_s"] / k["read_roof"]), (c, k)


def test_json():
    out = json.loads(step(*SMALL, "--format", "json", TINY))
    k = out["conditions"]
    for key in CONDITIONS:
        assert k[key], key
    assert k["command"].endswith("--format json " + TINY) and k["model"] == TINY, k
    assert "temperature 0.7, top_k 20, top_p 0.95" in k["sampling"] and "1 threads" in k["device"], k
    assert out["skipped"] == [] and out["error"] is None
    cells = [(c["kind"], c["batch"], c["tokens"]) for c in out["cells"]]
    assert cells == [("prompt", 1, 8), ("prompt", 1, 65), ("decode", 1, 64), ("decode", 2, 64)], cells
    for c in out["cells"]:
        check_prompt(c) if c["kind"] == "prompt" else check_decode(c, k)


def ids(*args):
    out = json.loads(step(*SMALL, *args, "--format", "json", TINY))
    return [c["ids"] for c in out["cells"]]


def test_what_was_sampled_tells_runs_apart_that_differ():
    one = ids()
    assert all(isinstance(x, int) and 0 < x < 1 << 32 for x in one) and len(set(one)) == 4, one
    assert ids("--ahead", "0", "--threads", "2") == one	# when a step is submitted, and by whom it is computed, is not seen
    # a cell is the same whatever is measured before it (prompts are numbered, so decode cells need the same ones ahead of them)
    assert ids("--batch", "2")[2:] == one[3:]
    other = ids("--greedy")
    assert all(a != b for a, b in zip(one[2:], other[2:])), (one, other)


def test_csv():
    lines = step(*SMALL, "--format", "csv", TINY).splitlines()
    said = dict(x[2:].split(": ", 1) for x in lines if x.startswith("# "))
    for key in CONDITIONS:
        assert said[key], key
    k = {x: float(y.split()[0]) for x, y in said.items() if x.startswith("bytes_") or x == "read_roof"}
    rows = list(csv.DictReader(x for x in lines if not x.startswith("#")))
    assert len(rows) == 4 and None not in rows[0], rows
    for row in rows:
        c = {x: float(y) if y else None for x, y in row.items() if x != "kind"}
        check_prompt(c) if row["kind"] == "prompt" else check_decode(c, k)


def tables(text):
    """Rows of each table by its heading, as lists of cells."""
    ret, at = {}, None
    for line in text.splitlines():
        if line.startswith("## "):
            at = ret.setdefault(line[3:], [])
        elif line.startswith("|"):
            at.append([x.strip() for x in line.strip("|").split("|")])
    return ret


def test_markdown():
    out = step(*SMALL, "--greedy", "--ahead", "0", TINY)
    for key in CONDITIONS:
        assert "\n- %s: " % key in "\n" + out, key
    assert "- sampling: arg-max\n" in out and "no step ahead" in out
    t = tables(out)
    prompts, decode = t["Prompts, one at a time"], t["Decode"]
    for table in (prompts, decode):
        assert len({len(row) for row in table}) == 1, table
    assert [r[0] for r in prompts[2:]] == ["8", "65"], prompts
    assert [r[:2] for r in decode[2:]] == [["64", "1"], ["64", "2"]], decode
    for r in decode[2:]:
        assert abs(float(r[2]) - int(r[1]) / float(r[3]) * 1e3) < 0.06 + float(r[2]) * 0.001, r
    assert not any("class" in x for x in t), "the CPU tells no classes apart"


def test_several_steps_a_prompt():
    out = json.loads(step("--prompt", "130", "--context", "0", "--rows", "64", "--repeat", "1", "--format", "json", TINY))
    assert [c["steps"] for c in out["cells"]] == [3], out["cells"]


def test_drafts():
    out = json.loads(step("--prompt", "0", "--context", "64", "--batch", "1", "--steps", "3", "--draft", "--format", "json", TINY))
    assert "drafts on" in out["conditions"]["method"] and len(out["cells"]) == 1


def test_what_does_not_fit_is_skipped():
    args = ["--batch", "1,64", "--context", "64,32704", "--prompt", "64", "--steps", "2", "--repeat", "1", "--memory", "0.1"]
    out = json.loads(step(*args, "--steps", "40", "--format", "json", TINY))
    skipped = {(s["tokens"], s["batch"]): s["why"] for s in out["skipped"]}
    assert set(skipped) == {(64, 64), (32704, 1), (32704, 64)}, skipped
    assert "the model has 32768" in skipped[32704, 1] and "may take 0.107" in skipped[64, 64], skipped
    assert len(out["cells"]) == 2
    assert "- skipped: context 64, batch 64: " in step(*args, TINY)
    assert "not one cell fits" in step("--memory", "0.01", TINY, status=78)


def test_refused():
    for args in (["--batch", "0"], ["--batch", "257"], ["--batch", "1,"], ["--context", "100"], ["--prompt", "x"], ["--steps", "1"],
                 ["--rows", "65"], ["--ahead", "2"], ["--format", "xml"], ["--memory", "-1"], ["--repeat", "0"], ["--shape", "27b"],
                 ["--threads", "many"]):
        err = step(*args, TINY, status=64)
        assert args[0] + ": '" + args[1] + "' is not possible" in err, err
    assert "usage" in step("--nonsense", TINY, status=64)
    assert "one MODEL" in step(status=64)
    assert "one MODEL" in step("--dummy", "bf16", TINY, status=64)
    assert "nothing to measure" in step("--prompt", "0", "--context", "0", TINY, status=64)
    assert "no such folder" in step("/nowhere/at/all", status=78)
    assert "not known (cpu, cuda:N)" in step("--device", "tpu", TINY, status=78)


def test_json_has_the_error_too():
    for verb in ("step", "load"):
        p = subprocess.run([BENCH, verb, "--format", "json", "/nowhere/at/all"], capture_output=True, text=True, timeout=60)
        error = json.loads(p.stdout)["error"]
        assert p.returncode == 78 and "no such folder" in error and error in p.stderr, (verb, p)


def test_dummies():
    for shape in ("35b", "27b"):
        assert "not one cell fits" in step("--dummy", "nvfp4-fp8", "--shape", shape, "--memory", "1", status=78)
    assert "made-up weights as nvfp4-fp8" in step("--dummy", "nvfp4-fp8", "--shape", TINY, "--context", "64",
                                                  "--prompt", "64", "--steps", "4")
    assert "bf99" in step("--dummy", "bf99", status=78)


def test_options_are_listed():
    out = step("--dump-options")
    names = re.findall(r"^--([a-z-]+)\t", out, re.M)
    for name in names:
        assert "--" + name in step("--help")
    assert {"device", "dummy", "shape", "batch", "context", "prompt", "steps", "format", "ahead", "greedy", "rows"} <= set(names), names


passed = 0
for name, f in list(globals().items()):
    if name.startswith("test_"):
        f()
        passed += 1
        print("ok", name)
print("%d passed, 0 failed, 0 skipped" % passed)

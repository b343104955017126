#!/usr/bin/env python3
"""exact_soak.py - hearth-bench exact and soak on small shapes: made-up weights, the tiny model, refusals.

    top_builddir=build top_srcdir=. python3 tests/box/exact_soak.py
"""
import json
import os
import re
import subprocess
import tempfile

TOP = os.environ.get("top_srcdir", ".")
BENCH = os.environ.get("top_builddir", "build") + "/bin/hearth-bench"
TINY = TOP + "/models/tiny"
SHAPE = dict(model_type="qwen3_5_moe_text", hidden_size=128, num_hidden_layers=4, vocab_size=512, head_dim=256,
             num_attention_heads=8, num_key_value_heads=1, linear_num_key_heads=1, linear_num_value_heads=2,
             linear_key_head_dim=128, linear_value_head_dim=128, num_experts=8, num_experts_per_tok=2,
             moe_intermediate_size=128, shared_expert_intermediate_size=128, max_position_embeddings=4096)


def run(*args, status=0):
    p = subprocess.run([BENCH, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=900)
    assert p.returncode == status, (args, p.returncode, p.stdout, p.stderr)
    return p.stdout if status == 0 else p.stderr


def shape(folder):
    with open(folder + "/config.json", "w") as f:
        json.dump(SHAPE, f)
    return folder


def cells(out):
    return [[x.strip() for x in line.strip("|").split("|")] for line in out.splitlines() if re.match(r"\| \d", line)]


def check_exact(out, rows):
    table = cells(out)
    hows = ("decode rows only", "prompts mixed in", "mixed, preempted")
    assert [r[:2] for r in table] == [["1", "alone"]] + [[str(n), how] for n in rows for how in hows], out
    for r in table:
        assert r[8] == "0", out
        if r[1] != "alone":
            assert int(r[7]) > 10, out
        if r[1] == "decode rows only":
            assert re.fullmatch(r"%s \([1-9]\d*\)" % r[0], r[3]), out
        if r[1] == "mixed, preempted":
            # one alone has no answers beside its prompt; of a few, arrivals decide
            assert r[4] == "0" or int(r[0]) > 1, out
            assert int(r[4]) > 0 or int(r[0]) <= 8, out
            assert int(r[5]) >= 10 and int(r[6]) > 20, out


def test_exact():
    with tempfile.TemporaryDirectory() as d:
        for recipe, rows in (("bf16", (1, 3, 9)), ("nvfp4-fp8", (4,))):
            args = ["--dummy", recipe, "--shape", shape(d), "--prompt", "90", "--requests", "12"]
            args += ["--rows", ",".join(map(str, rows))]
            check_exact(run("exact", *args), rows)


def test_soak():
    with tempfile.TemporaryDirectory() as d:
        out = run("soak", "--dummy", "fp8", "--shape", shape(d), "--seconds", "8", "--slots", "8", "--prompt", "150",
                  "--output", "60")
    last = cells(out)[-1]
    assert int(last[0]) >= 1 and int(last[2]) > 10 and int(last[7]) > 0 and int(last[9]) > 0 and last[10] == "0", out
    assert "0 other answers, 0 failed, 0 rounds that left" in out, out


def test_a_soak_that_shows_nothing_is_no_success():
    with tempfile.TemporaryDirectory() as d:
        run("soak", "--dummy", "bf16", "--shape", shape(d), "--seconds", "1", "--slots", "2", "--blocks", "500",
            "--prompt", "4", "--output", "2", status=1)


def test_the_tiny_model():
    if not os.path.exists(TINY + "/model.safetensors.index.json"):
        return
    check_exact(run("exact", "--rows", "4", "--requests", "8", "--prompt", "70", TINY), (4,))


def test_refused():
    for verb in ("exact", "soak"):
        assert "usage" in run(verb, status=64)
        assert "usage" in run(verb, "--dummy", "bf16", TINY, status=64)
        assert "bf99" in run(verb, "--dummy", "bf99", status=78)
        assert "not known (cpu, cuda:N)" in run(verb, "--device", "tpu", TINY, status=78)
        names = re.findall(r"^--([a-z-]+)\t", run(verb, "--dump-options"), re.M)
        assert {"device", "dummy", "shape"} <= set(names) and all("--" + n in run(verb, "--help") for n in names), names
    for bad in (["--rows", "0"], ["--requests", "0"], ["--rows", "257"], ["--rows", "1,"], ["--prompt", "x"],
                ["--prompt", "0"]):
        assert "usage" in run("exact", *bad, TINY, status=64)
    for bad in (["--minutes", "0"], ["--slots", "x"], ["--output", "-1"]):
        assert "usage" in run("soak", *bad, TINY, status=64)
    assert "alone needs" in run("soak", "--blocks", "2", TINY, status=78)


passed = 0
for name, f in list(globals().items()):
    if name.startswith("test_"):
        f()
        passed += 1
print("%d passed, 0 failed" % passed)

#!/usr/bin/env python3
"""serve.py - the real router and a real worker on a device, driven over HTTP: part of serve.sh.

    top_builddir=BUILD top_srcdir=. HEARTH_DEVICE=cuda:0 python3 tests/gpu/serve.py [test_name...]

One worker of models/tiny on the device, as "tiny", and one on the CPU, as "tiny-cpu", for comparison.  What needs workers
of its own (kill, cancel, continuation) is tests/box/real_worker.py, which serve.sh runs on the same device.  `make check` runs
this on the CPU.  Speeds are printed and never judged.  Standard library only.
"""
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../box"))

from box import BUILD, THREAD_SANITIZED, Router, main, read_until, wait_for  # noqa: E402
from real_worker import DEVICE, Real  # noqa: E402

NEAR = 0.25     # nats between the two likeliest: what another order of additions may turn over
TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "Get the weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]
PROMPTS = ["What is 12 + 30?", "What is 3 plus 4?", "Tell me a short story about the number 7.",
           "Write a short story about a fox.", "What is 137 + 58?",
           "The code word is zebra5. " + "The river is long and the hills are green. " * 40 + "What is the code word?",
           "The code word is lion9. " + "The river is long. " * 3 + "What is the code word?",
           "What is the weather in Paris?"]


class Rack:
    """One router and its workers for all tests here."""
    router = worker = cpu = None


def body_of(text, model="tiny", **more):
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def gather(out, choice, key):
    d = choice.get(key) or {}
    out["content"] += d.get("content") or ""
    out["reasoning"] += d.get("reasoning_content") or ""
    for c in d.get("tool_calls") or []:
        have = out["calls"].setdefault(c.get("index", len(out["calls"])), ["", ""])
        have[0] += c["function"].get("name") or ""
        have[1] += c["function"].get("arguments") or ""
    out["finish"] = choice.get("finish_reason") or out["finish"]
    out["logprobs"] += (choice.get("logprobs") or {}).get("content") or []


def nothing():
    return {"content": "", "reasoning": "", "calls": {}, "finish": None, "logprobs": [], "tokens": None, "prompt": None,
            "first_s": None}


def whole(text, model="tiny", **more):
    status, _, data = Rack.router.get("/v1/chat/completions", "POST", {"Content-Type": "application/json"},
                                      json.dumps(body_of(text, model, **more)), timeout=180)
    assert status == 200, (status, data)
    d, out = json.loads(data), nothing()
    gather(out, d["choices"][0], "message")
    out["tokens"], out["prompt"] = d["usage"]["completion_tokens"], d["usage"]["prompt_tokens"]
    return out


def streamed(text, model="tiny", **more):
    """The same from a stream, which must end with [DONE] and have no error."""
    out, began = nothing(), time.monotonic()
    s = Rack.router.stream(text, **{"stream_options": {"include_usage": True}, **more, "model": model})
    raw = read_until(s, b"\r\n\r\n", 180)
    assert raw.startswith(b"HTTP/1.1 200"), raw + s.recv(65536)
    while True:
        if out["first_s"] is None and (b'"content":"' in raw or b'"reasoning_content":"' in raw):
            out["first_s"] = time.monotonic() - began
        if b"0\r\n\r\n" in raw[-16:]:
            break
        s.settimeout(180)
        d = s.recv(65536)
        assert d, raw[-500:]
        raw += d
    s.close()
    lines = [x for x in unchunk(raw).decode().split("\n") if x.startswith("data: ")]
    assert lines[-1] == "data: [DONE]", lines[-3:]
    for line in lines[:-1]:
        v = json.loads(line[6:])
        assert "error" not in v, v
        if v.get("usage"):
            out["tokens"], out["prompt"] = v["usage"]["completion_tokens"], v["usage"]["prompt_tokens"]
        for c in v["choices"]:
            gather(out, c, "delta")
    return out


def unchunk(raw):
    at, data = raw.index(b"\r\n\r\n") + 4, bytearray()
    while at < len(raw):
        end = raw.index(b"\r\n", at)
        n = int(raw[at:end], 16)
        data += raw[end + 2:end + 2 + n]
        at = end + 4 + n
    return bytes(data)


def said(a):
    return a["reasoning"], a["content"], a["calls"], a["finish"], a["tokens"]


# ---- the load ------------------------------------------------------------------------------------------------------


def test_the_load_says_budget_back_end_and_class(model="tiny"):
    log = Rack.worker.log_text()
    m = re.search(r"memory: (\d+) bytes = weights (\d+) \+ kv (\d+) \+ states (\d+) \+ workspace (\d+)", log)
    assert m, log
    total, *parts = map(int, m.groups())
    assert total == sum(parts) and all(parts), m.group(0)
    c = re.search(r"loaded in ([\d.]+) s, numeric class (\S+) \((.*)\)", log)
    assert c and c.group(3).startswith("cuda sm_" if DEVICE.startswith("cuda") else "cpu"), log
    t = re.search(r"self-test: .*", log)
    assert t, log
    print("  " + "\n  ".join(x.strip() for x in log.splitlines()))
    # and what clients see of it
    one = json.loads(Rack.router.get("/v1/chat/completions", "POST", {}, json.dumps(body_of("hi", model, max_tokens=1)))[2])
    assert one["system_fingerprint"] == c.group(2), (one, c.group(2))
    return "%s, %d bytes" % (c.group(3), total)


def test_models_are_listed():
    d = json.loads(Rack.router.get("/v1/models")[2])
    assert d["object"] == "list" and {m["id"] for m in d["data"]} == {"tiny", "tiny-cpu"}, d
    w = {w["name"]: w for w in Rack.router.status()["workers"]}
    assert set(w) == {"device", "cpu"}, w
    status, _, data = Rack.router.get("/v1/chat/completions", "POST", {}, json.dumps(body_of("hi", "other")))
    assert status == 404 and b"other" in data, (status, data)


# ---- answers -------------------------------------------------------------------------------------------------------


def test_greedy_answers_are_the_same_whole_again_and_streamed():
    n = 0
    for p in PROMPTS:
        more = {"temperature": 0, "max_tokens": 160, "tools": TOOLS}
        a, b, c = whole(p, **more), whole(p, **more), streamed(p, **more)
        assert said(a) == said(b) == said(c), (p, a, b, c)
        n += a["tokens"]
    assert "7" in whole("What is 3 plus 4?", temperature=0, max_tokens=200)["content"]
    return "%d prompts, %d tokens, three times each" % (len(PROMPTS), n)


def test_a_seed_gives_the_same_again():
    more = {"temperature": 0.9, "seed": 11, "max_tokens": 120, "ignore_eos": True}
    a, b = streamed(PROMPTS[3], **more), whole(PROMPTS[3], **more)
    assert said(a) == said(b) and a["tokens"] == 120, (a, b)
    assert said(streamed(PROMPTS[3], **{**more, "seed": 12})) != said(a)


def compare_with_cpu(p, **more):
    """Greedy on both, token by token up to the first difference: (tokens that are the same, whether all are, the ways the log
    probabilities differ, a line on the difference).  Where the texts part, the CPU's two likeliest must be within NEAR and the
    device's choice the second of them; behind that they are of different prompts."""
    more = {"temperature": 0, "logprobs": True, "top_logprobs": 2, **more}
    a, b = whole(p, **more), whole(p, "tiny-cpu", **more)
    if a["calls"] or b["calls"]:    # these have no log probabilities
        assert said(a) == said(b), (p, a, b)
    a, b = a["logprobs"], b["logprobs"]
    n = min(len(a), len(b))
    at = next((i for i in range(n) if a[i]["bytes"] != b[i]["bytes"]), n)
    apart = [(abs(a[i]["logprob"] - b[i]["logprob"]), i, a[i], b[i]) for i in range(at)]
    if at == n:
        assert len(a) == len(b), (p, len(a), len(b))
        return at, True, apart, ""
    top = b[at]["top_logprobs"]
    gap = top[0]["logprob"] - top[1]["logprob"]
    line = "token %d: %r for %r, %.4f nats apart" % (at, a[at]["token"], b[at]["token"], gap)
    assert gap <= NEAR and a[at]["bytes"] == top[1]["bytes"], (p, line, a[at], b[at])
    return at, False, apart, line


def two(x):
    return " / ".join("%r %.4f" % (t["token"], t["logprob"]) for t in x["top_logprobs"])


def agree_with_cpu(bar, **more):
    got = [compare_with_cpu(p, **more) for p in PROMPTS]
    apart = sorted((x for g in got for x in g[2]), key=lambda x: -x[0])
    for d, i, a, b in apart[:3]:
        print("  token %d: log probabilities %.4f apart: %s, on the CPU %s" % (i, d, two(a), two(b)))
    same = sum(g[1] for g in got)
    note = "%d of %d the same to the end; %d tokens compared, log probabilities %.4f apart in the mean, %.4f at most%s" % (
        same, len(PROMPTS), len(apart), sum(x[0] for x in apart) / len(apart), apart[0][0],
        "".join("; " + g[3] for g in got if g[3]))
    assert same >= len(PROMPTS) // 2, note
    assert apart[0][0] <= (0 if DEVICE == "cpu" else bar), note
    return note


def test_the_device_says_what_the_cpu_says_but_for_near_ties():
    return agree_with_cpu(NEAR, max_tokens=160, tools=TOOLS)


def test_so_it_does_in_text_behind_the_end():
    """The tiny model was never taught to go on behind an end: it routes by chance there, and one expert for another moves
    much, so only the choices are judged."""
    return agree_with_cpu(1e9, max_tokens=120, ignore_eos=True)


def test_32_streams_of_random_lengths_are_each_complete():
    r = random.Random(20261121)
    jobs = [dict(text="%s (%d)" % (PROMPTS[i % len(PROMPTS)], i), max_tokens=r.randint(1, 250), temperature=0.8, seed=i,
                 ignore_eos=True) for i in range(32)]
    got, began = {}, time.monotonic()

    def one(i):
        try:
            got[i] = streamed(**jobs[i])
        except Exception as e:
            got[i] = e
    ts = [threading.Thread(target=one, args=(i,)) for i in range(32)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    took = time.monotonic() - began
    for i, j in enumerate(jobs):
        assert isinstance(got[i], dict), (i, got[i])
        assert got[i]["tokens"] == j["max_tokens"] and got[i]["finish"] == "length", (i, j, got[i])
    for i in (0, 5, 31):    # 16 slots: half of them waited for one
        assert said(streamed(**jobs[i])) == said(got[i]), i
    n = sum(j["max_tokens"] for j in jobs)
    firsts = sorted(g["first_s"] for g in got.values() if g["first_s"] is not None)
    return "%d tokens in %.2f s; first text after %.3f s (median), %.3f s (last)" % (
        n, took, firsts[len(firsts) // 2], firsts[-1])


def test_a_tool_is_called():
    more = {"temperature": 0, "max_tokens": 250, "tools": TOOLS}
    a, b = whole("What is the weather in Paris?", **more), streamed("What is the weather in Paris?", **more)
    assert a["finish"] == b["finish"] == "tool_calls" and len(a["calls"]) == 1, (a, b)
    name, arguments = a["calls"][0]
    assert name == "get_weather" and json.loads(arguments) == {"city": "Paris"} and a["calls"] == b["calls"], (a, b)
    assert "<tool_call>" not in a["content"] + a["reasoning"]


# ---- speed, printed ------------------------------------------------------------------------------------------------


def test_speed_is_printed():
    one = [streamed(PROMPTS[3], temperature=0, max_tokens=200, ignore_eos=True) for _ in range(5)]
    print("  alone: first text after %s ms" % ", ".join("%.1f" % (1e3 * x["first_s"]) for x in one))
    size = ["1,4", "8", "32"] if DEVICE == "cpu" else ["1,16", "32", "128"]
    p = subprocess.run([BUILD + "/bin/hearth-bench", "router", "--kind", "stream", "--in-flight", size[0],
                        "--requests", size[1], "--tokens", size[2], "--prompt", PROMPTS[3], "127.0.0.1:%d" % Rack.router.port],
                       capture_output=True, text=True, timeout=300)
    print("  " + p.stdout.strip().replace("\n", "\n  "))
    assert p.returncode == 0 and "not answered with 200" not in p.stdout, p.stderr


# ---- the end, last of all ------------------------------------------------------------------------------------------


def test_sigterm_lets_answers_end_and_takes_nothing_new():
    w = Rack.worker
    ss = [Rack.router.stream(PROMPTS[3], max_tokens=600, ignore_eos=True, seed=i) for i in range(4)]
    for s in ss:
        read_until(s, b"reasoning_content", 60)
    w.proc.send_signal(signal.SIGTERM)
    wait_for(lambda: all(x["state"] == "draining" for x in Rack.router.status()["workers"] if x["name"] == "device"), 10)
    left = Rack.router.status()["workers"]
    refused = Rack.router.get("/v1/chat/completions", "POST", {}, json.dumps(body_of("hi", max_tokens=4)))[0]
    tails = [read_until(s, b"0\r\n\r\n", 60) for s in ss]
    assert all(b"[DONE]" in t and b'"error"' not in t for t in tails), [t[-300:] for t in tails]
    assert refused in (429, 503), (refused, left)
    assert w.proc.wait(30) == 0, w.log_text()[-2000:]
    done = [x for x in w.log_text().splitlines() if "done:" in x]
    assert done, w.log_text()[-2000:]
    # and it comes back
    Rack.worker = Real(Rack.router, "device")
    assert streamed("What is 3 plus 4?", temperature=0, max_tokens=200)["finish"] == "stop"
    return done[-1].strip()


if __name__ == "__main__":
    if THREAD_SANITIZED:
        print("skipped: ten times slower under the thread sanitizer; real_worker.py runs there")
        sys.exit(77)
    with Router() as Rack.router:
        Rack.worker = Real(Rack.router, "device", options=("--slots", "16"))
        Rack.cpu = Real(Rack.router, "cpu", alias="tiny-cpu", device="cpu", options=("--slots", "16"))
        main(dict(globals()))

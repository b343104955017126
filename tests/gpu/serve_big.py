#!/usr/bin/env python3
"""serve_big.py - the 35B's full shape, from files, behind the real router: part of serve.sh.

    top_builddir=BUILD top_srcdir=. HEARTH_DEVICE=cuda:0 python3 tests/gpu/serve_big.py [test_name...]

The folder has the names, types and shapes of Qwen3.6-35B-A3B-FP8, made-up weights (tests/tools/dummy_checkpoint) and the tiny
model's tokenizer; what it says is noise, and the same noise every time.  35 GB in HEARTH_BIG_DIR (default: /dev/shm, or /tmp
where that is too small).  On the CPU the same with few layers and experts.  Speeds are printed and never judged.
"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, HERE + "/../box", HERE + "/../tools"]

import serve  # noqa: E402
import synthetic_checkpoint  # noqa: E402
from box import BUILD, Router, main, read_until, wait_for  # noqa: E402
from real_worker import DEVICE, MODEL, Real  # noqa: E402
from serve import Rack, said, streamed, whole  # noqa: E402

SMALL = DEVICE == "cpu"
SIZE = {"vision": False, **({"layers": 4, "experts": 8, "vocab": 2048} if SMALL else {})}
OPTIONS = ["--slots", "32", "--context", "8192" if SMALL else "40960", "--kv-bytes", "256M" if SMALL else "4G"]
STORY = "Write a short story about a fox."
ROWS = 512 if SMALL else 4096
FOLDER = None
LONG = "The river is long and the hills are green. " * (20 if SMALL else 400)


def place():
    need = 1 << 30 if SMALL else 40 << 30
    for d in [os.environ["HEARTH_BIG_DIR"]] if "HEARTH_BIG_DIR" in os.environ else ["/dev/shm", "/tmp"]:
        if shutil.disk_usage(d).free > need:
            return d
    print("skipped: no folder with %d GiB" % (need >> 30))
    sys.exit(77)


def make(folder):
    began = time.monotonic()
    n, total = synthetic_checkpoint.build("fp8-35b", folder, SIZE)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy(os.path.join(MODEL, name), folder)
    subprocess.run([BUILD + "/tests/tools/dummy_checkpoint", folder, "fp8"], check=True)
    print("%d tensors, %d bytes in %s, made in %.1f s" % (n, total, folder, time.monotonic() - began), flush=True)


def ask(i, n, text=STORY, how=streamed, model="big"):
    return how("%s (%d)" % (text, i), model=model, max_tokens=n, ignore_eos=True, temperature=0.7, seed=i)


def test_the_load_says_budget_back_end_and_class():
    serve.test_the_load_says_budget_back_end_and_class(model="big")


def test_an_answer_is_the_same_whole_again_and_streamed():
    n = 12 if SMALL else 48
    for i in range(2):
        a, b, c = ask(i, n), ask(i, n), ask(i, n, how=whole)
        assert said(a) == said(b) == said(c) and a["tokens"] == n, (i, a, b, c)
    assert said(a) != said(ask(0, n))


def test_streams_of_random_lengths_say_together_what_they_say_alone():
    n = 6 if SMALL else 32
    r = random.Random(7)
    lengths = [r.randint(4, 16 if SMALL else 96) for _ in range(n)]
    alone = [said(ask(i, k)) for i, k in enumerate(lengths)]
    got, began = {}, time.monotonic()
    ts = [threading.Thread(target=lambda i=i, k=k: got.update({i: ask(i, k)})) for i, k in enumerate(lengths)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    took = time.monotonic() - began
    differ = [i for i in range(n) if i not in got or said(got[i]) != alone[i]]
    assert not differ, (differ, alone[differ[0]], got.get(differ[0]))
    assert [got[i]["tokens"] for i in range(n)] == lengths and len({str(a) for a in alone}) == n
    return "%d streams, %d tokens in %.2f s" % (n, sum(lengths), took)


def test_a_long_prompt():
    a, b = ask(1, 8, LONG), ask(1, 8, LONG, how=whole)
    assert said(a) == said(b) and a["tokens"] == 8, (a, b)
    return "%d tokens of prompt, first text after %.3f s" % (a["prompt"], a["first_s"])


def test_a_long_prompt_with_more_rows_a_step_is_the_same():
    """Where a prompt is cut is not seen in what comes out (docs/numerics.md)."""
    a = ask(1, 8, LONG)
    w = Real(Rack.router, "rows", alias="rows", model=FOLDER, options=[*OPTIONS, "--rows", str(ROWS)])
    try:
        ask(2, 8, model="rows")
        b = ask(1, 8, LONG, model="rows")
        assert said(a) == said(b), (a, b)
    finally:
        w.kill()
    return "--rows %d: %d tokens of prompt, first text after %.3f s; without: %.3f s" % (ROWS, b["prompt"], b["first_s"],
                                                                                      a["first_s"])


class Clocked(threading.Thread):
    """A stream of letters, a token each: when each came."""
    bias = None

    def __init__(self, i, n):
        super().__init__()
        self.i, self.n, self.times = i, n, []

    def run(self):
        s = Rack.router.stream("%s (%d)" % (STORY, self.i), model="big", max_tokens=self.n, ignore_eos=True, seed=self.i,
                               temperature=0.7, logit_bias=Clocked.bias)
        raw = read_until(s, b"\r\n\r\n", 180)
        assert raw.startswith(b"HTTP/1.1 200"), raw + s.recv(65536)
        while b"data: [DONE]" not in raw[-40:]:
            d = s.recv(65536)
            assert d, raw[-300:]
            self.times += [time.monotonic()] * d.count(b'content":"')
            raw = raw[-40:] + d
        s.close()


def letters():
    p = subprocess.run([BUILD + "/bin/hearth-worker", "text", "encode", MODEL], input='{"text":"a b c d e f"}\n',
                       capture_output=True, text=True, check=True)
    return {str(t): 100 for t in json.loads(p.stdout)["ids"]}


def middle(values, part):
    return sorted(values)[min(int(part * len(values)), len(values) - 1)]


def test_answers_go_on_beside_a_long_prompt():
    """What an answer's reader sees while somebody else's long prompt is taken, and what that prompt waits for it."""
    n, tokens, times = (4, 24, 10) if SMALL else (16, 700, 2150)
    prompts = ["%s %s" % (word, "The river is long and the hills are green. " * times) for word in ("One.", "Two.", "Three.")]
    Clocked.bias = letters()
    first = dict(model="big", max_tokens=1, ignore_eos=True, logit_bias=Clocked.bias, seed=1)
    alone = min(streamed(x, **first)["first_s"] for x in prompts[:2])
    streams = [Clocked(i, tokens) for i in range(n)]
    for s in streams:
        s.start()
    wait_for(lambda: all(len(s.times) > 4 for s in streams), 60)
    began = time.monotonic()
    long = streamed(prompts[2], **first)
    until = began + long["first_s"]
    for s in streams:
        s.join()
    assert all(len(s.times) > tokens // 2 for s in streams), [len(s.times) for s in streams]
    gaps, quiet = [], []
    for s in streams:
        for a, b in zip(s.times, s.times[1:]):
            (gaps if b > began and a < until else quiet).append(1e3 * (b - a))
    assert gaps
    return ("%d answers beside a prompt of %d tokens: between two tokens %.1f ms (median), %.1f (p99), %.1f at most; without it "
            "%.1f, %.1f. The prompt: %.0f tokens/s, alone %.0f, %.2f of it" % (
                n, long["prompt"], middle(gaps, 0.5), middle(gaps, 0.99), max(gaps), middle(quiet, 0.5), middle(quiet, 0.99),
                long["prompt"] / long["first_s"], long["prompt"] / alone, alone / long["first_s"]))


def test_speed_is_printed():
    one = [ask(1, 16) for _ in range(2 if SMALL else 5)]
    print("  alone: first text after %s ms" % ", ".join("%.1f" % (1e3 * x["first_s"]) for x in one))
    for in_flight, requests in (("1", "2"),) if SMALL else (("1", "6"), ("8", "32"), ("32", "96")):
        p = subprocess.run([BUILD + "/bin/hearth-bench", "router", "--model", "big", "--kind", "stream", "--in-flight", in_flight,
                            "--requests", requests, "--tokens", "8" if SMALL else "128", "--prompt", STORY, "127.0.0.1:%d" % Rack.router.port],
                           capture_output=True, text=True, timeout=300)
        lines = p.stdout.strip().splitlines()
        print("  " + "\n  ".join(lines if in_flight == "1" else lines[4:]), flush=True)
        assert p.returncode == 0 and "not answered with 200" not in p.stdout, p.stderr


def test_sigterm_ends_it():
    w = Rack.worker
    w.proc.send_signal(signal.SIGTERM)
    assert w.proc.wait(60) == 0, w.log_text()[-2000:]
    return [x for x in w.log_text().splitlines() if "done:" in x][-1].strip()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="hearth-big-", dir=place()) as FOLDER:
        make(FOLDER)
        with Router() as Rack.router:
            Rack.worker = Real(Rack.router, "device", alias="big", model=FOLDER, options=OPTIONS)
            main(dict(globals()))

#!/usr/bin/env python3
"""real_worker.py - the real worker on the tiny model behind the real router.

    top_builddir=build top_srcdir=. python3 tests/box/real_worker.py [test_name...]

Skips (77) when models/tiny has no weights or the worker cannot serve.  HEARTH_LONG=1: 64 streams instead of 16.
HEARTH_TINY: another model folder; HEARTH_WORKER: another worker program.
"""
import glob
import os
import subprocess
import sys
import threading
import time

from box import BUILD, LONG, Router, content_of, main, post, read_all, read_until, wait_for

MODEL = os.environ.get("HEARTH_TINY", os.path.join(os.environ.get("top_srcdir", "."), "models/tiny"))
WORKER = os.environ.get("HEARTH_WORKER", BUILD + "/bin/hearth-worker")


def skip(why):
    print("skipped: " + why)
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(77)


if not glob.glob(MODEL + "/*.safetensors"):
    skip("no weights in " + MODEL)
if subprocess.run([WORKER, "serve", "--help"], capture_output=True).returncode != 0:
    skip(WORKER + " does not serve")


class Real:
    def __init__(self, r, name):
        self.proc = subprocess.Popen(
            [WORKER, "serve", MODEL, "--connect", r.bus, "--alias", "tiny", "--name", name, "--threads", "1"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        r.workers.append(self)
        wait_for(lambda: any(w["pid"] == self.proc.pid for w in r.status()["workers"]), 30, 0.05)

    def kill(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()


QUESTION = "Write a short story about a fox."


def ask(r, i=0, **more):
    return read_until(r.stream(QUESTION + " %d" % i, max_tokens=120, ignore_eos=True, **more), b"[DONE]", 120)


def said(raw):
    """All text of a stream, reasoning and content."""
    import json
    out = ""
    for line in raw.decode(errors="replace").split("\n"):
        if line.startswith("data: {"):
            for c in json.loads(line[6:])["choices"]:
                out += (c["delta"].get("reasoning_content") or "") + "|" + (c["delta"].get("content") or "")
    return out.replace("|", "")


def test_many_streams_say_what_each_says_alone():
    n = 64 if LONG else 8
    with Router() as r:
        Real(r, "w1")
        alone = [said(ask(r, i, seed=i, temperature=0.8)) for i in range(n)]
        together = {}
        ts = [threading.Thread(target=lambda i=i: together.update({i: said(ask(r, i, seed=i, temperature=0.8))}))
              for i in range(n)]
        for t in ts:
            t.start()
        for t in ts:
            t.join()
        assert [together[i] for i in range(n)] == alone
        assert len(set(alone)) > n // 2
    return "%d streams" % n


def test_a_killed_workers_stream_goes_on_bit_for_bit():
    rounds = 10 if LONG else 3
    moved = 0
    with Router() as r:
        for k in range(rounds):
            ws = {n: Real(r, n) for n in ("w1", "w2")}
            whole = said(ask(r, k, seed=k, temperature=0.9))
            s = r.stream(QUESTION + " %d" % k, max_tokens=120, ignore_eos=True, seed=k, temperature=0.9)
            head = read_until(s, b"\r\n\r\n")
            while head.count(b"data: ") < 10 + 5 * k:
                head += s.recv(256)
            ws["w1" if b"by: worker:w1" in head else "w2"].kill()
            raw = head + read_until(s, b"[DONE]", 60)
            assert said(raw) == whole, (k, said(raw), whole)
            moved += raw.count(b"=lost")
            for w in ws.values():
                w.kill()
            wait_for(lambda: not r.status()["workers"])
    assert moved, "no stream had to move"
    return "%d of %d streams moved" % (moved, rounds)


def test_16_streams_of_a_killed_worker_end_with_an_error_and_it_comes_back():
    with Router() as r:
        w = Real(r, "w1")
        ss = [r.stream(QUESTION, max_tokens=2000, ignore_eos=True) for _ in range(16)]
        for s in ss:
            read_until(s, b"reasoning_content", 60)
        w.kill()
        for s in ss:
            tail = read_all(s)
            assert b'data: {"error"' in tail and b"[DONE]" not in tail
        Real(r, "w1")
        assert b"[DONE]" in ask(r)


def test_a_client_that_leaves_frees_the_worker():
    with Router() as r:
        Real(r, "w1")
        s = r.stream(QUESTION, max_tokens=20000, ignore_eos=True)
        read_until(s, b"reasoning_content", 30)
        s.close()
        wait_for(lambda: r.status()["workers"][0]["running"] == 0 and r.status()["workers"][0]["requests"] == 0, 3)


if __name__ == "__main__":
    main(dict(globals()))

#!/usr/bin/env python3
"""guard.py - a worker whose device hangs, is lost, or gives no numbers: the real router, hearthd and the worker's own
program, on a device that fails on demand (tests/tools/faulty_worker.c).

    top_builddir=build python3 tests/box/guard.py [TEST]...
"""
import json
import os
import subprocess
import tempfile
import threading
import time

from box import BUILD, Router, Skip, main, read_all, read_until, wait_for
from lifecycle import TINY, Box, ctl, model

FAULTY = BUILD + "/tests/tools/faulty_worker"
if not os.path.exists(FAULTY):
    raise SystemExit(77)
os.environ["HEARTH_FAULT_FILE"] = FAULT = os.path.join(tempfile.mkdtemp(prefix="hearth-guard-"), "fault")
PLENTY = {"max_tokens": 2000, "ignore_eos": True, "seed": 1}


def fault(text):
    """The next step of some worker takes it."""
    with open(FAULT + ".new", "w") as f:
        f.write(text)
    os.rename(FAULT + ".new", FAULT)


def taken():
    wait_for(lambda: not os.path.exists(FAULT), 20)


class Faulty:
    def __init__(self, r, name="w1", *words):
        self.log = os.path.join(r.dir, name + ".log")
        with open(self.log, "w") as log:
            self.proc = subprocess.Popen([FAULTY, "serve", TINY, "--device", "fake", "--connect", r.bus, "--alias",
                                          "tiny", "--name", name, "--hearthd", "none", "--context", "4096",
                                          "--step-limit-s", "1", *words], stdout=log, stderr=log)
        r.workers.append(self)
        wait_for(lambda: any(w["pid"] == self.proc.pid for w in r.status()["workers"]), 60, 0.05)

    def lines(self):
        with open(self.log) as f:
            return f.read().splitlines()

    def ended(self, seconds=20):
        return self.proc.wait(seconds)

    def kill(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()


def begin(r, **more):
    """A stream that takes two seconds at least: on a busy machine a fault must not come after its end."""
    fault("slow:1000")
    s = r.stream("Tell me a story.", **{**PLENTY, **more})
    head = read_until(s, b"data: ", 30)
    taken()
    return s, head


def test_a_hang_ends_the_stream_with_an_error_and_the_worker_with_70():
    with Router() as r:
        w = Faulty(r)
        s, head = begin(r)
        start = time.monotonic()
        fault("wedge:1")
        tail = read_all(s, 30)
        took = time.monotonic() - start
        assert b'data: {"error"' in tail and b"[DONE]" not in tail, tail[-500:]
        assert w.ended() == 70, w.lines()
        line = [x for x in w.lines() if "hangs" in x]
        assert len(line) == 1 and "nothing was finished for " in line[0] and "1 decode rows" in line[0], w.lines()
        assert took < 15, took
        assert b"worker w1 was lost: the device hangs" in tail, tail[-500:]
        error = tail[tail.index(b'data: {"error"'):].split(b"\n")[0].decode()
        return "%.1f s, %s, %s" % (took, line[0], error)


def test_a_request_that_has_no_token_yet_goes_to_the_next():
    with Router() as r:
        a = Faulty(r, "a", "--step-limit-s", "3")
        s, _ = begin(r)
        fault("wedge:1")
        taken()
        answers = []
        ts = [threading.Thread(target=lambda i=i: answers.append(r.chat("hi %d" % i, 60, max_tokens=3)))
              for i in range(4)]
        for t in ts:
            t.start()       # the hanging worker is the only one, so it has them all
        wait_for(lambda: r.status()["workers"][0]["requests"] == 5, 10)
        b = Faulty(r, "b")
        for t in ts:
            t.join()
        assert a.ended() == 70
        assert [x[0] for x in answers] == [200] * 4, answers
        tried = {x[1]["x-hearth-attempts"] for x in answers}
        assert all(x.startswith("worker:a=lost") and x.endswith("worker:b=ok") for x in tried), tried
        s.close()
        b.kill()
        return str(sorted(tried))


def test_a_lost_device_is_quoted_and_the_worker_ends_with_70():
    with Router() as r:
        w = Faulty(r)
        s, _ = begin(r)
        fault("lost:1")
        tail = read_all(s, 30)
        assert b'data: {"error"' in tail and b"[DONE]" not in tail, tail[-500:]
        assert w.ended() == 70, w.lines()
        assert any("fell off the bus" in x and "in flight: step" in x for x in w.lines()), w.lines()


def test_a_stream_without_a_number_ends_and_its_worker_goes_on():
    with Router() as r:
        w = Faulty(r)
        s, _ = begin(r)
        fault("nan:1:1:1")
        tail = read_until(s, b"no number", 30)
        assert b'data: {"error"' in tail, tail[-500:]
        assert r.chat("still there?", 30, max_tokens=3)[0] == 200
        assert w.proc.poll() is None
        line = [x for x in w.lines() if "NaN" in x]
        assert len(line) == 1 and "slot" in line[0] and "position" in line[0] and "tiny" in line[0], w.lines()
        w.kill()


def test_no_numbers_at_all_end_the_worker_with_70():
    with Router() as r:
        w = Faulty(r)
        fault("nan:1:1000000:1")
        for i in range(3):
            if w.proc.poll() is None:
                assert r.chat("number %d" % i, 30, max_tokens=3)[0] >= 500
        assert w.ended() == 70, w.lines()
        assert any("no numbers any more" in x for x in w.lines()), w.lines()


def test_a_stopped_worker_that_continues_is_no_hang():
    import signal
    with Router("[bus]\ndead_ms = 20000\n") as r:
        w = Faulty(r)
        s, _ = begin(r, max_tokens=3900)
        w.proc.send_signal(signal.SIGSTOP)
        time.sleep(3)       # three times the limit
        w.proc.send_signal(signal.SIGCONT)
        tail = read_until(s, b"[DONE]", 60)
        assert b'"error"' not in tail
        assert w.proc.poll() is None and not any("hangs" in x for x in w.lines()), w.lines()
        w.kill()


def test_hearthd_says_why_and_starts_it_again():
    # the memory broker knows no such device, and is not what this is about
    conf = model("tiny", context=4096, args="--device fake --hearthd none --step-limit-s 1")
    with Router() as r, Box(r, conf, worker=FAULTY, backoff_ms=3000) as b:
        whole = read_all_of(r)
        s, head = begin(r)
        fault("wedge:1")
        b.wait_state("tiny", "backoff")
        out = ctl(r, "status")[1]
        assert "exit status 70" in out and "hangs" in out, out
        why = [x for x in out.splitlines() if "exit status 70" in x][0].strip()
        tail = head + read_until(s, b"[DONE]", 60)  # and there it goes on, to the same text
        assert texts(tail) == whole
        b.wait_state("tiny", "ready")
        return why


def texts(raw):
    out = ""
    for line in raw.decode(errors="replace").split("\n"):
        if line.startswith("data: {"):
            for c in json.loads(line[6:])["choices"]:
                out += (c["delta"].get("reasoning_content") or "") + (c["delta"].get("content") or "")
    return out


def read_all_of(r):
    return texts(read_until(r.stream("Tell me a story.", **PLENTY), b"[DONE]", 60))


if __name__ == "__main__":
    if not os.path.exists(os.path.join(TINY, "config.json")):
        raise Skip("no tiny model")
    main(dict(globals()))

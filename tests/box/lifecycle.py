#!/usr/bin/env python3
"""lifecycle.py - models that come when they are asked for and go when they are not: the real router, hearthd
running its workers as its own children, and the real worker with the tiny model.

    top_builddir=build python3 tests/box/lifecycle.py [TEST]...
"""
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from box import BUILD, Router, Skip, main, read_until, wait_for

SRC = os.path.abspath(os.environ.get("top_srcdir", "."))
TINY = os.environ.get("HEARTH_TINY", os.path.join(SRC, "models/tiny"))
HEARTHD = BUILD + "/bin/hearthd"
# This is not about memory: nothing of the machine's is dropped, and little is kept back.
MEMORY = "[memory]\ndrop_caches = never\njudge = available\nreserve_mib = 64\nyellow_mib = 48\nred_mib = 32\n" \
    "yellow_pressure = 0\nred_pressure = 0\n"


def model(name, **keys):
    keys = {"path": TINY, "context": 1024, "max_streams": 4, "threads": 1, **keys}
    return "[model %s]\n%s\n" % (name, "\n".join("%s = %s" % kv for kv in keys.items()))


class Box:
    """hearthd beside a router's Box of the test harness."""

    def __init__(self, rt, conf, name="b1", wait=True, **keys):
        if not os.path.exists(os.path.join(TINY, "config.json")) or not os.path.exists(HEARTHD):
            raise Skip("no tiny model, or no hearthd")
        self.router, self.name = rt, name
        self.dir = os.path.join(rt.dir, name)
        os.mkdir(self.dir)
        self.conf = os.path.join(self.dir, "hearthd.conf")
        self.keys = {"name": name, "router": rt.bus, "launcher": "spawn", "run_dir": self.dir, "keep_s": 0,
                     "backoff_ms": 50, "stop_s": 10, **keys}
        self.write(conf)
        self.log = os.path.join(self.dir, "log")
        self.start(wait)

    def write(self, conf):
        with open(self.conf, "w") as f:
            f.write("[box]\n%s\n%s%s" % ("\n".join("%s = %s" % kv for kv in self.keys.items()), MEMORY, conf))

    def start(self, wait=True):
        self.out = open(self.log, "ab")
        self.proc = subprocess.Popen([HEARTHD, "-c", self.conf], stdout=self.out, stderr=self.out,
                                     stdin=subprocess.DEVNULL)
        if wait:
            wait_for(lambda: self.models(), 10)

    def models(self):
        for b in self.router.status()["boxes"]:
            if b["name"] == self.name:
                return {m["alias"]: m for m in b["models"]}
        return {}

    def state(self, alias):
        return self.models()[alias]["state"]

    def wait_state(self, alias, state, seconds=30):
        try:
            wait_for(lambda: self.state(alias) == state, seconds)
        except AssertionError:
            raise AssertionError("%s is %s, not %s:\n%s" % (alias, self.models().get(alias), state, self.text()))

    def pid(self, alias):
        return self.models()[alias].get("pid")

    def text(self):
        with open(self.log) as f:
            return f.read()[-4000:]

    def stop(self):
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
        code = self.proc.wait(20)
        self.out.close()
        return code

    def kill(self):
        """hearthd is gone without a word, and the router knows; start() begins another."""
        self.proc.kill()
        self.proc.wait()
        self.out.close()
        wait_for(lambda: not self.router.status()["boxes"])

    def __enter__(self):
        return self

    def __exit__(self, *a):
        pids = [m["pid"] for m in self.models().values() if m.get("pid")]
        code = self.stop()
        for p in pids:
            if os.path.exists("/proc/%d" % p) and "hearth-worker" in open("/proc/%d/cmdline" % p).read():
                os.kill(p, signal.SIGKILL)
                raise AssertionError("worker %d outlived hearthd" % p)
        if code != 0:
            raise AssertionError("hearthd ended with %s:\n%s" % (code, self.text()))


def ctl(r, *args):
    p = subprocess.run([BUILD + "/bin/hearthctl", "--url", r.url, *args], capture_output=True, text=True, timeout=60)
    return p.returncode, p.stdout, p.stderr


def ask(r, alias, timeout=60, **more):
    return r.chat("What is 2+2?", timeout, model=alias, max_tokens=5, **more)


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def test_the_first_request_loads_it_and_is_answered():
    with Router() as r, Box(r, model("tiny")) as b:
        assert b.state("tiny") == "unloaded" and not r.status()["workers"]
        assert [m["id"] for m in json.loads(r.get("/v1/models")[2])["data"]] == ["tiny"]
        s, h, d = ask(r, "tiny")
        assert s == 200 and d["choices"][0]["message"], d
        assert h["x-hearth-served-by"] == "worker:b1/tiny", h
        assert h["x-hearth-attempts"] == "box:b1=loaded, worker:b1/tiny=ok", h
        assert b.state("tiny") == "ready"
        assert "ready after" in b.text()


def test_what_a_model_does_while_it_loads_is_its_workers_option():
    small = {"quantize": "head+dense", "kv": "fp8", "prefill_fp4": "up"}
    options = ["--quantize", "head+dense", "--kv", "fp8", "--prefill-fp4", "up"]
    with Router() as r, Box(r, model("plain") + model("small", **small)) as b:
        classes = set()
        for alias, words in (("plain", []), ("small", options)):
            assert ask(r, alias)[0] == 200, b.text()
            with open("/proc/%d/cmdline" % b.pid(alias)) as f:
                said = f.read().split("\0")
            at = said.index("--quantize") if words else 0
            assert said[at:at + len(words)] == words and (words or not set(options[::2]) & set(said)), said
            classes |= {w["numeric_class"] for w in r.status()["workers"]}
        assert len(classes) == 2, classes


def needs(b):
    """What each alias would take, as `hearthctl memory` says it."""
    p = subprocess.run([BUILD + "/bin/hearthctl", "--hearthd", b.dir + "/memory", "--json", "memory"],
                       capture_output=True, text=True, timeout=60)
    assert p.returncode == 0, p.stderr
    return {a["alias"]: a["need"] for a in json.loads(p.stdout)["aliases"]}


def whole_log(b):
    with open(b.log) as f:
        return f.read()


def budget(b, alias):
    """What its worker said it would take, last."""
    return int(re.findall(r"worker %s: memory: (\d+) bytes =" % alias, whole_log(b))[-1])


def test_what_a_model_would_take_is_what_its_worker_asks_for():
    cases = {"plain": {}, "dense": {"quantize": "head+dense"}, "kv": {"kv": "fp8"}, "small": {"kv_mib": 1},
             "both": {"quantize": "head+dense", "kv": "fp8", "context": 2048, "max_streams": 2},
             "args": {"args": "--rows 256 --slots 3"}}
    # a GPU is not opened for an estimate, so there need be none
    gpus = {"gpu": {"device": "cuda:0"}, "gpu-q": {"device": "cuda:0", "quantize": "head+dense"},
            "gpu-kv": {"device": "cuda:0", "kv": "fp8"}}
    # of 1,024 tokens the CPU back end's room for reading weights would hide the keys and values
    conf = "".join(model(name, **{"context": 16384, **keys}) for name, keys in {**cases, **gpus, "said": {"memory_mib": 77}}.items())
    files = sum(f.stat().st_size for f in os.scandir(TINY) if f.is_file())
    with Router() as r, Box(r, conf, max_models=1) as b:
        wait_for(lambda: not {files, files + (1 << 20), 0} & set(needs(b).values()), 30)
        need = needs(b)
        assert need["said"] == 77 << 20, need
        assert need["kv"] < need["plain"] and need["small"] < need["plain"] != need["args"], need
        for alias in cases:
            assert ask(r, alias)[0] == 200, b.text()
            assert need[alias] == budget(b, alias), (alias, need, b.text())
        # the CPU holds all formats as BF16; a GPU holds what the conversion leaves
        assert need["dense"] == need["plain"], need
        before, after = map(int, re.search(r"worker dense: quantize .* (\d+) bytes become (\d+);", whole_log(b)).groups())
        assert before > after and need["gpu"] - need["gpu-q"] == before - after, (need, before, after)
        per_token = [int(re.search(r"KV .* MB, (\d+) bytes a token", subprocess.run(
            [BUILD + "/bin/hearth-worker", "check", TINY, "--kv", kv], capture_output=True, text=True).stdout)[1])
                     for kv in ("bf16", "fp8")]
        assert need["gpu"] - need["gpu-kv"] == 2 * 16384 * (per_token[0] - per_token[1]), (need, per_token)
        # other options: neither the old answer nor what the old worker asked for
        b.wait_state("args", "ready")
        b.write(model("plain", context=32768) + model("args", context=16384, kv="fp8"))
        b.proc.send_signal(signal.SIGHUP)
        wait_for(lambda: set(needs(b)) == {"plain", "args"} and needs(b)["args"] == need["kv"], 20)
        wait_for(lambda: needs(b)["plain"] > need["plain"], 20)
        later = needs(b)["plain"]
        assert ask(r, "plain")[0] == 200 and budget(b, "plain") == later, (later, b.text())


def test_a_worker_that_does_not_say_what_it_takes_is_judged_by_its_files():
    with Router() as r:
        silent = os.path.join(r.dir, "silent")
        with open(silent, "w") as f:
            f.write("#!/bin/sh\ncase \"$*\" in *--print-budget*) echo 'total\t0x10'; exit 0;; esac\n"
                    "exec %s \"$@\"\n" % os.path.abspath(BUILD + "/bin/hearth-worker"))
        os.chmod(silent, 0o755)
        with Box(r, model("tiny", kv_mib=2), worker=silent) as b:
            wait_for(lambda: "does not say what it would take" in b.text())
            files = sum(f.stat().st_size for f in os.scandir(TINY) if f.is_file())
            assert needs(b) == {"tiny": files + (2 << 20)}, (needs(b), files)
            assert ask(r, "tiny")[0] == 200, b.text()
            assert needs(b)["tiny"] == budget(b, "tiny")


def test_a_stream_hears_how_far_the_load_is():
    with Router("[route]\ngrace_ms = 50\nkeepalive_ms = 100\n") as r, Box(r, model("tiny")) as b:
        s = r.stream("What is 2+2?", max_tokens=5)
        raw = read_until(s, b"[DONE]", 60)
        head, rest = raw.split(b"\r\n\r\n", 1)
        assert b" 200 " in head and b"x-hearth-served-by:" not in head
        assert b": tiny on box b1: " in rest and rest.index(b": tiny on box") < rest.index(b"data: "), rest[:300]
        assert b'served_by' in rest
        return rest[rest.index(b": tiny"):].split(b"\n")[0].decode()


def test_many_requests_wait_for_one_load():
    with Router() as r, Box(r, model("tiny")) as b:
        got = []
        ts = [threading.Thread(target=lambda: got.append(ask(r, "tiny")[0])) for _ in range(12)]
        for t in ts:
            t.start()
        for t in ts:
            t.join()
        assert got == [200] * 12, got
        assert b.text().count("started as pid") == 1


def test_a_request_that_cannot_wait_is_told_when_to_come_again():
    with Router("[route]\nload_wait_s = 0\n") as r, Box(r, model("tiny")) as b:
        s, h, d = ask(r, "tiny")
        assert s == 503 and d["error"]["code"] == "model_loading", (s, d)
        assert int(h["retry-after"]) >= 1 and int(h["retry-after-ms"]) >= 1000, h
        b.wait_state("tiny", "ready")      # but its load goes on
        wait_for(lambda: r.status()["workers"])
        assert ask(r, "tiny")[0] == 200
        b.router.get("/admin/unload", "POST", body='{"alias":"tiny"}')
        b.wait_state("tiny", "unloaded")
        first = b.models()["tiny"]["ready_ms"]     # measured now: the last load
        s, h, d = ask(r, "tiny")
        assert s == 503 and abs(int(h["retry-after-ms"]) - max(first, 1000)) <= 50, (h, first)


def test_two_boxes_of_one_name_displace_each_other_ever_more_seldom():
    with Router() as rt, Box(rt, model("m")) as b:
        p = subprocess.Popen([HEARTHD, "-c", b.conf, "-o", "box.run_dir=%s/other" % b.dir], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        try:
            time.sleep(4)
            n = b.text().count("connected to the router")
            assert 2 <= n <= 12, (n, b.text())
            assert "another box of this name has come" in b.text()
        finally:
            p.terminate()
            p.wait(20)
        wait_for(lambda: "m" in b.models(), 10)     # alone again: it stays


def test_idle_models_go_after_their_ttl():
    with Router() as r, Box(r, model("tiny", ttl_s=1)) as b:
        assert ask(r, "tiny")[0] == 200
        pid = b.pid("tiny")
        s = r.stream("Write a lot.", max_tokens=300, ignore_eos=True)     # in use for longer than the ttl
        read_until(s, b"data: ", 60)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(2)
        assert b.state("tiny") == "ready"
        os.kill(pid, signal.SIGCONT)
        raw = read_until(s, b"[DONE]", 120)
        assert b'"error"' not in raw
        start = time.monotonic()
        b.wait_state("tiny", "unloaded", 15)
        took = time.monotonic() - start
        assert took > 0.5, took
        assert not os.path.exists("/proc/%d" % pid)
        assert ask(r, "tiny")[0] == 200
        return "gone %.1f s after the last answer" % took


def test_two_aliases_share_one_place():
    with Router() as r, Box(r, model("a") + model("b"), max_models=1) as b:
        assert ask(r, "a")[0] == 200
        assert ask(r, "b")[0] == 200
        assert (b.state("a"), b.state("b")) == ("unloaded", "ready")
        s = r.stream("Write a lot.", model="b", max_tokens=200, ignore_eos=True)
        read_until(s, b"data: ", 60)
        s_a, h, d = ask(r, "a", 120)                # waits for b's answer, then for the load
        assert s_a == 200, d
        raw = read_until(s, b"[DONE]", 60)
        assert b'"error"' not in raw, raw[-300:]
        assert (b.state("a"), b.state("b")) == ("ready", "unloaded")
        assert b.models()["b"]["reason"] == "made room for a"
        # both asked for at once, again and again: everyone is served
        got = []
        ts = [threading.Thread(target=lambda m=m: got.append(ask(r, m, 120)[0])) for m in "ab" * 4]
        for t in ts:
            t.start()
        for t in ts:
            t.join()
        assert got == [200] * 8, got


def test_two_models_that_do_not_fit_together_take_turns():
    big = {"context": 8192, "max_streams": 64, "kv_mib": 1024}      # a budget of 1.2 GiB, of which little is touched
    with open("/proc/meminfo") as f:
        kib = {x.split(":")[0]: int(x.split()[1]) for x in f}
    if kib["MemAvailable"] < 4 << 20:
        raise Skip("less than 4 GiB available")
    limit = (kib["MemTotal"] - kib["MemAvailable"]) // 1024 + 1800   # a box with room for one and a half of them
    with Router() as r, Box(r, "limit_mib = %d\n" % limit + model("a", **big) + model("b", **big)) as b:
        assert ask(r, "a")[0] == 200, b.text()
        assert ask(r, "b")[0] == 200, b.text()
        assert (b.state("a"), b.state("b")) == ("unloaded", "ready"), b.text()
        assert b.models()["a"]["reason"] == "made room for b"
        assert ask(r, "a")[0] == 200
        assert (b.state("a"), b.state("b")) == ("ready", "unloaded"), b.text()


def test_a_crash_loop_ends_in_quarantine_with_a_reason():
    with Router() as r, Box(r, model("tiny"), crash_limit=3, healthy_s=600) as b:
        assert ask(r, "tiny")[0] == 200
        for i in range(3):
            b.wait_state("tiny", "ready")
            kill(b.pid("tiny"))
            wait_for(lambda: b.state("tiny") != "ready" or b.models()["tiny"]["failures"] == i + 1)
        b.wait_state("tiny", "quarantined")
        reason = b.models()["tiny"]["reason"]
        assert reason.startswith("3 failures in a row") and "killed by signal 9" in reason, reason
        code, out, err = ctl(r, "status")
        assert code == 0 and "quarantined" in out and "killed by signal 9" in out, out
        s, h, d = ask(r, "tiny")
        assert s == 503 and "quarantined" in d["error"]["message"] and "retry-after" not in h, (s, h, d)
        code, out, err = ctl(r, "--wait", "load", "tiny")
        assert code == 0 and "tiny: ready" in out, (out, err)
        assert ask(r, "tiny")[0] == 200
        return reason


def test_a_request_survives_the_death_of_the_only_worker():
    with Router() as r, Box(r, model("tiny")) as b:
        assert ask(r, "tiny")[0] == 200
        pid = b.pid("tiny")
        os.kill(pid, signal.SIGSTOP)        # it has the request, and no token yet
        got = []
        t = threading.Thread(target=lambda: got.append(ask(r, "tiny")))
        t.start()
        time.sleep(0.3)
        kill(pid)
        t.join()
        s, h, d = got[0]
        assert s == 200 and "worker:b1/tiny=lost, box:b1=loaded, worker:b1/tiny=ok" == h["x-hearth-attempts"], (s, h)


def text_of(raw):
    out = ""
    for line in raw.decode().split("\n"):
        if line.startswith("data: {"):
            for c in json.loads(line[6:])["choices"]:
                out += (c["delta"].get("reasoning_content") or "") + (c["delta"].get("content") or "")
    return out


def test_a_stream_goes_on_bit_for_bit_on_the_successor_of_its_only_worker():
    more = {"max_tokens": 400, "ignore_eos": True, "seed": 7, "temperature": 0.9}
    with Router("[route]\nkeepalive_ms = 100\n") as r, Box(r, model("tiny"), backoff_ms=500) as b:
        whole = text_of(read_until(r.stream("Tell me a story.", **more), b"[DONE]", 60))
        pid = b.pid("tiny")
        s = r.stream("Tell me a story.", **more)
        head = b""
        while head.count(b"data: ") < 20:
            head += s.recv(512)
        os.kill(pid, signal.SIGSTOP)
        kill(pid)
        raw = head + read_until(s, b"[DONE]", 60)
        assert b'"error"' not in raw, raw[-500:]
        assert text_of(raw) == whole, (text_of(raw), whole)
        assert b": tiny on box b1: backoff" in raw or b": tiny on box b1: starting" in raw, raw[-3000:]
        assert raw.count(b"=lost") and len(whole) > 400
        return "%d characters" % len(whole)


def test_a_model_that_cannot_be_loaded_is_not_tried_for_ever():
    with Router() as r, Box(r, model("bad", path="/nonexistent/model")) as b:
        s, h, d = ask(r, "bad")
        assert s == 503 and "it cannot work as it is: exit status 78" in d["error"]["message"], (s, d)
        assert b.state("bad") == "quarantined"
        assert b.text().count("started as pid") == 1


def test_drain_and_undrain():
    with Router() as r, Box(r, model("tiny")) as b:
        assert ask(r, "tiny")[0] == 200
        s = r.stream("Write a lot.", max_tokens=300, ignore_eos=True)
        read_until(s, b"data: ", 60)
        assert ctl(r, "drain", "tiny")[0] == 0
        assert b.state("tiny") == "retiring"
        code, h, d = ask(r, "tiny")                  # nothing new is taken
        assert code == 503 and "drained" in d["error"]["message"], d
        raw = read_until(s, b"[DONE]", 120)          # what runs is finished
        assert b'"error"' not in raw
        b.wait_state("tiny", "unloaded")
        code, out, err = ctl(r, "load", "tiny")
        assert code == 69 and "undrain it first" in err, (code, out, err)
        assert ask(r, "tiny")[0] == 503
        code, out, err = ctl(r, "drain", "tiny")
        assert code == 0 and "drained already" in out, (out, err)
        assert ctl(r, "--box", "b1", "undrain", "*")[0] == 0
        assert ask(r, "tiny")[0] == 200
        code, out, err = ctl(r, "unload", "nope")
        assert code == 69 and "no box with 'nope'" in err, err


def test_pinned_models_come_by_themselves_and_fallbacks_serve_meanwhile():
    conf = "[alias chat]\nchain = worker:big worker:small\n[alias big-only]\nchain = worker:big worker:small\nload = wait\n"
    with Router(conf) as r, Box(r, model("small", pin="yes") + model("big")) as b:
        b.wait_state("small", "ready")
        wait_for(lambda: r.status()["workers"])
        s, h, d = ask(r, "chat")                     # goes on to small, and has big loaded
        assert s == 200 and h["x-hearth-served-by"] == "worker:b1/small", h
        b.wait_state("big", "ready")
        wait_for(lambda: len(r.status()["workers"]) == 2)
        assert ask(r, "chat")[1]["x-hearth-served-by"] == "worker:b1/big"
        ctl(r, "unload", "big")
        b.wait_state("big", "unloaded")
        s, h, d = ask(r, "big-only")                 # this alias would rather wait
        assert s == 200 and h["x-hearth-served-by"] == "worker:b1/big", h
        assert ctl(r, "unload", "small")[0] == 0


def test_a_killed_hearthd_finds_its_workers_again():
    with Router() as r, Box(r, model("tiny", ttl_s=600)) as b:
        assert ask(r, "tiny")[0] == 200
        pid = b.pid("tiny")
        b.kill()
        assert ask(r, "tiny")[0] == 200              # the worker never noticed
        b.start()
        b.wait_state("tiny", "ready")
        assert b.pid("tiny") == pid
        assert ask(r, "tiny")[0] == 200
        kill(pid)                                    # still watched
        wait_for(lambda: b.state("tiny") == "ready" and b.pid("tiny") != pid, 30)
        assert ask(r, "tiny")[0] == 200


def test_a_restarted_router_learns_everything_anew():
    with Router() as r, Box(r, model("tiny", pin="yes")) as b:
        b.wait_state("tiny", "ready")
        port = r.port
        r.proc.kill()
        r.proc.wait()
        r.proc.stdout.close()
        args = [BUILD + "/bin/hearth-router", "-c", r.conf, "--print-port", "-o", "http.listen=127.0.0.1:%d" % port,
                "-o", "bus.listen=" + r.bus]
        r.proc = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=r.log, text=True)
        assert int(r.proc.stdout.readline()) == port
        wait_for(lambda: b.models().get("tiny", {}).get("state") == "ready", 15)
        wait_for(lambda: r.status()["workers"], 15)
        assert ask(r, "tiny")[0] == 200


def test_reload_adds_and_removes_models_and_leaves_the_others_alone():
    with Router() as r, Box(r, model("a") + model("gone")) as b:
        assert ask(r, "a")[0] == 200 and ask(r, "gone")[0] == 200
        pid = b.pid("a")
        b.write(model("a") + model("new", pin="yes"))
        b.proc.send_signal(signal.SIGHUP)
        wait_for(lambda: set(b.models()) == {"a", "new"}, 20)
        b.wait_state("new", "ready")
        assert b.pid("a") == pid
        b.write("[model broken]\n")
        b.proc.send_signal(signal.SIGHUP)
        wait_for(lambda: "the configuration stays as it was" in b.text())
        assert set(b.models()) == {"a", "new"} and "[model broken]: path is missing" in b.text()


def curve_pair():
    zmq = ctypes.CDLL("libzmq.so.5")
    public, secret = ctypes.create_string_buffer(41), ctypes.create_string_buffer(41)
    if zmq.zmq_curve_keypair(public, secret):
        raise Skip("this libzmq has no CURVE")
    return public.value.decode(), secret.value.decode()


def test_a_box_on_another_host_comes_with_its_key_or_not_at_all():
    (rp, rs), (bp, bs), (xp, xs) = curve_pair(), curve_pair(), curve_pair()
    at = tempfile.mkdtemp(prefix="hearth-curve-")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        bus = "tcp://127.0.0.1:%d" % s.getsockname()[1]
    for name, text in (("r", rp + "\n" + rs + "\n"), ("allow", bp + "\n"), ("b", bs + "\n"), ("x", xs + "\n")):
        with open(os.path.join(at, name), "w") as f:
            f.write(text)
    with Router(options=["bus.listen=" + bus, "bus.curve_file=%s/r" % at, "bus.curve_allow_file=%s/allow" % at]) as r:
        keys = {"router": bus, "curve_server": rp}
        with Box(r, model("x"), "stranger", wait=False, curve_public=xp, curve_secret_file=at + "/x", **keys) as x, \
                Box(r, model("tiny"), curve_public=bp, curve_secret_file=at + "/b", **keys) as b:
            s, h, d = ask(r, "tiny")         # the worker has the box's key
            assert s == 200 and h["x-hearth-served-by"] == "worker:b1/tiny", d
            assert [y["name"] for y in r.status()["boxes"]] == ["b1"] and ask(r, "x")[0] == 404
    shutil.rmtree(at)


def test_a_worker_refuses_what_cannot_be_an_alias():
    for alias in ("a b", "", "-a", "x" * 101):
        p = subprocess.run([BUILD + "/bin/hearth-worker", "serve", "/nowhere", "--connect", "ipc:///nowhere", "--alias=" + alias],
                           capture_output=True, text=True, timeout=20)
        assert p.returncode == 64 and "--alias: '%s' cannot be one: up to 100" % alias in p.stderr, (alias, p)


def test_a_secret_that_cannot_be_had_is_the_configurations_mistake():
    """And --check says it as a start does."""
    d = tempfile.mkdtemp(prefix="hearth-secret-")
    with open(d + "/conf", "w") as f:
        f.write("[box]\nrun_dir = %s\nrouter = ipc://%s/bus\n[memory]\nsocket = %s/memory\n" % (d, d, d))
    os.mkdir(d + "/folder")
    os.mkfifo(d + "/fifo")              # open() waited for a writer
    for name, text in (("short", "seven77\n"), ("spoilt", "a" * 39 + "\n"), ("empty", "")):
        with open(d + "/" + name, "w") as f:
            f.write(text)
    none, irregular = "No such file or directory", "not a regular file"
    keys = {"none": none, "short": "not a key of 8 characters or more", "folder": irregular, "fifo": irregular,
            "credential:empty": "there is no such credential, or it is empty"}
    secrets = {**keys, "short": "not a secret key of 40 characters", "spoilt": "not a secret key of 40 characters"}
    for key, names, more in (
            ("metrics_key_file", keys, ["box.metrics=127.0.0.1:9465"]),
            ("curve_secret_file", secrets, ["box.curve_public=" + "a" * 40, "box.curve_server=" + "b" * 40])):
        for name, want in names.items():
            path = name if ":" in name else d + "/" + name
            words = [w for o in more + ["box.%s=%s" % (key, path)] for w in ("-o", o)]
            for check in ([], ["--check"]):
                p = subprocess.run([HEARTHD, "-c", d + "/conf", *words, *check], capture_output=True, text=True,
                                   timeout=20, env={**os.environ, "CREDENTIALS_DIRECTORY": d})
                assert p.returncode == 78, p     # the unit does not start it again and again
                assert "box.%s: %s: %s" % (key, path, want) in p.stderr, p
                assert not check or not os.path.exists(d + "/memory"), "--check started something"
            if os.path.exists(d + "/memory"):
                os.unlink(d + "/memory")
    shutil.rmtree(d)


def test_check_takes_secrets_that_are_right_and_credentials_that_it_was_not_given():
    """A unit's ExecReload=, which --check is, has none of its credentials (systemd issue 35227)."""
    d = tempfile.mkdtemp(prefix="hearth-secret-")
    public, secret = "a" * 40, "b" * 40
    os.mkdir(d + "/credentials")
    for name in ("secret", "credentials/one"):
        with open(d + "/" + name, "w") as f:
            f.write(secret + "\n")
    os.mkdir(d + "/none")

    def check(path, credentials):
        env = {k: v for k, v in os.environ.items() if k != "CREDENTIALS_DIRECTORY"}
        if credentials:
            env["CREDENTIALS_DIRECTORY"] = d + credentials
        words = ["-o", "box.curve_public=" + public, "-o", "box.curve_server=" + public,
                 "-o", "box.curve_secret_file=" + path, "-o", "box.metrics=127.0.0.1:9465",
                 "-o", "box.metrics_key_file=" + path]
        with open(d + "/conf", "w") as f:
            f.write("[model a]\npath = /x\n")
        return subprocess.run([HEARTHD, "-c", d + "/conf", "--check", *words], capture_output=True, text=True,
                              timeout=20, env=env)

    for path, credentials in ((d + "/secret", None), ("credential:one", "/credentials")):
        p = check(path, credentials)
        assert (p.returncode, p.stderr) == (0, ""), p
    for credentials in (None, "/nowhere", "/none"):
        p = check("credential:one", credentials)
        assert p.returncode == 0 and p.stderr.count("credential:one was not looked at") == 2, p
    assert check("credential:two", "/credentials").returncode == 78
    shutil.rmtree(d)


def test_what_is_wrong_is_said_before_anything_runs():
    path = "/tmp/hearthd-check-%d.conf" % os.getpid()
    for text, want in (
        ("[model a]\npath = /x\n", None),
        ("[model a]\n", "[model a]: path is missing"),
        ("[box]\nname = a\nname = b\n", ":3: name: again in [box], line 2 has it already"),
        ("[model a]\npath = /x\n[model a]\npath = /y\n", ":4: path: again in [model a], line 2 has it already"),
        ("[model a b]\npath = /x\n", "'a b' cannot be an alias: up to 100 letters, digits"),
        ("[model a]\nalias = Qwen/Qwen3.6\npath = /x\n", "on a box without /"),
        ("[model a]\npath = /x y\n", "neither blanks nor"),
        ("[model a]\npath = /x\n[model b]\npath = /y\nalias = a\n", "two have the alias a"),
        (
            "[box]\nmax_models = 1\n[model a]\npath = /x\npin = yes\n[model b]\npath = /y\npin = yes\n",
            "but 2 models are pinned",
        ),
        ("[box]\ncurve_public = " + "a" * 40 + "\n", "go together"),
        (
            "[model a]\npath = /x\nquantize = experts\n",
            "is not one of none|head|dense|head+dense",
        ),
        ("[model a]\npath = /x\nkv = fp4\n", "is not one of bf16|fp8"),
        ("[model a]\npath = /x\nargs = --x $(y)\n", "args may not hold '$'"),
    ):
        with open(path, "w") as f:
            f.write(text)
        p = subprocess.run([HEARTHD, "--check", "-c", path], capture_output=True, text=True, timeout=20)
        assert (p.returncode, want is None or want in p.stderr) == (78 if want else 0, True), (text, p)
    os.unlink(path)


def test_pages_in_a_browser_cannot_command():
    with Router() as r, Box(r, model("tiny")) as b:
        body = '{"alias":"tiny"}'
        assert r.get("/admin/load", "POST", {"Origin": "http://evil.example"}, body)[0] == 403
        assert r.get("/admin/frob", "POST", {}, body)[0] == 404
        assert r.get("/admin/load", "POST", {}, "{")[0] == 400
        assert r.get("/admin/load", "POST", {}, '{"alias":"*"}')[0] == 400
        assert r.get("/admin/load", "GET")[0] == 405
        assert b.state("tiny") == "unloaded"


if __name__ == "__main__":
    main(dict(globals()))

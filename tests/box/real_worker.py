#!/usr/bin/env python3
"""real_worker.py - the real worker on the tiny model behind the real router.

    top_builddir=build top_srcdir=. python3 tests/box/real_worker.py [test_name...]

Skips (77) when models/tiny has no weights or the worker cannot serve.  HEARTH_LONG=1: 64 streams
instead of 16.
HEARTH_TINY: another model folder; HEARTH_WORKER: another worker program; HEARTH_DEVICE: not the CPU
(tests/gpu/serve.sh).
"""
import glob
import os
import subprocess
import sys
import threading
import time

from box import (BUILD, LONG, THREAD_SANITIZED, Router, content_of, main, post, read_all,
                 read_until, wait_for)

MODEL = os.environ.get("HEARTH_TINY", os.path.join(os.environ.get("top_srcdir", "."),
    "models/tiny"))
WORKER = os.environ.get("HEARTH_WORKER", BUILD + "/bin/hearth-worker")
DEVICE = os.environ.get("HEARTH_DEVICE", "cpu")


def skip(why):
    print("skipped: " + why)
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(77)


if not glob.glob(MODEL + "/*.safetensors"):
    skip("no weights in " + MODEL)
if subprocess.run([WORKER, "serve", "--help"], capture_output=True).returncode != 0:
    skip(WORKER + " does not serve")


class Real:
    """A worker that is registered; what it said is log_text()."""

    def __init__(self, r, name, alias="tiny", device=DEVICE, model=MODEL, options=()):
        self.path = "%s/%s.log" % (r.dir, name)
        with open(self.path, "a") as log:
            self.proc = subprocess.Popen(
                [WORKER, "serve", model, "--connect", r.bus, "--alias", alias, "--name", name,
                 "--device", device, *(options or ("--threads", "1"))],
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        r.workers.append(self)
        wait_for(lambda: self.is_there(r), 300, 0.05)

    def is_there(self, r):
        if self.proc.poll() is not None:
            raise AssertionError("the worker ended with %d:\n%s" % (self.proc.returncode, self.log_text()[-4000:]))
        return any(w["pid"] == self.proc.pid for w in r.status()["workers"])

    def log_text(self):
        with open(self.path) as f:
            return f.read()

    def kill(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()


QUESTION = "Write a short story about a fox."


def ask(r, i=0, **more):
    return read_until(
        r.stream(QUESTION + " %d" % i, max_tokens=120, ignore_eos=True, **more), b"[DONE]", 120
    )


def said(raw):
    """All text of a stream, reasoning and content."""
    import json
    out = ""
    for line in raw.decode(errors="replace").split("\n"):
        if line.startswith("data: {"):
            for c in json.loads(line[6:])["choices"]:
                out += (
                    (c["delta"].get("reasoning_content") or "")
                    + "|"
                    + (c["delta"].get("content") or "")
                )
    return out.replace("|", "")


def test_no_markup_of_thinking_or_calls_is_in_the_content():
    tools = [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "Get the weather of a city",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}},
                    "required": ["city"],
                },
            },
        }
    ]
    with Router() as r:
        Real(r, "w1")
        thought = called = 0
        for text, more in (
            ("What is 12 + 30?", {}),
            ("What is the weather in Paris?", {"tools": tools}),
            ("What is 40 + 2?", {"chat_template_kwargs": {"enable_thinking": False}}),
        ):
            d = r.chat(text, timeout=120, temperature=0, max_tokens=200, **more)[2]
            m = d["choices"][0]["message"]
            streamed = content_of(
                read_until(r.stream(text, temperature=0, max_tokens=200, **more), b"0\r\n\r\n", 120)
            )[0]
            assert streamed == (m["content"] or ""), (streamed, m)
            for mark in ("<think>", "</think>", "<tool_call>", "<function="):
                assert mark not in streamed and mark not in (m.get("reasoning_content") or ""), m
            thought += bool(m.get("reasoning_content"))
            called += bool(m.get("tool_calls"))
        assert thought and called, (thought, called)


def test_a_history_with_broken_arguments_goes_on():
    """What a limit cut off, or a model wrote wrongly, comes back in every later request."""
    def body(arguments):
        call = {"id": "call_1", "type": "function", "function": {"name": "write", "arguments": arguments}}
        return [{"role": "user", "content": "Write a.c. " * 40},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "call_1", "content": "the arguments are no JSON"}]

    def answer(r, messages):
        s, _, d = r.chat("", timeout=120, messages=messages, temperature=0, max_tokens=8)
        assert s == 200, (s, d)
        return d["choices"][0]["message"], d["usage"]

    with Router() as r:
        Real(r, "w1")
        for arguments in ('{"path": "a.c", "text": "int main(void)\\n{', "{'path': 'a.c'}", '["a.c"]', '"a.c"',
                          "5", "null", "", ["a.c"], None):
            first, once = answer(r, body(arguments))
            again, twice = answer(r, body(arguments))
            assert first == again and once["prompt_tokens"] == twice["prompt_tokens"], (first, again)
        nothing = answer(r, body("{}"))[1]["prompt_tokens"]
        assert answer(r, body(""))[1]["prompt_tokens"] == nothing
        cut = answer(r, body('{"path": "a.c'))[1]["prompt_tokens"]
        assert cut > nothing + 10, (cut, nothing)


def test_many_streams_say_what_each_says_alone():
    n = 64 if LONG else 4 if THREAD_SANITIZED else 8
    with Router() as r:
        Real(r, "w1")
        alone = [said(ask(r, i, seed=i, temperature=0.8)) for i in range(n)]
        together = {}
        ts = [
            threading.Thread(
                target=lambda i=i: together.update({i: said(ask(r, i, seed=i, temperature=0.8))})
            )
            for i in range(n)
        ]
        for t in ts:
            t.start()
        for t in ts:
            t.join()
        assert [together[i] for i in range(n)] == alone
        assert len(set(alone)) > n // 2
    return "%d streams" % n


def test_a_killed_workers_stream_goes_on_bit_for_bit():
    rounds = 10 if LONG else 1 if THREAD_SANITIZED else 3
    moved = 0
    with Router() as r:
        for k in range(rounds):
            ws = {n: Real(r, n) for n in ("w1", "w2")}
            whole = said(ask(r, k, seed=k, temperature=0.9))
            s = r.stream(
                QUESTION + " %d" % k, max_tokens=120, ignore_eos=True, seed=k, temperature=0.9
            )
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
        wait_for(
            lambda: r.status()["workers"][0]["running"] == 0
            and r.status()["workers"][0]["requests"] == 0,
            3,
        )


if __name__ == "__main__":
    main(dict(globals()))

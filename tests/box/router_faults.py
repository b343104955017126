#!/usr/bin/env python3
"""router_faults.py - workers that fail and a cloud that fails, against the real router.

    top_builddir=build python3 tests/box/router_faults.py [test_name...]

HEARTH_LONG=1: 100 kills of a worker with 16 streams each; else 5.
"""
import json
import os
import signal
import time

from box import (LONG, SANITIZED, Cloud, Router, content_of, main, percentile, post, read_all,
                 read_until, wait_for)
from rack import free_port

CHAIN = """
[upstream cloud]
url = %s
first_token_ms = 400
idle_ms = 400
connect_ms = 500
[alias tiny]
chain = upstream:cloud/big worker:tiny-local
[alias local]
chain = worker:tiny-local
[alias only]
chain = upstream:cloud/big
"""


def test_killed_worker_with_16_streams_tells_every_client():
    rounds = 100 if LONG else 5
    # the records of the latest requests fill up, by design, to log.keep_requests: full before sizes are taken
    with Router(options=("log.keep_requests=%d" % (160 if LONG else 16),)) as r:
        fds = rss = 0
        for k in range(rounds):
            w = r.worker(wait=False)
            wait_for(lambda: any(x["pid"] == w.proc.pid for x in r.status()["workers"]))
            ss = [r.stream("tokens=100000 delay=20") for _ in range(16)]
            for s in ss:
                read_until(s, b"t0 ")
            w.kill()
            for s in ss:
                tail = read_all(s, 5)
                assert b'data: {"error"' in tail and b"[DONE]" not in tail, tail[-300:]
                s.close()
            assert r.status()["requests"] == 0
            if k == (10 if LONG else 1):    # warm
                fds, rss = r.fds(), r.rss_kib()
        fds2, rss2 = r.fds(), r.rss_kib()
        assert fds2 <= fds + 1, (fds, fds2)
        assert SANITIZED or rss2 - rss <= 1024, (rss, rss2)
        r.worker()
        assert r.chat("tokens=2")[0] == 200
    return "%d kills: descriptors %d -> %d, memory %+d KiB" % (rounds, fds, fds2, rss2 - rss)


def test_waiting_requests_of_a_lost_worker_go_to_another():
    with Router() as r:
        a = r.worker("w1")
        ss = [r.stream("first=60000 who=w1 tokens=2") for _ in range(4)]
        wait_for(lambda: len(a.seen("generate")) == 4)
        r.worker("w2")
        # the mock waits on both; w2 gets them with the wait still in the text, so answer it
        # quickly there
        a.kill()
        wait_for(lambda: sum(w["requests"] for w in r.status()["workers"]) == 4)
        for s in ss:
            s.close()
        s, h, d = r.chat("tokens=2")
        assert h["x-hearth-served-by"] == "worker:w2"


def test_not_streamed_answers_survive_a_death_in_the_middle():
    with Router() as r:
        r.worker("w1")
        r.worker("w2", cls="other-class")
        n1 = 0
        for _ in range(4):
            s, h, d = r.chat("tokens=6 fault=die who=w1 at=3")
            assert s == 200 and d["choices"][0]["message"]["content"] == "t0 t1 t2 t3 t4 t5 ", d
            n1 += "lost" in h["x-hearth-attempts"]
        assert n1 == 1, "w1 died once"


def test_without_another_worker_the_status_is_a_true_503():
    with Router() as r:
        w = r.worker()
        import threading
        box = {}
        t = threading.Thread(target=lambda: box.update(x=r.chat("first=60000", stream=False)))
        t.start()
        wait_for(lambda: w.seen("generate"))
        w.kill()
        t.join()
        s, h, d = box["x"]
        assert s == 503 and int(h["retry-after"]) >= 1 and int(h["retry-after-ms"]) > 0, (s, h)
        assert d["error"]["code"] == "upstream_unavailable"
        s, h, d = r.chat("x")
        assert s == 503 and "retry-after" in h, "known but gone: not a 404"
        assert r.chat("x", model="never")[0] == 404


def test_a_stream_goes_on_exactly_at_a_worker_of_the_same_class():
    rounds = 20 if LONG else 4
    with Router() as r:
        for k in range(rounds):
            a = r.worker("w1")
            b = r.worker("w2")
            s = r.stream("tokens=60 delay=5 reason=3")
            head = read_until(s, b"t%d " % (5 + 2 * k % 30))
            (a if b"worker:w1" in head else b).kill()
            text, done, error = content_of(head + read_all_done(s))
            assert done and not error, error
            assert text == "".join("t%d " % i for i in range(3, 60)), text
            for w in (a, b):
                w.kill()
            wait_for(lambda: not r.status()["workers"])
    return "%d streams, no token lost or said twice" % rounds


def read_all_done(s):
    return read_until(s, b"data: [DONE]\n\n\r\n")


def test_another_class_does_not_go_on_with_a_stream():
    with Router() as r:
        a = r.worker("w1", cls="c1")
        s = r.stream("tokens=60 delay=5")
        head = read_until(s, b"t5 ")
        r.worker("w2", cls="c2")
        a.kill()
        text, done, error = content_of(head + read_all(s))
        assert not done and error and error["code"] == "upstream_unavailable"


def test_worker_faults_move_the_request_on():
    with Router("[bus]\ndead_ms = 1500\n") as r:
        for fault in ("refuse", "drain", "context", "fail", "gap", "garbage", "die"):
            a = r.worker("w1")
            b = r.worker("w2")
            used = set()
            for _ in range(4):
                s, h, d = r.chat("tokens=4 who=w1 fault=%s" % fault)
                assert s == 200, (fault, s, d)
                assert d["choices"][0]["message"]["content"] == "t0 t1 t2 t3 ", (fault, d)
                used.add(h["x-hearth-attempts"])
            assert any("worker:w1=" in u and "worker:w2=ok" in u for u in used), (fault, used)
            a.kill()
            b.kill()
            wait_for(lambda: not r.status()["workers"])
        w = r.worker("w1")
        s, h, d = r.chat("fault=bad")
        assert (
            s == 400 and d["error"]["param"] == "messages" and d["error"]["code"] == "invalid_value"
        )
        s, h, d = r.chat("fault=context")
        assert s == 400 and d["error"]["code"] == "context_length_exceeded"
        s, h, d = r.chat("fault=refuse")
        assert s == 503 and h["retry-after-ms"] == "250" and h["retry-after"] == "1", h


def test_a_silent_worker_is_given_up():
    with Router("[bus]\ndead_ms = 1000\nbeat_ms = 200\n") as r:
        r.worker("w1")
        t = time.monotonic()
        s, h, d = r.chat("fault=silent")
        took = time.monotonic() - t
        assert s == 503 and took < 3, (s, took)
    return "after %.1f s" % took


def test_a_stopped_worker_is_noticed_within_3_s():
    with Router() as r:
        w = r.worker()
        w.proc.send_signal(signal.SIGSTOP)
        t = time.monotonic()
        wait_for(lambda: not r.status()["workers"], 6)
        took = time.monotonic() - t
        w.proc.send_signal(signal.SIGCONT)
        wait_for(lambda: r.status()["workers"], 20)
        assert r.chat("tokens=1")[0] == 200
        assert took < 4.5, took
    return "after %.1f s" % took


def test_a_hung_request_ends_at_its_limit():
    with Router("[route]\nfirst_token_s = 1\n") as r:
        w = r.worker()
        t = time.monotonic()
        s, h, d = r.chat("fault=hang")
        assert s == 504 and time.monotonic() - t < 2.5, (s, d)
        wait_for(lambda: w.seen("cancel"))


def test_commit_window_and_keep_alive():
    with Router("[route]\ngrace_ms = 300\nkeepalive_ms = 200\n") as r:
        w = r.worker()
        t = time.monotonic()
        s = r.stream("first=1500 tokens=2")
        head = read_until(s, b"\r\n\r\n")
        at = time.monotonic() - t
        assert head.startswith(b"HTTP/1.1 200") and 0.25 < at < 0.8, at
        raw = head + read_until(s, b"[DONE]")
        assert raw.count(b": keep-alive\n\n") >= 4, raw
        assert b"\r\nx-hearth-served-by" not in head
        assert b': {"hearth":{' in raw and b'"served_by":"worker:w1"' in raw
        # fallback still works after the commit, and a total failure is an event
        r.worker("w2")
        s = r.stream("first=800 tokens=3 fault=fail at=0 who=w1")
        assert b"t2 " in read_until(s, b"[DONE]")
        s = r.stream("first=800 fault=fail")
        raw = read_all(s)
        assert raw.startswith(b"HTTP/1.1 200") and b'data: {"error"' in raw and b"[DONE]" not in raw
        # not streamed: never early
        t = time.monotonic()
        c = r.chat("first=800 fault=refuse")
        assert c[0] == 503, c


def test_two_workers_share_the_load():
    with Router() as r:
        a, b = r.worker("w1"), r.worker("w2")
        ss = [r.stream("tokens=1000 delay=50") for _ in range(20)]
        for s in ss:
            read_until(s, b"t0 ")
        wait_for(lambda: sum(len(w.seen("generate")) for w in (a, b)) == 20)
        assert len(a.seen("generate")) == 10, len(a.seen("generate"))


def test_the_chain_falls_to_the_local_worker_and_goes_back():
    cloud = Cloud()
    out = []
    try:
        with Router(CHAIN % cloud.url + "[route]\nbreaker_failures = 3\nbreaker_ms = 300\n") as r:
            r.worker("w1", "tiny-local")
            s, h, d = r.chat("tokens=3")
            assert h["x-hearth-served-by"] == "upstream:cloud", (h, d)
            assert d["choices"][0]["message"]["content"] == "cloud says h\u00e9llo"
            assert d["choices"][0]["message"]["reasoning_content"] == "hm "
            assert d["usage"]["total_tokens"] == 8
            for mode in (
                "500",
                "429",
                "hang",
                "silent",
                "cut",
                "garbage",
                "error",
                "html",
                "redirect",
                "400",
            ):
                cloud.mode = mode
                s, h, d = r.chat("tokens=3")
                assert s == 200 and h["x-hearth-served-by"] == "worker:w1", (mode, s, h, d)
                assert d["choices"][0]["message"]["content"] == "t0 t1 t2 "
                assert h["x-hearth-attempts"].startswith("upstream:cloud="), h
                assert d["hearth"]["served_by"] == "worker:w1"
                out.append("%s: %s" % (mode, h["x-hearth-attempts"].split(",")[0].split("=")[1]))
                raw = read_until(r.stream("tokens=3"), b"[DONE]")
                assert b"t2 " in raw and b"worker:w1" in raw, (mode, raw)
                cloud.mode = "ok"
                wait_for(lambda: r.chat("x")[1]["x-hearth-served-by"] == "upstream:cloud", 8, 0.2)
            cloud.mode = "midcut"       # after the first token: the error event
            raw = read_all(r.stream("x"))
            assert b"half" in raw and b'data: {"error"' in raw and b"[DONE]" not in raw, raw
            s, h, d = r.chat("tokens=2")    # not streamed: nobody saw the half
            assert (
                h["x-hearth-served-by"] == "worker:w1"
                and d["choices"][0]["message"]["content"] == "t0 t1 "
            )
            cloud.server.shutdown()
            cloud.server.server_close()     # refused
            for _ in range(6):
                s, h, d = r.chat("tokens=3")
                assert s == 200 and h["x-hearth-served-by"] == "worker:w1", (s, h)
            out.append("closed: " + h["x-hearth-attempts"])
            assert '"state":"up"' not in json.dumps(
                r.status()["upstreams"], separators=(",", ":")
            ), r.status()
    finally:
        cloud.hold.set()
    return "; ".join(out)


def test_routers_whose_chains_lead_to_each_other_pass_nothing_to_and_fro():
    def pair(first, second):
        ports = free_port(), free_port()
        conf = "[upstream peer]\nurl = http://127.0.0.1:%d/v1\nprobe = no\n[alias tiny]\nchain = %s\n"
        return (Router(conf % (ports[1], first), ["http.listen=127.0.0.1:%d" % ports[0]]),
                Router(conf % (ports[0], second), ["http.listen=127.0.0.1:%d" % ports[1]]))

    def asked(r):
        return r.status()["upstreams"][0]["requests"]

    a, b = pair("worker:tiny upstream:peer", "worker:tiny upstream:peer")
    with a, b:                 # nobody serves it: each has asked the other once
        s, h, d = a.chat("tokens=1")
        assert s == 503 and "lead back to this router" in d["error"]["message"], (s, d)
        assert (asked(a), asked(b)) == (1, 1) and a.status()["requests"] == b.status()["requests"] == 0
    a, b = pair("upstream:peer worker:tiny", "worker:tiny upstream:peer")
    with a, b:                 # it comes back, and the router's own worker answers
        a.worker()
        s, h, d = a.chat("tokens=1")
        assert s == 200 and (asked(a), asked(b)) == (1, 1), (s, d)
        assert b.chat("tokens=1")[0] == 200 and b.chat("tokens=1")[0] == 200
    a, b = pair("upstream:peer", "worker:tiny")
    with a, b:                 # what others write there counts for nothing
        b.worker()
        body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "tokens=1"}]}).encode()
        for via in ("", "nonsense", "1.1 proxy", "0123456789abcdef, fedcba9876543210"):
            assert a.get("/v1/chat/completions", "POST", {"x-hearth-via": via}, body)[0] == 200, via
        assert a.get("/v1/chat/completions", "POST", {"x-hearth-via": "a" * 900}, body)[0] == 503
    with Router("[upstream me]\nurl = http://127.0.0.1:%d/v1\n[alias tiny]\nchain = upstream:me\n" % (port := free_port()),
                ["http.listen=127.0.0.1:%d" % port]) as r:
        assert r.chat("tokens=1")[0] == 503 and asked(r) == 1


def test_the_cloud_gets_what_it_should_and_no_more():
    cloud = Cloud()
    try:
        key = os.path.join("/tmp", "hearth-key-%d" % os.getpid())
        with open(key, "w") as f:
            f.write("sk-cloud-secret\n")
        with Router(CHAIN % cloud.url + "[upstream cloud]\nkey_file = %s\n" % key) as r:
            s, h, d = r.chat(
                "x",
                temperature=0.5,
                user="me",
                metadata={"a": "b"},
                chat_template_kwargs={"a": 1},
                tools=[{"type": "function", "function": {"name": "f", "parameters": {"x": 1.10}}}],
            )
            assert s == 200, d
            body, headers = cloud.requests[-1]
            assert body["model"] == "big" and body["stream"] is True and body["temperature"] == 0.5
            assert not {"user", "metadata", "chat_template_kwargs"} & set(body), body
            assert body["stream_options"] == {"include_usage": True} and body["tools"]
            assert headers["Authorization"] == "Bearer sk-cloud-secret"
            assert "sk-cloud" not in r.log_text() and "sk-cloud" not in json.dumps(r.status())
            for mode, names in (("tools0", ["f0", "f1"]), ("noindex", ["f", "g"])):
                cloud.mode = mode
                s, h, d = r.chat("x", model="only")
                calls = d["choices"][0]["message"]["tool_calls"]
                assert [c["function"]["name"] for c in calls] == names, calls
                for c in calls:
                    json.loads(c["function"]["arguments"])
                assert d["choices"][0]["finish_reason"] == "tool_calls", d
            cloud.mode = "429"
            s, h, d = r.chat("x", model="only")
            assert (
                s == 429 and h["retry-after"] == "1" and d["error"]["code"] == "rate_limit_exceeded"
            ), (s, h, d)
            s, h, d = r.chat("x", model="only")
            assert s == 503 and int(h["retry-after-ms"]) <= 1001, (s, h)
            time.sleep(1.1)
            cloud.mode = "400"
            s, h, d = r.chat("x", model="only")
            assert s == 400 and d["error"]["param"] == "tools", (s, d)
        os.unlink(key)
    finally:
        cloud.close()


if __name__ == "__main__":
    main(dict(globals()))

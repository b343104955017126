#!/usr/bin/env python3
"""router_dialect.py - what clients of the OpenAI dialect rely on, byte by byte, against the real
router.

    top_builddir=build python3 tests/box/router_dialect.py [test_name...]

Standard library only; what the official client makes of it is in router_openai.py.  The T-numbers
are
those of the list in docs/dialect.md, which says for each where it is shown.
"""
import json
import os
import re
import socket
import threading
import time

from box import Cloud, Router, main, post, read_all, read_until, wait_for

os.environ["MOCK_TELL"] = "1"    # mock workers print what they were asked
TOOLS = [{"type": "function", "function": {"name": "f%d" % i, "parameters": {"type": "object"}}}
         for i in range(2)]


def frames(raw):
    """The events of a chunked stream, each as its lines."""
    at = raw.index(b"\r\n\r\n") + 4
    data = bytearray()
    while at < len(raw):
        end = raw.index(b"\r\n", at)
        n = int(raw[at:end], 16)
        data += raw[end + 2:end + 2 + n]
        at = end + 4 + n
        if n == 0:
            break
    return [f.split("\n") for f in data.decode().split("\n\n") if f]


def chunks(raw):
    """The JSON of each event of a stream that ended with [DONE]."""
    lines = [x for f in frames(raw) for x in f if not x.startswith(":")]
    assert lines[-1] == "data: [DONE]", lines[-1]
    return [json.loads(x[len("data: "):]) for x in lines[:-1]]


def streamed(r, text, **more):
    return read_until(r.stream(text, **more), b"0\r\n\r\n")


class Torn:
    """An upstream that sends its stream in pieces of n bytes, each in a segment of its own."""

    def __init__(self, data, n):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d/v1" % self.socket.getsockname()[1]
        self.data, self.n = data, n
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                s, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(s,), daemon=True).start()

    def answer(self, s):
        head = b""
        while b"\r\n\r\n" not in head:
            d = s.recv(65536)
            if not d:
                return
            head += d
        if not head.startswith(b"POST"):
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            return
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        )
        for i in range(0, len(self.data), self.n):
            s.sendall(self.data[i:i + self.n])
            if self.n < 10:
                time.sleep(0.0005)
        s.close()

    def close(self):
        self.socket.close()


def upstream_stream(words, before=b""):
    out = before
    for delta, finish in (
        [({"role": "assistant", "content": ""}, None)]
        + [({"content": w}, None) for w in words]
        + [({}, "stop")]
    ):
        out += (
            b"data: "
            + json.dumps(
                {
                    "id": "c",
                    "object": "chat.completion.chunk",
                    "created": 1,
                    "model": "m",
                    "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
                },
                ensure_ascii=False,
            ).encode()
            + b"\n\n"
        )
    return out + b"data: [DONE]\n\n"


ID = re.compile(rb"\r\nx-request-id: (req-[0-9a-f]{24})\r\n", re.I)


def test_every_reply_has_a_request_id_of_its_own():
    with Router() as r:
        r.worker()
        seen = []
        for path in (
            "/",
            "/health",
            "/metrics",
            "/admin/status",
            "/v1/models",
            "/v1/models/tiny",
            "/v1/models/none",
            "/none",
            "/v1/chat/completions",
        ):
            seen.append(r.get(path)[1]["x-request-id"])
        for more in ({}, {"stream": True}, {"temperature": 9}, {"model": "none"}):
            body = {"model": "tiny", "messages": [{"role": "user", "content": "tokens=2"}], **more}
            s, h, d = r.get("/v1/chat/completions", "POST", {}, json.dumps(body))
            seen.append(h["x-request-id"])
            if s == 200 and not more:
                assert json.loads(d)["hearth"]["request_id"] == h["x-request-id"]
                assert h["x-request-id"][4:] in json.loads(d)["id"]
                wait_for(lambda: "request %s " % h["x-request-id"] in r.log_text(), 5)
        for raw in (
            b"OPTIONS / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"HEAD / HTTP/1.0\r\n\r\n",
            b"NONSENSE\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        ):
            s = r.connect()
            s.sendall(raw)
            seen.append(ID.search(read_all(s)).group(1).decode())
        s = r.connect()     # two of one connection
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        time.sleep(0.2)
        seen += [x.decode() for x in ID.findall(s.recv(65536))]
        assert len(seen) == len(set(seen)) == 19, seen


def test_another_servers_retry_after_is_believed_within_a_day():
    cloud = Cloud()
    cloud.mode = "429"
    try:
        for said, told in (("-5", 1000), ("nan", 1000), ("soon", 1000), ("2.5", 2500), ("1e300", 86400000)):
            cloud.retry_after = said
            with Router("[upstream c]\nurl = %s\n[alias a]\nchain = upstream:c\n" % cloud.url) as r:
                s, h, d = r.chat("x", model="a")
                assert s == 429 and h["retry-after-ms"] == str(told), (said, s, h, d)
    finally:
        cloud.close()


def test_retries_are_called_off_where_they_are_hopeless():
    cloud = Cloud()
    try:
        with Router(
            "[upstream c]\nurl = %s\n[alias a]\nchain = upstream:c\n[alias b]\nchain = upstream:c worker:tiny\n"
            "[route]\nanswer_s = 1\nbreaker_failures = 100\n" % cloud.url
        ) as r:
            for mode, status, hopeless in (
                ("401", 503, True),
                ("429", 429, False),
                ("500", 502, False),
            ):
                cloud.mode = mode
                wait_for(
                    lambda: r.chat("x", model="a")[0] == status, 5
                )  # 429 cools the target for a second
                s, h, d = (
                    r.chat("x", model="a")
                    if mode != "429"
                    else (429, {"retry-after-ms": "1"}, None)
                )
                assert s == status and (h.get("x-should-retry") == "false") == hopeless, (
                    mode,
                    s,
                    h,
                    d,
                )
                assert not (hopeless and "retry-after" in h), h
            cloud.mode = "401"
            s, h, d = r.chat("x", model="b")       # the chain's worker may come
            assert s == 503 and "x-should-retry" not in h, (s, h)
            r.worker()
            s, h, d = r.chat("first=5000", model="tiny")
            assert (
                s == 504 and h["x-should-retry"] == "false" and d["error"]["code"] == "timeout"
            ), (s, h, d)
            s, h, d = r.chat("fault=refuse")
            assert (
                s == 503
                and h["retry-after-ms"] == "250"
                and h["retry-after"] == "1"
                and "x-should-retry" not in h
            )
            for raw, status in (
                (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
                (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", b"505"),
            ):
                s = r.connect()
                s.sendall(raw)
                a = read_all(s)
                assert a.split(b" ")[1] == status and b"\r\nx-should-retry: false\r\n" in a, a
    finally:
        cloud.close()


def test_a_thousand_comments_before_the_first_chunk_are_harmless():
    torn = Torn(upstream_stream(["hi"], b": processing\n\n" * 1000), 65536)
    try:
        with Router("[upstream c]\nurl = %s\n[alias a]\nchain = upstream:c\n" % torn.url) as r:
            assert r.chat("x", model="a")[2]["choices"][0]["message"]["content"] == "hi"
    finally:
        torn.close()


def test_no_frame_has_an_event_name_or_empty_data():
    with Router("[route]\ngrace_ms = 100\nkeepalive_ms = 100\n") as r:
        r.worker()
        raws = [streamed(r, "tokens=3 reason=1"), streamed(r, "tokens=1 tools=2", tools=TOOLS),
                streamed(r, "tokens=2 first=500"), streamed(r, "tokens=4 at=2 fault=fail"),
                streamed(r, "tokens=2", stream_options={"include_usage": True}),
                streamed(r, "tokens=2", logprobs=True, n=2)]
        for raw in raws:
            for f in frames(raw):
                for line in f:
                    assert line.startswith(": ") or (line.startswith("data: ") and len(line) > 6), f
        assert b": keep-alive" in raws[2] and b'data: {"error"' in raws[3]


def test_every_chunk_has_the_five_and_four_of_them_never_change():
    with Router() as r:
        r.worker()
        for more in ({}, {"tools": TOOLS}, {"n": 2}, {"logprobs": True, "top_logprobs": 1},
                     {"stream_options": {"include_usage": True}}):
            text = "tokens=3 reason=1" + (" tools=2" if "tools" in more else "")
            cs = chunks(streamed(r, text, **more))
            assert all({"id", "object", "created", "model", "choices"} <= set(c) for c in cs), cs
            assert len({(c["id"], c["object"], c["created"], c["model"]) for c in cs}) == 1, cs
            assert cs[0]["object"] == "chat.completion.chunk" and cs[0]["model"] == "tiny"
            with_usage = [c for c in cs if c.get("usage")]
            if "stream_options" in more:        # one, the last, without choices
                assert with_usage == cs[-1:] and cs[-1]["choices"] == [], cs
                assert cs[-1]["usage"]["completion_tokens"] == 3
            else:
                assert not with_usage and all(c["choices"] for c in cs)


def test_calls_are_numbered_named_once_and_end_as_tool_calls():
    with Router() as r:
        r.worker()
        cs = chunks(
            streamed(
                r, "tokens=1 tools=2", tools=TOOLS, parallel_tool_calls=True, tool_choice="auto"
            )
        )
        seen, finish = {}, None
        for c in cs:
            for t in c["choices"][0]["delta"].get("tool_calls", []):
                if t["index"] not in seen:
                    assert (
                        t["id"]
                        and t["function"]["name"] == "f%d" % t["index"]
                        and t["type"] == "function"
                    ), t
                    seen[t["index"]] = ""
                else:
                    assert "id" not in t and "name" not in t["function"], t
                seen[t["index"]] += t["function"].get("arguments", "")
            finish = c["choices"][0]["finish_reason"] or finish
        assert seen == {0: '{"a":0}', 1: '{"a":1}'} and finish == "tool_calls", (seen, finish)


def test_characters_torn_over_segments_survive():
    words = ["h\u00e9", "\u4f60\u597d", "\U0001f642", " e\u0301 "]
    for n in (1, 2, 3):
        torn = Torn(upstream_stream(words), n)
        try:
            with Router("[upstream c]\nurl = %s\n[alias a]\nchain = upstream:c\n" % torn.url) as r:
                got = "".join(
                    c["choices"][0]["delta"].get("content") or ""
                    for c in chunks(streamed(r, "x", model="a"))
                )
                assert got == "".join(words), (n, got)
        finally:
            torn.close()


SAMPLING = {"temperature": 0.5, "top_p": 0.25, "top_k": 7, "min_p": 0.125, "presence_penalty": 1.5,
            "frequency_penalty": -0.5,
            "repetition_penalty": 1.25, "seed": 11}


def test_what_is_asked_reaches_the_worker():
    with Router() as r:
        w = r.worker()

        def asked(**more):
            n = len(w.seen("asked"))
            s, h, d = r.chat("tokens=2", **more)
            assert s == 200, (more, d)
            wait_for(lambda: len(w.seen("asked")) > n)
            return dict(x.split("=", 1) for x in w.seen("asked")[-1][2:])

        a = asked(**SAMPLING)
        assert {k: float(a[k]) for k in SAMPLING} == SAMPLING, a
        a = asked()
        assert not set(SAMPLING) - {"seed"} & set(a), a  # what is not said is the model's to say
        a = asked(stop=["x", "yy"], logit_bias={"5": -100, "9": 3})
        assert a["stop"] == "x,yy" and a["bias"] == "5:-100,9:3", a
        assert asked(stop="z")["stop"] == "z"
        assert asked(max_tokens=9)["max_tokens"] == "9"
        assert asked(max_completion_tokens=8)["max_tokens"] == "8"
        assert asked(max_tokens=5, max_completion_tokens=6)["max_tokens"] == "5"
        assert asked(n=3)["n"] == "3"
        a = asked(logprobs=True, top_logprobs=4)
        assert a["logprobs"] == "1" and a["top_logprobs"] == "4", a
        # what the template reads is in the body, byte for byte
        before = len(w.seen("chat"))
        assert (
            r.chat(
                "tokens=1", tools=TOOLS, chat_template_kwargs={"enable_thinking": False, "x": 1.10}
            )[0]
            == 200
        )
        wait_for(lambda: len(w.seen("chat")) > before)
        body = json.loads(bytes.fromhex(w.seen("chat")[-1][2]))
        assert body["tools"] == TOOLS and body["chat_template_kwargs"] == {
            "enable_thinking": False,
            "x": 1.1,
        }


def test_a_seed_comes_back_as_it_was_sent():
    with Router() as r:
        r.worker()
        for seed in (-5, 0, 7, 2**63 - 1, -2**63):
            s, h, d = r.chat("tokens=1", seed=seed)
            assert s == 200 and h["x-hearth-seed"] == str(seed), (seed, s, h)
            assert d["hearth"]["seed"] == seed, (seed, d)
        s, h, d = r.chat("tokens=1")
        assert r.chat("tokens=1", seed=int(h["x-hearth-seed"]))[0] == 200, h


def test_the_list_of_models_stays_the_same():
    with Router("[alias nice]\nchain = worker:tiny\n") as r:
        r.worker()
        first, end = r.get("/v1/models")[2], time.monotonic() + 1.2
        while time.monotonic() < end:      # over a second's end, and the router's own
            assert r.get("/v1/models")[2] == first
            time.sleep(0.01)


def test_a_page_may_read_what_the_client_goes_by():
    with Router() as r:
        shown = r.get("/v1/models", headers={"Origin": "http://page.example"})[1]["access-control-expose-headers"].split(", ")
        assert {"x-request-id", "retry-after", "retry-after-ms", "x-should-retry", "x-hearth-ignored"} <= set(shown), shown


def test_an_unknown_effort_is_ignored_and_said():
    with Router() as r:
        r.worker()
        for level in ("none", "minimal", "low", "medium", "high", "xhigh"):
            s, h, d = r.chat("tokens=1", reasoning_effort=level, verbosity="low")
            assert s == 200 and "x-hearth-ignored" not in h, (level, h)
        s, h, d = r.chat("tokens=1", reasoning_effort="heroic")
        assert s == 200 and h["x-hearth-ignored"] == "reasoning_effort", h
        assert r.chat("tokens=1", reasoning_effort=5)[0] == 400


def test_reasoning_fields_are_as_configured():
    for choice, names in (
        ("both", ["reasoning", "reasoning_content"]),
        ("reasoning", ["reasoning"]),
        ("reasoning_content", ["reasoning_content"]),
    ):
        with Router("[openai]\nreasoning_fields = %s\n" % choice) as r:
            r.worker()
            m = r.chat("tokens=3 reason=2")[2]["choices"][0]["message"]
            assert (
                sorted(k for k in m if k.startswith("reasoning")) == names
                and m[names[0]] == "t0 t1 "
            ), m
            texts = {}
            for c in chunks(streamed(r, "tokens=3 reason=2")):
                for k, v in c["choices"][0]["delta"].items():
                    texts[k] = texts.get(k, "") + (v or "")
            assert sorted(k for k in texts if k.startswith("reasoning")) == names, texts
            assert all(texts[k] == "t0 t1 " for k in names) and texts["content"] == "t2 ", texts


def test_an_assistant_turn_comes_back_with_either_name_of_its_reasoning():
    with Router() as r:
        w = r.worker()
        for field in ("reasoning", "reasoning_content"):
            before = len(w.seen("chat"))
            m = [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "a", field: "because"},
                {"role": "user", "content": "tokens=1"},
            ]
            assert r.chat("", messages=m)[0] == 200
            wait_for(lambda: len(w.seen("chat")) > before)
            got = json.loads(bytes.fromhex(w.seen("chat")[-1][2]))["messages"][1]
            assert got.get("reasoning_content", got.get("reasoning")) == "because", got


if __name__ == "__main__":
    main(dict(globals()))

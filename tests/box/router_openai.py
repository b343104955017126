#!/usr/bin/env python3
"""router_openai.py - the official OpenAI client against the real router and a mock worker.

    top_builddir=build HEARTH_PYTHON=/work/venv/bin/python $HEARTH_PYTHON tests/box/router_openai.py

Skips (77) without the package `openai`.  The T-numbers are those of the conformance list in the
design.
"""
import json
import socket
import sys
import threading
import time

from box import LONG, Cloud, Router, Skip, main, post, read_until, wait_for

try:
    import openai
except ImportError:
    print("skipped: the Python package openai is not there")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(77)

TOOLS = [{"type": "function", "function": {"name": "f0", "parameters": {"type": "object"}}},
         {"type": "function", "function": {"name": "f1", "parameters": {"type": "object"}}}]


def client(r, **more):
    return openai.OpenAI(base_url=r.url + "/v1", api_key="none", **more)


def say(text):
    return [{"role": "user", "content": text}]


def test_chat_streamed_and_not():
    with Router() as r:
        r.worker()
        c = client(r)
        a = c.chat.completions.create(model="tiny", messages=say("tokens=4 reason=1"))
        assert a.choices[0].message.content == "t1 t2 t3 " and a.choices[0].finish_reason == "stop"
        assert a.choices[0].message.reasoning_content == a.choices[0].message.reasoning == "t0 "
        assert (
            a.usage.total_tokens == 11
            and a.system_fingerprint == "class-1"
            and a.object == "chat.completion"
        )
        chunks = list(
            c.chat.completions.create(model="tiny", messages=say("tokens=4 reason=1"), stream=True)
        )
        assert "".join(x.choices[0].delta.content or "" for x in chunks) == "t1 t2 t3 "
        assert chunks[0].choices[0].delta.role == "assistant"
        assert len({(x.id, x.object, x.created, x.model) for x in chunks}) == 1       # T-15
        assert all(x.usage is None and len(x.choices) == 1 for x in chunks)  # T-55: not unasked
        assert chunks[-1].choices[0].finish_reason == "stop"
        # length
        a = c.chat.completions.create(
            model="tiny", messages=say("tokens=4"), max_tokens=3, max_completion_tokens=2
        )
        assert a.choices[0].message.content == "t0 t1 "


def test_usage_comes_last_and_only_when_asked():
    with Router() as r:
        r.worker()
        chunks = list(client(r).chat.completions.create(
            model="tiny", messages=say("tokens=4"), stream=True,
            stream_options={"include_usage": True, "include_obfuscation": False}))
        assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 4
        assert all(x.usage is None for x in chunks[:-1])


def test_parallel_tool_calls():
    with Router() as r:
        r.worker()
        c = client(r)
        m = c.chat.completions.create(model="tiny", messages=say("tokens=1 tools=2"), tools=TOOLS)
        calls = m.choices[0].message.tool_calls
        assert [x.function.name for x in calls] == ["f0", "f1"] and m.choices[
            0
        ].finish_reason == "tool_calls"
        assert [json.loads(x.function.arguments) for x in calls] == [{"a": 0}, {"a": 1}]
        seen = {}
        last = None
        for x in c.chat.completions.create(
            model="tiny", messages=say("tokens=1 tools=2"), tools=TOOLS, stream=True
        ):
            for t in x.choices[0].delta.tool_calls or []:
                s = seen.setdefault(t.index, {"ids": 0, "names": 0, "args": ""})
                s["ids"] += t.id is not None
                s["names"] += t.function.name is not None
                s["args"] += t.function.arguments or ""
            last = x.choices[0].finish_reason
        assert last == "tool_calls"                                                      # T-17
        assert seen == {
            0: {"ids": 1, "names": 1, "args": '{"a":0}'},
            1: {"ids": 1, "names": 1, "args": '{"a":1}'},
        }
        with c.chat.completions.stream(
            model="tiny", messages=say("tokens=1 tools=2"), tools=TOOLS
        ) as s:
            final = s.get_final_completion()
        assert [x.function.name for x in final.choices[0].message.tool_calls] == ["f0", "f1"]


def test_logprobs_and_choices():
    with Router() as r:
        r.worker()
        c = client(r)
        a = c.chat.completions.create(
            model="tiny", messages=say("tokens=3"), logprobs=True, top_logprobs=1, n=2
        )
        assert len(a.choices) == 2
        for ch in a.choices:
            assert [x.token for x in ch.logprobs.content] == ["t0 ", "t1 ", "t2 "]
            assert ch.logprobs.content[0].top_logprobs[0].logprob == -0.5
            assert bytes(ch.logprobs.content[0].bytes) == b"t0 "
        got = []
        for x in c.chat.completions.create(
            model="tiny", messages=say("tokens=3"), logprobs=True, stream=True
        ):
            if x.choices[0].logprobs:
                got += [y.token for y in x.choices[0].logprobs.content]
        assert got == ["t0 ", "t1 ", "t2 "]
        a = c.completions.create(model="tiny", prompt="tokens=3", logprobs=1)
        assert a.choices[0].text == "t0 t1 t2 " and a.choices[0].logprobs.text_offset == [0, 3, 6]
        assert (
            a.choices[0].logprobs.tokens == ["t0 ", "t1 ", "t2 "] and a.object == "text_completion"
        )
        text = "".join(
            x.choices[0].text
            for x in c.completions.create(model="tiny", prompt="tokens=3", stream=True)
        )
        assert text == "t0 t1 t2 "


def test_a_model_whose_name_has_a_slash_is_found():
    with Router("[alias Qwen/Qwen3-8B]\nchain = worker:tiny\n") as r:
        r.worker()
        r.worker("w2", model="a%b")
        c = client(r)
        for name in ("Qwen/Qwen3-8B", "a%b", "tiny"):
            assert c.models.retrieve(name).id == name           # the client escapes / and %
        for path in ("Qwen/Qwen3-8B", "Qwen%2fQwen3-8B", "t%69ny", "a%b"):
            assert r.get("/v1/models/" + path)[0] == 200, path
        for path in ("tiny%00", "tiny%", "tiny%2", "%", "tiny%zz", "%00", "tin%FF"):
            s, _, d = r.get("/v1/models/" + path)
            assert s == 404 and json.loads(d.decode("utf-8"))["error"]["code"] == "model_not_found", path


def test_models():
    with Router("[alias nice]\nchain = worker:tiny\n") as r:
        w = r.worker()
        c = client(r)
        assert sorted(m.id for m in c.models.list()) == ["nice", "tiny"]
        m = c.models.retrieve("nice")
        assert m.object == "model" and m.owned_by == "hearth" and m.created > 0
        assert r.get("/models")[0] == r.get("/v1/models")[0] == 200                      # T-1
        try:
            c.models.retrieve("none")
            assert False
        except openai.NotFoundError as e:
            assert e.code == "model_not_found"
        w.kill()
        t = time.monotonic()
        for _ in range(50):
            assert r.get("/v1/models")[0] == 200
        assert (time.monotonic() - t) / 50 < (0.005 if LONG else 0.5)  # T-3


def test_a_429_is_retried_when_it_says_and_errors_raise():
    cloud = Cloud()
    try:
        with Router("[upstream c]\nurl = %s\n[alias a]\nchain = upstream:c\n" % cloud.url) as r:
            c = client(r, max_retries=0)
            cloud.mode = "429"
            try:
                c.chat.completions.create(model="a", messages=say("x"))
                assert False
            except openai.RateLimitError as e:
                assert e.code == "rate_limit_exceeded" and e.request_id.startswith("req-")
            cloud.mode = "ok"
            c = client(r, max_retries=2)
            t = time.monotonic()
            assert (
                c.chat.completions.create(model="a", messages=say("x")).choices[0].message.content
            )  # T-10
            assert time.monotonic() - t > 0.3
            cloud.mode = "midcut"
            try:
                list(c.chat.completions.create(model="a", messages=say("x"), stream=True))
                assert False
            except openai.APIError as e:                                                 # T-13
                assert "cut" in e.message, e
    finally:
        cloud.close()


def test_the_client_does_as_the_router_says_about_retries():
    cloud = Cloud()
    try:
        with Router(
            "[upstream c]\nurl = %s\n[alias a]\nchain = upstream:c\n[route]\nbreaker_failures = 100\n"
            % cloud.url
        ) as r:
            cloud.mode = "401"      # our key is wrong: nobody's retry helps
            try:
                client(r, max_retries=3).chat.completions.create(model="a", messages=say("x"))
                assert False
            except openai.InternalServerError as e:
                assert e.status_code == 503 and e.response.headers["x-should-retry"] == "false"
            assert len(cloud.requests) == 1, len(cloud.requests)                         # T-11
            w = r.worker()
            t = time.monotonic()
            try:
                client(r, max_retries=1).chat.completions.create(
                    model="tiny", messages=say("fault=refuse")
                )
                assert False
            except openai.InternalServerError as e:
                assert e.code == "server_overloaded"
            assert time.monotonic() - t > 0.2           # T-10: retry-after-ms: 250
            wait_for(lambda: len(w.seen("generate")) == 2)
    finally:
        cloud.close()


def test_silence_is_filled_and_a_cut_raises():
    with Router("[route]\ngrace_ms = 100\nkeepalive_ms = 100\n") as r:
        w = r.worker()
        got = list(
            client(r).chat.completions.create(
                model="tiny", messages=say("first=1500 tokens=2"), stream=True
            )
        )
        assert "".join(x.choices[0].delta.content or "" for x in got) == "t0 t1 "         # T-12
        s = client(r, max_retries=0).chat.completions.create(
            model="tiny", messages=say("tokens=10000 delay=5"), stream=True
        )
        try:
            for i, x in enumerate(s):
                if i == 5:
                    w.kill()
            assert False
        except openai.APIError as e:  # T-13, a local target
            assert "w1 was lost" in e.message, e


BAD = [
    ({"temperature": 3}, "temperature"), ({"temperature": "hot"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.5}, "top_p"), ({"top_k": -2}, "top_k"), ({"min_p": 2}, "min_p"),
    ({"presence_penalty": 3}, "presence_penalty"), ({"frequency_penalty": -3}, "frequency_penalty"),
    ({"max_tokens": 0}, "max_tokens"), ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_completion_tokens": -1}, "max_completion_tokens"),
    ({"n": 0}, "n"), ({"n": 1000}, "n"), ({"seed": "x"}, "seed"), ({"seed": 2 ** 70}, "seed"),
    ({"stop": ["a"] * 5}, "stop"), ({"stop": ""}, "stop"), ({"stop": 3}, "stop"),
    ({"logit_bias": {"x": 1}}, "logit_bias"), ({"logit_bias": {"5": 101}}, "logit_bias"),
    ({"logit_bias": []}, "logit_bias"),
    ({"top_logprobs": 2}, "top_logprobs"), ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"stream": "yes"}, "stream"), ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"tools": "x"}, "tools"), ({"tools": [{"type": "web_search"}]}, "tools[0]"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0]"),
    ({"tool_choice": "required"}, "tool_choice"), ({"tools": TOOLS, "tool_choice": "required"},
        "tool_choice"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "zz"}}},
     "tool_choice"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "f0"}}},
     "tool_choice"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
     "response_format"),
    ({"response_format": {"type": "xml"}}, "response_format"), ({"functions": []}, "functions"),
    ({"messages": []}, "messages"), ({"messages": [{"role": "robot", "content": "x"}]},
                                     "messages[0]"),
    ({"messages": [{"role": "user"}]}, "messages[0]"), ({"messages": say("x") + [3]},
        "messages[1]"),
    ({"messages": [{"role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
    ({"model": 3}, "model"), ({"model": ""}, "model"), ({"modalities": ["audio"]}, "modalities"),
    ({"chat_template_kwargs": []}, "chat_template_kwargs"),
    ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
]


def test_bad_fields_are_named():
    with Router() as r:
        w = r.worker()
        for more, param in BAD:
            s, h, d = r.chat("x", **more)
            assert s == 400 and d["error"]["param"] == param, (more, s, d)
            assert sorted(d["error"]) == ["code", "message", "param", "type"]
        assert not w.seen("generate")
        for body in (b"", b"{", b"[]", b"nul", b'{"model":"tiny"}', b'{"messages":[]}', b"\xff\xfe",
                     b'{"model":"tiny","messages":[{"role":"user","content":"\\ud800"}]}'):
            s, h, d = r.get("/v1/chat/completions", "POST", {}, body)
            assert s == 400 and json.loads(d)["error"]["message"], (body, s, d)


def test_good_fields_pass_and_unknown_ones_are_listed():
    with Router() as r:
        r.worker()
        s, h, d = r.chat(
            "tokens=2",
            temperature=0,
            top_p=1,
            top_k=-1,
            seed=-5,
            stop=["x", "y"],
            n=1,
            user="u",
            metadata={},
            store=True,
            service_tier="auto",
            verbosity="low",
            reasoning_effort="high",
            logit_bias={"5": -100},
            response_format={"type": "text"},
            presence_penalty=None,
            parallel_tool_calls=True,
            prompt_cache_key="k",
            safety_identifier="s",
            strange=1,
            other=[2],
        )
        assert s == 200, d
        assert h["x-hearth-ignored"] == "strange, other"
        s, h, d = r.chat("tokens=2", seed=77)
        assert h["x-hearth-seed"] == "77" and d["hearth"]["seed"] == 77
        seeds = {r.chat("tokens=1")[1]["x-hearth-seed"] for _ in range(8)}
        assert len(seeds) == 8
        s, h, d = r.chat("x", model="nope", models=["tiny"])
        assert s == 200 and h["x-hearth-served-by"] == "worker:w1"
        m = [
            {"role": "developer", "content": "d"},
            {
                "role": "assistant",
                "content": None,
                "reasoning": "r",
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "a", "content": "x"},
        ] + say("tokens=2")
        s, h, d = r.chat("", messages=m, reasoning_effort="none")
        assert s == 200 and d["choices"][0]["message"]["content"] == "t0 t1 ", d


def test_abort_cancels():
    with Router() as r:
        w = r.worker()
        s = client(r).chat.completions.create(
            model="tiny", messages=say("tokens=10000 delay=5"), stream=True
        )
        for i, x in enumerate(s):
            if i == 5:
                s.close()
                break
        wait_for(lambda: w.seen("cancel"), 1)                                            # T-20


def test_64_streams_are_each_their_own():
    with Router() as r:
        r.worker("w1")
        r.worker("w2")
        out = {}

        def one(i):
            s = r.stream("tokens=%d delay=1 size=%d" % (50 + i, 10 + i), seed=i)
            out[i] = read_until(s, b"[DONE]")
        ts = [threading.Thread(target=one, args=(i,)) for i in range(64)]
        for t in ts:
            t.start()
        for t in ts:
            t.join()
        for i in range(64):
            assert out[i].count(b'"content":"t') == 50 + i, i


def test_metrics_and_health():
    with Router() as r:
        r.worker()
        r.chat("tokens=3")
        s, h, d = r.get("/metrics")
        text = d.decode()
        assert (
            s == 200
            and text.endswith("# EOF\n")
            and h["content-type"].startswith("application/openmetrics-text")
        )
        assert 'hearth_requests_total{alias="tiny",code="200"} 1' in text
        assert 'hearth_attempts_total{target="worker:w1",result="ok"} 1' in text
        assert (
            'hearth_tokens_total{kind="output"} 3' in text and 'hearth_ttft_seconds_count' in text
        )
        assert json.loads(r.get("/health")[2])["status"] == "ok"


if __name__ == "__main__":
    main(dict(globals()))

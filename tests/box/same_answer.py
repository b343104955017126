#!/usr/bin/env python3
"""64 streamed requests at once get, each, the very answer they get alone (issue 3, must show 4).

    same_answer.py [--build build] [--model models/tiny] [--device cpu] [--requests 64]

Different prompts, lengths, temperatures and seeds; the answers alone are taken first, one by one.
"""
import argparse
import concurrent.futures
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rack as rack_module  # noqa: E402
from box import THREAD_SANITIZED  # noqa: E402

TOOL = {"type": "function",
        "function": {"name": "get_weather", "description": "Get the weather of a city",
                     "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"]}}}


def request(i, model):
    kinds = [
        f"What is {137 + 31 * i} + {58 + 17 * i}?",
        f"The code word is zebra{i}. "
        + "The river is long and the hills are green. " * (i % 23)
        + "What is the code word?",
        f"Tell me a short story about the number {i}.",
        f"What is the weather in city number {i}?",
    ]
    body = {
        "model": model,
        "messages": [{"role": "user", "content": kinds[i % 4]}],
        "max_tokens": 40 + i % 50,
    }
    if i % 4 == 3:
        body["tools"] = [TOOL]
    body["temperature"] = [0, 0.7, 1.0, 0][i % 4]
    body["seed"] = 1000 + i
    return body


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--build", default=os.environ.get("top_builddir", "build"))
    a.add_argument(
        "--model", default=os.path.join(os.environ.get("top_srcdir", "."), "models/tiny")
    )
    a.add_argument("--device", default="cpu")
    a.add_argument("--requests", type=int, default=8 if THREAD_SANITIZED else 64)
    o = a.parse_args()
    if not os.path.exists(os.path.join(o.model, "model.safetensors.index.json")):
        print(f"{o.model} has no weights")
        return 77
    with rack_module.Rack(o.build, o.model, worker_args=["--device", o.device]) as rack:
        bodies = [request(i, rack.alias) for i in range(o.requests)]
        alone = [rack.text(b) for b in bodies]
        with concurrent.futures.ThreadPoolExecutor(o.requests) as pool:
            crowd = list(pool.map(rack.text, bodies))
        bad = [i for i in range(o.requests) if alone[i] != crowd[i]]
        for i in bad[:3]:
            print(f"request {i}:\n  alone {alone[i]}\n  crowd {crowd[i]}")
        said = sum(
            len(x["content"]) + len(x["reasoning"]) + sum(len(c[1]) for c in x["calls"].values())
            for x in alone
        )
        print(f"{o.requests} requests, {said} bytes of text, {len(bad)} differ")
        assert said > 10 * o.requests, "the answers are too short to show anything"
    print(f"{o.requests - len(bad)} passed, {len(bad)} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

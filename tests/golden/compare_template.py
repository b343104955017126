#!/usr/bin/env python3
"""Hold our chat-template interpreter against Jinja2 in the environment of Hugging Face
transformers.

    python3 tests/golden/compare_template.py build/tests/tools/template_driver [options]
        --conversations N   random conversations for each conversation template (default 10000)
        --seed N            of the random conversations (default 1)
        --template PATH     another template to try on the conversations (may be given again)
        --show N            how many differences to print (default 20)

Needs transformers and jinja2 (exits 77 without them).  Compared are
  * every line of tests/golden/templates/*.lines, each a template of its own (\\n, \\r and \\uXXXX
  are
    escapes there), on tests/golden/templates/context.json;
  * random conversations on the official Qwen3.6 template (../shared/data/qwen3.6, skipped where it
  is
    not there), on models/tiny/chat_template.jinja, on templates/*.jinja and on those given;
  * the text, or the message of the error; a line that ends in {#~#} may word its error differently.
Also checked: what the driver says came from the request is where the request's own strings are
(every string of the request carries a private-use character that no template contains).
"""
import argparse
import json
import pathlib
import random
import re
import subprocess
import sys

try:
    import transformers.utils.chat_template_utils as hf
except ImportError:
    print("skipped: transformers is not installed")
    sys.exit(77)

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
NOW = 1700000000


class Clock(hf.datetime):
    """strftime_now() at the driver's time."""

    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, tz)


hf.datetime = Clock


def reference(source, request):
    """("ok", text) or ("error", message) as transformers would have it."""
    kwargs = dict(request.get("chat_template_kwargs") or {})
    try:
        template = hf._compile_jinja_template(source)
    except hf.jinja2.exceptions.TemplateSyntaxError as e:
        return "error", e.message
    except Exception as e:  # noqa: BLE001 - whatever the reference raises is an error to compare
        return "error", str(e)
    variables = {
        "bos_token": "<s>",
        **kwargs,
        "tools": request.get("tools"),
        "documents": request.get("documents"),
        "add_generation_prompt": request.get("add_generation_prompt", True),
    }
    if "messages" in request:
        variables["messages"] = request["messages"]
    try:
        return "ok", template.render(**variables)
    except hf.jinja2.exceptions.TemplateSyntaxError as e:
        return "error", e.message
    except KeyError as e:
        return "error", str(e)
    except Exception as e:  # noqa: BLE001
        return "error", str(e)


class Driver:
    def __init__(self, path):
        self.p = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, line):
        self.p.stdin.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self.p.stdin.flush()
        answer = self.p.stdout.readline()
        if not answer:
            sys.exit(f"the driver ended: {line!r}"[:2000])
        return json.loads(answer)


class Count:
    def __init__(self, show):
        self.same = self.differ = self.errors = 0
        self.show = show

    def check(self, what, expected, answer, loose=False):
        got = (
            ("error", re.sub(r" \(line \d+\)$", "", answer["error"]))
            if "error" in answer
            else ("ok", answer["prompt"])
        )
        if expected[0] == "error" and len(expected[1].encode()) > 480:
            expected, got = ("error", expected[1].encode()[:480]), ("error", got[1].encode()[:480])
        self.errors += expected[0] == "error"
        if expected == got or (loose and expected[0] == got[0] == "error"):
            self.same += 1
            return
        self.differ += 1
        if self.differ <= self.show:
            print(
                f"DIFFERS {what}\n  expected {expected[0]}: {expected[1]!r}\n  got      {got[0]}: {got[1]!r}"
            )


def unescape(line):
    return re.sub(r"\\(n|r|u[0-9a-f]{4})(?![^{]*['\"]\s*[~%}+)|,\]])",
                  lambda m: {"n": "\n", "r": "\r"}.get(m[1]) or chr(int(m[1][1:], 16)), line)


def compare_lines(driver, count):
    request = json.loads((HERE / "templates/context.json").read_text())
    for path in sorted((HERE / "templates").glob("*.lines")):
        for n, line in enumerate(path.read_text().split("\n")[:-1], 1):
            source = unescape(line)
            answer = driver.ask({"text": source, "request": request})
            count.check(
                f"{path.name}:{n}: {line}",
                reference(source, request),
                answer,
                line.endswith("{#~#}"),
            )


# ---- random conversations ----

WORDS = ["hello", "world", "  ", "\n", "\n\n", "<|im_start|>", "<|im_end|>", "<think>", "</think>",
         "<tool_response>",
         "</tool_response>", "<tool_call>", "größer", "日本語", "😀", "é", "\u0000", "\t", "\u00a0",
         "\u3000", "\u200b",
         "\ufeff", "\u0085", "\u001c", "\u2003", "{{ x }}", "{% if %}", "\\n", "'", '"', "&", "<b>",
         "\u2028", "\r\n",
         "\u007f", "0", "1e5", "None", "True", "assistant", "\n</think>\n",
         "<think>\nhm\n</think>\n\n"]
NUMBERS = ["0", "-0", "1", "-7", "12345678901234567890123456789", "-98765432109876543210", "1e2",
           "1.10", "0.1", "-0.0",
           "1e-7", "1e22", "1E400", "3.0", "123456789.125", "9223372036854775807",
           "9223372036854775808", "5e-324"]


def text(r, most=8):
    parts = [
        (
            r.choice(WORDS)
            if r.random() < 0.7
            else "".join(
                chr(r.choice((r.randrange(32, 127), r.randrange(0xA1, 0x500))))
                for _ in range(r.randrange(6))
            )
        )
        for _ in range(r.randrange(most))
    ]
    return (
        r.choice(("", "", " ", "\n"))
        + r.choice(("", " ")).join(parts)
        + r.choice(("", "", " ", "\n", "\u00a0"))
    )


def number(r):
    return {"$number": r.choice(NUMBERS)}


def value(r, depth=0):
    k = r.randrange(8 if depth < 3 else 5)
    if k == 0:
        return r.choice((None, True, False))
    if k in (1, 2):
        return number(r)
    if k in (3, 4):
        return text(r, 4)
    if k == 5:
        return [value(r, depth + 1) for _ in range(r.randrange(4))]
    return {text(r, 2).replace("\0", "") or "k": value(r, depth + 1) for _ in range(r.randrange(4))}


def content(r):
    k = r.randrange(12)
    if k < 7:
        return text(r)
    if k == 7:
        return r.choice((None, "", " \n"))
    if k == 8 and r.random() < 0.2:
        return value(r)
    parts = []
    for _ in range(r.randrange(4)):
        parts.append(
            r.choice(
                (
                    {"type": "text", "text": text(r)},
                    {"type": "image_url", "image_url": {"url": "x"}},
                    {"type": "image"},
                    {"type": "video", "video": "v"},
                    {"text": text(r)},
                    {"type": "text", "text": text(r)},
                )
            )
        )
    if r.random() < 0.02:
        parts.append(r.choice(({"type": "audio"}, "text", 5, None)))
    return parts


def call(r):
    arguments = {text(r, 2).replace("\0", "") or "a": value(r) for _ in range(r.randrange(4))}
    function = {"name": r.choice(("get_weather", "f", "größe", "a<b")), "arguments": arguments}
    if r.random() < 0.03:
        function["arguments"] = r.choice((None, "{}", [], 5))
    if r.random() < 0.03:
        del function["arguments"]
    return function if r.random() < 0.1 else {"id": "c1", "type": "function", "function": function}


def message(r, role):
    m = {"role": role, "content": content(r)}
    if r.random() < 0.02:
        del m["content"]
    if role == "assistant":
        if r.random() < 0.4:
            m["reasoning_content"] = text(r) if r.random() < 0.9 else r.choice((None, 5, []))
        if r.random() < 0.4:
            m["tool_calls"] = (
                [call(r) for _ in range(r.randrange(3))]
                if r.random() < 0.95
                else r.choice((None, {}, "x"))
            )
    if role == "tool" and r.random() < 0.5:
        m["tool_call_id"] = "c1"
    return m


def conversation(r):
    messages = []
    if r.random() < 0.4:
        messages.append(message(r, "system"))
    if r.random() < 0.9:
        messages.append({"role": "user", "content": text(r) + "?"})
    for _ in range(r.randrange(1, 7)):
        role = r.choices(("user", "assistant", "tool"), (4, 4, 3))[0]
        messages.extend(message(r, role) for _ in range(r.randrange(1, 3) if role == "tool" else 1))
    if r.random() < 0.03:
        messages.insert(
            r.randrange(len(messages) + 1),
            message(r, r.choice(("system", "developer", "function", "user"))),
        )
    if r.random() < 0.01:
        messages = []
    request = {"messages": messages}
    if r.random() < 0.5:
        request["tools"] = [
            {
                "type": "function",
                "function": {"name": f"t{i}", "description": text(r), "parameters": value(r)},
            }
            for i in range(r.randrange(3))
        ]
    if r.random() < 0.2:
        request["add_generation_prompt"] = r.random() < 0.5
    kwargs = {
        k: r.choice((True, False, None, 1, "true"))
        for k in ("enable_thinking", "preserve_thinking", "add_vision_id")
        if r.random() < 0.35
    }
    if kwargs:
        request["chat_template_kwargs"] = kwargs
    return request


def dumps(v):
    """JSON whose numbers are spelt as chosen."""
    return re.sub(r'\{"\$number": "([^"]*)"\}', r"\1", json.dumps(v, ensure_ascii=False))


def marked(v, mark):
    """The same with a mark at the ends of every string that is not a role or a type."""
    if isinstance(v, str):
        return mark + v + mark
    if isinstance(v, list):
        return [marked(x, mark) for x in v]
    if isinstance(v, dict):
        return {k: x if k in ("role", "type", "$number") else marked(x, mark) for k, x in v.items()}
    return v


def check_origin(what, answer, count):
    """No mark may lie outside of what the driver calls data, and none of the template's tags
    inside."""
    if "error" in answer:
        return
    raw = answer["prompt"].encode()
    data = bytearray(len(raw))
    for a, b in answer["data"]:
        data[a:b] = b"\1" * (b - a)
    for m in re.finditer("\ue000".encode(), raw):
        if not all(data[m.start():m.end()]):
            count.differ += 1
            print(
                f"ORIGIN {what}: byte {m.start()} of the request is called the template's: {raw[:200]!r}"
            )
            return
    spans = answer["data"]
    if any(a >= b for a, b in spans) or any(
        spans[i][1] >= spans[i + 1][0] for i in range(len(spans) - 1)
    ):
        count.differ += 1
        print(f"ORIGIN {what}: spans are not sorted and merged")


def compare_conversations(driver, path, n, seed, count):
    source = pathlib.Path(path).read_text()
    r = random.Random(seed)
    for i in range(n):
        request = conversation(r)
        if i % 4 == 0:
            request = marked(request, "\ue000")
        spelt = dumps(request)
        driver.p.stdin.write(
            f'{{"template": {json.dumps(str(path))}, "request": {spelt}}}\n'.encode()
        )
        driver.p.stdin.flush()
        answer = json.loads(driver.p.stdout.readline())
        count.check(
            f"{path} seed {seed} #{i}: {spelt}"[:3000], reference(source, json.loads(spelt)), answer
        )
        check_origin(f"{path} #{i}", answer, count)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("driver")
    a.add_argument("--conversations", type=int, default=10000)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--template", action="append", default=[])
    a.add_argument("--show", type=int, default=20)
    a = a.parse_args()
    driver, failed = Driver(a.driver), False

    def report(name, count):
        nonlocal failed
        print(
            f"{name}: {count.same} the same ({count.errors} of them errors), {count.differ} differ"
        )
        failed |= count.differ > 0

    count = Count(a.show)
    compare_lines(driver, count)
    report("lines", count)
    shared = next(
        (p / "shared" for p in TOP.parents if (p / "shared/data/qwen3.6").exists()),
        TOP.parent / "shared",
    )
    for path in [
        shared / "data/qwen3.6/chat_template.jinja",
        TOP / "models/tiny/chat_template.jinja",
        *sorted((HERE / "templates").glob("*.jinja")),
        *a.template,
    ]:
        path = pathlib.Path(path).resolve()
        if not path.exists():
            print(f"{path}: not there, skipped")
            continue
        count = Count(a.show)
        compare_conversations(driver, path, a.conversations, a.seed, count)
        report(path, count)
    sys.exit(failed)


main()

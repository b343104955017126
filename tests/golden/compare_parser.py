#!/usr/bin/env python3
"""Random model outputs, through the C parser (whole, and cut into pieces) and the reference.

	python3 tests/golden/compare_parser.py build/bin/hearth-worker [--n 20000] [--seed 1]

Outputs are made from a grammar: well-formed answers with hostile values; the same damaged
(tags and bytes deleted, doubled, swapped, inserted, cut off); and soup of markup.  Tools have
random schemas.  Prints the first differences and exits 1 if there is any.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import warnings

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import parser_reference as ref  # noqa: E402

TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<function=", "</function>",
        "<parameter=", "</parameter>"]
SPACE = ["\n", "\n", "\n\n", " ", "  ", "\t", "\r\n", "\r", "\n  ", "\n\t", "\f", "\v", ""]
WORDS = ["a", "Hi", "1", "x y", "Köln", "日本", "🙂", "<", ">", "</", "<t", "<b>", "if a < b:",
         "\"q\"", "null", "{}", "é", "=", "\x01", "\u2028"]
NAMES = ["f", "get_weather", "g", "unknown", "a-b", "näme"]
BAD_NAMES = ["", " ", "a b", "a\"b", "a'b", "{a}", "a<b", "f\n", " f ", "\tg\n", "a\nb", "f>x"]
KEYS = ["a", "b", "c", "d", "e"]
SCALARS = ["5", "-5", "+5", "007", "-0", "5.0", "1.10", "1e3", ".5", "+.5e1", "-.5", "5.", "1e999",
           "123456789012345678901234567890", "9" * 400, "nan", "inf", "-Infinity", "NaN", " 5 ",
           "5\n", "\t-7", "0x10", "1_000", "true", "True", "FALSE", " true ", "yes", "0", "1",
           "null", "None", "NONE", " null", "none ", "", " ", "red", "green", "a", "é", "1 2",
           "--1"]
CONTAINERS = ["{}", "[]", "()", "(1)", "(1,)", "(1, 2)", "[1, 2,]", "{'a': 1}", "{\"a\": 1}",
              "{\"a\": 1.10, \"b\": [1e2, -0]}", "{'a': True, 'b': None}", "{'a': true}", "{1: 2}",
              "{1, 2}", "[1e999]", "[NaN]", "{\"a\": 1, \"a\": 2, \"b\": 3}", "{'a': 'x\\n\\'y'}",
              "['\\x41\\u00e9\\101\\q']", "[\"\\ud800\"]", "['\\ud800']", "b'x'", "['a' 'b']",
              "['''a''']", "{\"a\": \"\\u0000\"}", "[1,,2]", "[,]", "{,}", "[", "{\"a\"",
              " [1,\n 2] ", "[ -1, - 1 ]", "[-1,(2,),{'k':()}]", "[True, False]", "[01]", "[.5]",
              "{\"a\": {\"b\": [\"c\", null]}}", "[\"a\tb\"]", "['a\tb']", "[1 2]", "[1] x", "é",
              "[\"é\"]",
              "{'a': '\\N{BULLET}'}", "[\"\\/\"]", "['\\/']", "{\"\": 1}", "['it', \"it's\",]"]
CODE = ["print(1)", "</parameter>", "  </parameter>", "x</parameter>", "</function>",
        "</tool_call>",
        "  </tool_call>", "<parameter=z>", "  <parameter=z>", "<function=f>", "<tool_call>", "",
        "  indented", "<think>", "</think>", "</parameter> y", "<parameter=",
        "<tool_call><function=f>",
        "é 🙂", "\ttab", "x </function>", "\r", "<tool_call>\n<function=f>", "</par", "</"]


class Maker:
    def __init__(self, rng):
        self.r = rng

    def pick(self, *lists):
        return self.r.choice(self.r.choice(lists))

    def maybe(self, p):
        return self.r.random() < p

    # -- schemas
    def type_name(self):
        return self.r.choice(["string", "integer", "number", "boolean", "object", "array", "null",
                              "string", "INTEGER", "str", "int32", "float", "bool", "dict", "list",
                              "foo", "uint8", "Text", "numeric", "long", "binary", "arr", None, 5])

    def schema(self, depth=0):
        s = {}
        if self.maybe(0.75):
            s["type"] = self.type_name() if self.maybe(0.7) else \
                [self.type_name() for _ in range(self.r.randint(0, 3))]
        if self.maybe(0.15):
            s["enum"] = [
                self.r.choice(["red", "5", "true", 5, 1.5, None, True, [], {}, "null", "a"])
                for _ in range(self.r.randint(0, 4))
            ]
        if self.maybe(0.07):
            s["const"] = self.r.choice(["red", "5", 5, None, False])
        if self.maybe(0.12):
            s["nullable"] = self.r.choice([True, True, False, "true"])
        for key in ("anyOf", "oneOf", "allOf"):
            if depth < 3 and self.maybe(0.12):
                s[key] = [self.schema(depth + 1) for _ in range(self.r.randint(0, 3))]
        if self.maybe(0.1):
            s["$ref"] = self.r.choice(["#/$defs/X", "#/$defs/Y", "#/$defs/a~1b", "#/$defs/no",
                                       "http://x", "#", "#/$defs/L/0", "#X", 5, "#/$defs/p%20q"])
        return s

    def tools(self):
        tools = []
        for name in self.r.sample(NAMES, self.r.randint(1, 3)):
            p = {
                "type": "object",
                "properties": {k: self.schema() for k in KEYS if self.maybe(0.8)},
                "$defs": {
                    "X": self.schema(1),
                    "Y": self.schema(2),
                    "a/b": {"type": "integer"},
                    "L": [{"type": "number"}],
                    "p q": {"type": "boolean"},
                },
            }
            f = {"name": name, "parameters": p}
            if self.maybe(0.05):
                f["parameters"] = self.r.choice([None, {}, {"properties": 5}, [], "x"])
            if self.maybe(0.05):
                f["parameters"] = {"$ref": "#/$defs/P", "$defs": {"P": p}}
            tools.append({"type": "function", "function": f} if self.maybe(0.9) else f)
        if self.maybe(0.03):
            tools.append(self.r.choice([None, 5, "x", {}, {"function": 5}]))
        return tools

    # -- text
    def newline(self):
        return "\r\n" if self.maybe(0.1) else "\n"

    def words(self, n=3):
        return "".join(self.pick(WORDS, WORDS, SPACE) for _ in range(self.r.randint(0, n)))

    def value(self, depth=0):
        x = self.r.random()
        if x < 0.3:
            return self.r.choice(SCALARS)
        if x < 0.45:
            return self.r.choice(CONTAINERS)
        if x < 0.6:
            return self.words(6)
        if x < 0.75 and depth < 2:
            whole = self.call(depth + 1)
            if self.maybe(0.3):
                whole = self.damage(whole)
            return self.words(2) + self.r.choice(["\n", "", " "]) + whole + \
                self.r.choice(["\n", "", " x"]) + self.words(1)
        return self.newline().join(self.r.choice(CODE) for _ in range(self.r.randint(1, 5)))

    def parameter(self, depth):
        key = self.r.choice(KEYS) if self.maybe(0.92) else self.pick(BAD_NAMES, KEYS)
        n = self.newline()
        if self.maybe(0.85):
            indent = self.r.choice(["", "", "", "  ", "\t"])
            return "%s<parameter=%s>%s%s%s%s</parameter>%s" % (
                indent, key, n, self.value(depth), n, indent, n)
        return "<parameter=%s>%s</parameter>%s" % (key, self.value(depth), self.r.choice(["", n]))

    def function(self, depth):
        name = self.r.choice(NAMES) if self.maybe(0.93) else self.r.choice(BAD_NAMES)
        return "<function=%s>%s%s</function>" % (
            name,
            self.newline() if self.maybe(0.9) else "",
            "".join(self.parameter(depth) for _ in range(self.r.choice([0, 1, 1, 2, 3]))),
        )

    def call(self, depth=0):
        n = self.newline() if self.maybe(0.9) else ""
        fs = [self.function(depth) for _ in range(1 if self.maybe(0.9) else 2)]
        return "<tool_call>" + n + n.join(fs) + n + "</tool_call>"

    def answer(self, thinking):
        s = ""
        if thinking:
            s += self.r.choice(["", "", "<think>", "\n<think>\n", "<think>\n"]) + self.words(4)
            if self.maybe(0.85):
                s += self.r.choice(
                    ["\n</think>\n\n", "</think>", "</think>\n", "\r\n</think>\r\n\r\n"]
                )
        s += self.words(3)
        for _ in range(self.r.choice([0, 1, 1, 1, 2, 3])):
            s += self.r.choice(["", "\n", "\n\n", " "]) + self.call()
            if self.maybe(0.3):
                s += self.r.choice(SPACE) + self.words(2)
        return s

    def soup(self):
        out = []
        for _ in range(self.r.randint(1, 25)):
            x = self.r.random()
            if x < 0.12:
                out.append("<tool_call>\n<function=%s>\n" % self.r.choice(NAMES))
            elif x < 0.24:
                out.append("<parameter=%s>" % self.r.choice(KEYS + BAD_NAMES))
            elif x < 0.6:
                out.append(self.r.choice(TAGS))
            elif x < 0.65:
                t = self.r.choice(TAGS)
                out.append(t[:self.r.randint(1, len(t))])
            elif x < 0.7:
                out.append("<function=%s>" % self.r.choice(NAMES + BAD_NAMES))
            else:
                out.append(self.pick(WORDS, SPACE, SPACE, KEYS))
        return "".join(out)

    def damage(self, s):
        for _ in range(self.r.choice([1, 1, 2, 4])):
            marks = [i for i, c in enumerate(s) if c in "<>\n"] or [0]
            x = self.r.random()
            at = self.r.choice(marks) if self.maybe(0.8) else self.r.randint(0, len(s))
            end = self.r.choice(marks)
            if x < 0.25:        # delete a tag or a stretch
                close = s.find(">", at) + 1
                s = s[:at] + s[close if close > 0 else at + 1:]
            elif x < 0.4:       # double one
                close = s.find(">", at) + 1
                s = s[:close] + s[at:close] + s[close:]
            elif x < 0.5 and at < end:      # swap what lies either side
                mid = (at + end) // 2
                s = s[:at] + s[mid:end] + s[at:mid] + s[end:]
            elif x < 0.7:
                s = s[:at] + self.pick(TAGS, SPACE, WORDS, CODE) + s[at:]
            elif x < 0.8:
                s = s[:at] + s[at + 1:]
            elif x < 0.9:
                s = s[:at]
            else:
                s = s[:self.r.randint(0, len(s))]
        return s

    def query(self):
        thinking = self.maybe(0.5)
        x = self.r.random()
        text = self.answer(thinking) if x < 0.75 else self.soup()
        if 0.3 < x < 0.75:
            text = self.damage(text)
        if self.maybe(0.2):
            text = text[:self.r.randint(0, len(text))]
        q = {"text": text, "enable_thinking": thinking}
        if self.maybe(0.95):
            q["tools"] = self.tools()
        if self.maybe(0.1):
            q["tool_choice"] = self.r.choice(["auto", "none", "required", None,
                                              {"type": "function", "function": {"name": "f"}}])
        if self.maybe(0.2):
            q["finish_reason"] = "stop"
        return q


def cut(rng, q):
    n = len(q["text"].encode())
    if rng.random() < 0.3:
        return dict(q, pieces=list(range(n + 1)))
    return dict(q, pieces=sorted(rng.randint(0, n) for _ in range(rng.randint(1, 8))))


def without_ids(message):
    for call in message.get("tool_calls", []):
        assert len(call.pop("id")) == 29
    return message


class Worker:
    def __init__(self, program):
        self.p = subprocess.Popen([program, "text", "parse", "/nowhere"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)

    def ask(self, q):
        self.p.stdin.write(json.dumps(q).encode() + b"\n")
        self.p.stdin.flush()
        line = self.p.stdout.readline()
        if not line:
            raise SystemExit("the program died on %r" % q)
        return json.loads(line)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("program")
    ap.add_argument("--n", type=int, default=20000)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--show", type=int, default=3)
    args = ap.parse_args()
    warnings.simplefilter("ignore")
    rng = random.Random(args.seed)
    maker, worker = Maker(rng), Worker(args.program)
    wrong, calls, quoted = 0, 0, 0
    for i in range(args.n):
        q = maker.query()
        as_read = json.loads(json.dumps(q), parse_float=ref.Num, parse_int=ref.Num)
        want = ref.parse(as_read["text"], as_read.get("tools"), as_read.get("tool_choice"),
                         as_read["enable_thinking"], q.get("finish_reason") != "stop")
        calls += len(want.get("tool_calls", []))
        quoted += any(
            "<tool_call>" in c["function"]["arguments"] for c in want.get("tool_calls", [])
        )
        for form, ask in (("whole", q), ("cut", cut(rng, q))):
            got = worker.ask(ask)
            if "error" in got or without_ids(got["message"]) != want:
                wrong += 1
                if wrong <= args.show:
                    print(
                        "--- case %d, %s\ntext:  %r\nquery: %s\nwant:  %s\ngot:   %s"
                        % (
                            i,
                            form,
                            q["text"],
                            json.dumps({k: v for k, v in ask.items() if k != "text"}),
                            json.dumps(want),
                            json.dumps(got),
                        )
                    )
                break
            for call in got["message"].get("tool_calls", []):
                assert isinstance(json.loads(call["function"]["arguments"]), dict)
    print(
        "%d outputs, each whole and cut; %d calls, %d outputs with markup inside arguments; %d differ"
        % (args.n, calls, quoted, wrong)
    )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The rules of the output parsers once more, slowly: a whole text in, a message out.

Written from the rules (docs/output-parser.md) and not from the C, in another style, to be
compared with worker/text/out_parser.c by compare_parser.py.  Nothing here streams: every
question ("is this an end?") is answered by looking at all of the text that follows.  By itself

	python3 tests/golden/parser_reference.py < lines.jsonl

reads what `hearth-worker text parse` reads and prints its message, without ids and deltas.
"""
import ast
import io
import json
import math
import re
import sys
import tokenize
import warnings

WS = " \t\n\r\v\f"
TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<function=", "</function>",
        "<parameter=", "</parameter>"]
AFTER = {   # what must follow an end in block form, the end of the output aside
    "</parameter>": ["<parameter=", "</function>", "</tool_call>", "<tool_call>", "<function="],
    "</function>": ["</tool_call>", "<tool_call>", "<function="],
    "</tool_call>": ["<tool_call>"],
}


def name_of(raw):
    """A name or key as it stands between '=' and '>', trimmed; None when it is not valid."""
    name = raw.strip(WS)
    return None if not name or set(name) & set(WS + "\"'{}<>") else name


class Text:
    """A text, and what stands where in it.  `s` is what is parsed; `all` may go on with the
    beginning of a tag, which decides only whether the text before it may be an end."""

    def __init__(self, s, rest="", whole_limit=None):
        self.s, self.all = s, s + rest
        self.whole_limit = len(s) if whole_limit is None else whole_limit
        self.whole = {}

    def at(self, i, tag):
        return self.s.startswith(tag, i)

    def skip(self, i):
        m = re.compile("[ \t\n\r\v\f]*").match(self.s, i)
        return m.end()

    def function_at(self, i):
        """(name, the end) of a valid <function=NAME> at i."""
        close = self.s.find(">", i)
        name = name_of(self.s[i + 10:close]) if self.at(i, "<function=") and close >= 0 else None
        return (name, close + 1) if name else None

    def opening_at(self, i):
        """(name, the end) of the opening of a call at i."""
        return self.function_at(self.skip(i + 11)) if self.at(i, "<tool_call>") else None

    def followed(self, i, tags):
        """Whether one of the tags is the next text at i, or the output ends."""
        rest = self.all[self.skip(i):]
        return any(rest.startswith(t) or t.startswith(rest) for t in tags) \
            if len(self.all) > len(self.s) or not rest \
            else any(rest.startswith(t) for t in tags)

    def whole_call(self, i):
        """The end of a whole call that begins at i, or None."""
        if i not in self.whole:
            end = self.find_whole_call(i) if self.opening_at(i) else None
            self.whole[i] = end if end is not None and end <= self.whole_limit else None
        return self.whole[i]

    def find_whole_call(self, i):
        i = self.opening_at(i)[1]
        while True:
            i = self.s.find("<", i)     # inside a function
            if i < 0 or self.opening_at(i) or self.function_at(i):
                return None
            if self.at(i, "</parameter>") or self.at(i, "</tool_call>"):
                return None
            if self.at(i, "</function>"):
                i = self.skip(i + 11)
                if self.at(i, "</tool_call>"):
                    return i + 12
                if not self.function_at(i):
                    return None
                i = self.function_at(i)[1]
            elif self.at(i, "<parameter="):
                close = self.s.find(">", i)
                if close < 0 or any(t in self.s[i + 1:close + 1] for t in TAGS):
                    return None
                _, i, end = self.value(close + 1, quoted=True)
                if end != "</parameter>":
                    return None
            else:
                i += 1

    def value(self, i, quoted=False):
        """The value after the '>' before i: (its text, where the function goes on, the tag
        that ended it or None).  In a quoted call an opening that is not whole spoils it all."""
        s = self.s
        first = re.compile("\r?\n").match(s, i)
        start = at = first.end() if first else i
        while True:
            at = s.find("<", at)
            if at < 0:
                return re.sub("\r?\n\\Z", "", s[start:]), len(s), None
            if self.whole_call(at):
                at = self.whole_call(at)
                continue
            if quoted and self.opening_at(at):
                return "", at, None
            line = s.rfind("\n", start, at) + 1 or (start if first else None)
            indent = None if line is None else s[line:at]
            at_line_start = indent is not None and not indent.strip(" \t")
            cut = re.sub("\r?\n\\Z", "", s[start:line]) if at_line_start else s[start:at]
            if self.at(at, "</parameter>") and not first:
                return s[start:at], at + 12, "</parameter>"
            if self.at(at, "</parameter>") and self.followed(at + 12, AFTER["</parameter>"]):
                return cut, at + 12, "</parameter>"
            if self.at(at, "<parameter=") and indent == "":
                return cut, at, "<parameter="
            for tag in ("</function>", "</tool_call>"):
                if self.at(at, tag) and at_line_start and \
                        self.followed(at + len(tag), AFTER[tag]):
                    return cut, at, tag
            at += 1


class Parse:
    """One pass over a text.  `marks`: the places of tags that were taken as tags."""

    def __init__(self, text, tools, calls_possible, thinking):
        self.t, self.s = text, text.s
        self.tools, self.calls_possible, self.thinking = tools, calls_possible, thinking
        self.reasoning, self.calls, self.marks = "", [], set()
        self.pieces = [""]      # content; None is a call, "" begins a new stretch
        self.think_end_due = False
        self.content(self.reason() if thinking else 0)

    def opening(self, i):
        return self.t.opening_at(i) if self.calls_possible else None

    def reason(self):
        """Where reasoning ends."""
        start = self.t.skip(0)
        if self.t.at(start, "<think>"):
            self.marks.add(start)
            start += 7
        else:
            start = 0
        end = start
        while end < len(self.s) and not self.t.at(end, "</think>") and not self.opening(end):
            end += 1
        text = re.sub(r"\A(\r?\n)+", "", self.s[start:end])
        while text.endswith("\n"):
            text = re.sub("\r?\n\\Z", "", text)
        self.reasoning = text
        if self.t.at(end, "</think>"):
            self.marks.add(end)
            return end + 8
        self.think_end_due = True
        return end

    def content(self, i):
        inside = False      # in a <tool_call>, after </function>
        while i < len(self.s):
            opening = self.opening(i) or (self.t.function_at(i) if inside else None)
            if opening:
                self.marks.add(i)
                i, inside = self.function(*opening)
            elif self.t.at(i, "</think>") and self.think_end_due:
                self.marks.add(i)
                self.think_end_due = False
                i += 8
            elif inside and self.t.at(i, "</tool_call>"):
                self.marks.add(i)
                self.pieces.append("")
                inside = False
                i += 12
            elif inside and (self.t.at(i, "</function>") or self.t.at(i, "</parameter>")):
                self.marks.add(i)
                i = self.s.index(">", i) + 1
            else:
                self.pieces[-1] += self.s[i]
                i += 1

    def function(self, name, i):
        """A call whose inside begins at i: where its content() goes on, and whether that is
        inside the <tool_call>."""
        values = {}
        self.calls.append((name, values))
        self.pieces += [None, ""]
        while i < len(self.s):
            if self.opening(i) or self.t.function_at(i):
                return i, True
            if self.t.at(i, "</function>") or self.t.at(i, "</tool_call>"):
                self.marks.add(i)
                return self.s.index(">", i) + 1, self.t.at(i, "</function>")
            if not self.t.at(i, "<parameter="):
                i += 1
                continue
            self.marks.add(i)
            close = self.s.find(">", i)
            if close < 0:
                break
            key = name_of(self.s[i + 11:close])
            value, i, end = self.t.value(close + 1)
            if end == "</parameter>":
                self.marks.add(i - 12)
            if key is not None and key not in values:
                values[key] = coerce(value, find_parameters(self.tools, name), key)
        return len(self.s), False

    def content_text(self):
        """The pieces of content with blank ones between calls dropped, and edges trimmed."""
        calls = any(p is None for p in self.pieces)
        out = ""
        for p in self.pieces:
            if p is None:
                out = out.rstrip(WS)
            elif p.strip(WS) or not calls:
                out += p
        return re.sub(r"\A(\r?\n)+", "", out)

    def message(self):
        m = {"reasoning_content": self.reasoning or None, "content": self.content_text() or None}
        if self.calls:
            m["tool_calls"] = [
                {"type": "function", "function": {"name": n, "arguments": "{%s}" % ", ".join(
                    quote(k) + ": " + v for k, v in values.items())}}
                for n, values in self.calls]
        return m


def tails(s):
    """Where a tag, or the opening of a call, may begin that the end of s cuts short."""
    found = []
    for m in re.finditer("<", s):
        rest = s[m.start():]
        tag = any(t.startswith(rest) and t != rest for t in TAGS)
        name = re.fullmatch("<function=[^<>]*", rest)
        opening = re.fullmatch("<tool_call>[ \t\n\r\v\f]*(|<|<f[^<>]*)", rest)
        if tag or name or opening:
            found.append(m.start())
    return found


def completions(rest):
    """What the beginning of a tag may become."""
    for tag in TAGS:
        if tag.startswith(rest):
            yield tag + ("<function=n>" if tag == "<tool_call>" else "n>" if tag[-1] == "=" else "")
    inner = rest[11:].lstrip(WS) if rest.startswith("<tool_call>") else rest
    if not inner.startswith("<function="):
        if rest.startswith("<tool_call>") and "<function=".startswith(inner):
            yield rest + "<function="[len(inner):] + "n>"
    else:
        yield rest + ">"
        yield rest + "n>"


def parse(text, tools=None, tool_choice=None, thinking=True, cut=True):
    """The message of a text; `cut`: it may have been cut by the length limit."""
    tools = tools or []
    possible = bool(tools) and tool_choice != "none"
    for i in tails(text) if cut else []:
        for whole in completions(text[i:]):
            t = Text(text[:i] + whole, whole_limit=i)
            if i in Parse(t, tools, possible, thinking).marks:
                return Parse(Text(text[:i], text[i:]), tools, possible, thinking).message()
    return Parse(Text(text), tools, possible, thinking).message()


# ---- values -----------------------------------------------------------------------------------

NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
ORDER = ["null", "integer", "number", "boolean", "object", "array", "string"]


class Num(str):
    """A number as it was spelt."""


def quote(s):
    return json.dumps(s, ensure_ascii=False)


def dump(v):
    if isinstance(v, Num):
        if not re.fullmatch("-?[0-9]+", v) and math.isinf(float(v)):
            raise ValueError("overflow")
        return str(v)
    if isinstance(v, dict):
        return "{%s}" % ", ".join(quote(k) + ": " + dump(x) for k, x in v.items())
    if isinstance(v, list):
        return "[%s]" % ", ".join(dump(x) for x in v)
    if isinstance(v, str):
        v.encode()      # no lone surrogates
    return json.dumps(v, ensure_ascii=False)


def no_constant(name):
    raise ValueError(name)


def load_json(s):
    v = json.loads(s, parse_float=Num, parse_int=Num, parse_constant=no_constant)
    dump(v)
    return v


def load_python(s):
    """A Python literal by way of JSON: token by token, and only the tokens that are allowed."""
    s = s.strip(" \t\n\r\f")
    if "\0" in s:
        raise ValueError
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(s).readline)
              if t.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER)]
    out, groups, minus = [], [], ""
    for n, t in enumerate(tokens):
        before = tokens[n - 1] if n else None
        if t.type == tokenize.STRING:
            if (
                t.string[0] not in "'\""
                or t.string[:3] in ("'''", '"""')
                or re.search(r"(?<!\\)(\\\\)*\\N", t.string)
                or (before and before.type == tokenize.STRING)
            ):
                raise ValueError
            out.append(quote(ast.literal_eval(t.string)))
        elif t.type == tokenize.NUMBER:
            if not re.fullmatch(NUMBER, t.string):
                raise ValueError
            out.append(minus + t.string)
            minus = ""
        elif t.type == tokenize.NAME:
            out.append({"True": "true", "False": "false", "None": "null"}[t.string])
        elif t.type == tokenize.OP and t.string == "-":
            if tokens[n + 1].type != tokenize.NUMBER or tokens[n + 1].start != t.end:
                raise ValueError
            minus = "-"
        elif t.type == tokenize.OP and t.string in "([{":
            groups.append([t.string, 0, n])
            out.append("{" if t.string == "{" else "[")
        elif t.type == tokenize.OP and t.string in ")]}":
            kind, commas, opened = groups.pop()
            if kind == "(" and not commas and opened != n - 1:
                raise ValueError        # (x) is no tuple
            if out[-1] == "," and opened != n - 2:
                out.pop()
            out.append("}" if kind == "{" else "]")
        elif t.type == tokenize.OP and t.string in ",:":
            if t.string == ",":
                groups[-1][1] += 1
            out.append(t.string)
        else:
            raise ValueError
    return load_json(" ".join(out))


def container(s):
    for load in (load_json, load_python):
        try:
            return load(s)
        except Exception:
            continue
    return None


def type_name(name):
    if name is None:
        return {"null"}
    if not isinstance(name, str) or isinstance(name, Num):
        return set()
    n = name.lower()
    if n == "null":
        return {"null"}
    if n.startswith(("int", "uint", "long", "short", "unsigned")):
        return {"integer"}
    if n.startswith(("num", "float")):
        return {"number"}
    if n in ("boolean", "bool", "binary"):
        return {"boolean"}
    if n == "object" or n.startswith("dict"):
        return {"object"}
    if n in ("array", "arr") or n.startswith("list"):
        return {"array"}
    return {"string"}


def type_of_value(v):
    if isinstance(v, Num):
        return "integer" if re.fullmatch("-?[0-9]+", v) else "number"
    return {str: "string", bool: "boolean", type(None): "null", dict: "object", list: "array",
            int: "integer", float: "number"}[type(v)]


def follow(root, ref):
    if not isinstance(ref, str) or isinstance(ref, Num) or not re.fullmatch("#(/.*)?", ref, re.S):
        return None
    at = root
    for key in ref.split("/")[1:]:
        key = re.sub("%([0-9a-fA-F]{2})", lambda m: chr(int(m[1], 16)), key)
        key = key.replace("~1", "/").replace("~0", "~")
        if isinstance(at, list):
            at = at[int(key)] if key.isdigit() and int(key) < len(at) else None
        else:
            at = at.get(key) if isinstance(at, dict) else None
    return at


def listed(schema, key):
    v = schema.get(key)
    return v if isinstance(v, list) else []


def types(root, schema, path=()):
    """The types of a schema; the empty set is no type.  Inside itself it adds nothing."""
    if not isinstance(schema, dict) or any(schema is s for s in path):
        return set()
    path += (schema,)
    found = set()
    if "type" in schema:
        for name in schema["type"] if isinstance(schema["type"], list) else [schema["type"]]:
            found |= type_name(name)
    for branch in listed(schema, "anyOf") + listed(schema, "oneOf"):
        found |= types(root, branch, path)
    found |= {type_of_value(v) for v in listed(schema, "enum")}
    if "const" in schema:
        found.add(type_of_value(schema["const"]))
    if "$ref" in schema:
        found |= types(root, follow(root, schema["$ref"]), path)
    for branch in listed(schema, "allOf"):
        other = types(root, branch, path)
        if not other:
            continue
        if found == set() and not getattr(found, "emptied", False):
            found = Narrowed(other)
        else:
            both = found & other
            if ("integer" in found and "number" in other) or \
                    ("number" in found and "integer" in other):
                both.add("integer")
            found = Narrowed(both)
    found = set(found)
    if schema.get("nullable") is True:
        found.add("null")
    return found


class Narrowed(set):
    emptied = True


def strings(root, schema, path=()):
    """The strings that enum and const list."""
    if not isinstance(schema, dict) or any(schema is s for s in path):
        return set()
    path += (schema,)
    values = listed(schema, "enum") + ([schema["const"]] if "const" in schema else [])
    found = {v for v in values if isinstance(v, str) and not isinstance(v, Num)}
    for key in ("anyOf", "oneOf", "allOf"):
        for branch in listed(schema, key):
            found |= strings(root, branch, path)
    if "$ref" in schema:
        found |= strings(root, follow(root, schema["$ref"]), path)
    return found


def find_parameters(tools, name):
    for tool in tools:
        function = tool.get("function") if isinstance(tool, dict) else None
        function = function if isinstance(function, dict) else tool
        if isinstance(function, dict) and function.get("name") == name:
            return function.get("parameters")
    return None


def fits(kind, value, strict):
    """The JSON text of the value as that type, or None."""
    t = value if strict else value.strip(WS)
    if kind == "null":
        return "null" if t.lower() in ("null", "none") else None
    if kind == "integer":
        if not re.fullmatch("-?(0|[1-9][0-9]*)" if strict else "[+-]?[0-9]+", t):
            return None
        digits = t.lstrip("+-").lstrip("0") or "0"
        return ("-" if t[0] == "-" and digits != "0" else "") + digits
    if kind == "number":
        if not strict:
            t = re.sub(r"\A\+(?=[0-9.])", "", t)
            t = re.sub(r"\A(-?)\.", r"\g<1>0.", t)
        return t if re.fullmatch(NUMBER, t) and not math.isinf(float(t)) else None
    if kind == "boolean":
        if t.lower() in ("true", "false"):
            return t.lower()
        return None if strict else {"1": "true", "0": "false"}.get(t)
    v = container(value)
    return dump(v) if type(v) is {"object": dict, "array": list}[kind] else None


def coerce(value, root, key):
    schema = root
    for _ in range(12):
        if isinstance(schema, dict) and "properties" not in schema:
            schema = follow(root, schema.get("$ref"))
    properties = schema.get("properties") if isinstance(schema, dict) else None
    schema = properties.get(key) if isinstance(properties, dict) else None
    kinds = types(root, schema)
    if not kinds or kinds == {"string"} or value in strings(root, schema):
        return quote(value)
    for kind in ORDER[:-1]:
        text = fits(kind, value, "string" in kinds) if kind in kinds else None
        if text is not None:
            return text
    if "string" not in kinds:
        return fits("null", value, False) or fits("number", value, False) or quote(value)
    return quote(value)


def main():
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        q = json.loads(line, parse_float=Num, parse_int=Num)
        print(json.dumps({"message": parse(
            q["text"], q.get("tools"), q.get("tool_choice"), q.get("enable_thinking") is not False,
            q.get("finish_reason", "length") == "length")}, ensure_ascii=False))


if __name__ == "__main__":
    main()

"""Asks the held-out sets of the tiny model over an OpenAI HTTP API, greedily, and prints the table.

    python3 tools/tiny/eval_http.py [--url http://127.0.0.1:8080/v1] [--model tiny] [--key KEY] [--jobs 8]
                                    [--thinking on|off] [--part 1.0] [--sets sum tool ...] [--fails 5]

Exits with 1 when a bar is missed.  The sets come from corpus.py; prove_heldout.py shows that none of their items is in
the training corpus.  Nothing but Python's standard library is needed.
"""

import argparse
import json
import pathlib
import re
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import corpus

# set: (what, share that must be right)
BARS = {"sum": ("sums of two numbers of two or three digits", 0.95), "recall-2k": ("code word from 2k tokens", 0.95),
        "recall-8k": ("code word from 8k tokens", 0.90), "tool": ("tool calls with unseen names", 0.95), "json": ("JSON with exact values", 0.95)}
WELL_FORMED = 0.99


def same(a, b):
    """Equal as JSON: 1 is not true, 1.0 is not 1, key order does not matter."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


FITS = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict, "number": (int, float)}


def well_formed(tools, content, calls):
    """At least one call, of offered tools, with known parameters of the right types, and no markup left in the text."""
    if not calls or "<tool_call" in content or "<function" in content or "<parameter" in content:
        return False
    for name, args in calls:
        f = next((t["function"] for t in tools if t["function"]["name"] == name), None)
        if f is None or not isinstance(args, dict):
            return False
        props = f["parameters"]["properties"]
        for k, v in args.items():
            if k not in props or not isinstance(v, FITS[props[k]["type"]]) or isinstance(v, bool) != (props[k]["type"] == "boolean"):
                return False
    return True


def score(item, content, calls):
    """{"right", "formed"} for one reply: content, and calls as [(name, arguments)]."""
    check, content = item["check"], content or ""
    want, kind = check["want"], check["kind"]
    formed = True
    if kind == "sum":
        found = re.findall(r"-?\d+", content.replace(",", ""))
        right = bool(found) and found[-1] == want and not calls
    elif kind == "code":
        right = want in content and not calls
    elif kind == "json":
        try:
            right = same(json.loads(content), want)
        except ValueError:
            right = formed = False
    else:
        formed = well_formed(item["tools"], content, calls)
        right = formed and same([[n, a] for n, a in calls], want)
    return {"right": right, "formed": formed}


def table(results):
    lines = [f"{'set':<46}{'asked':>6}{'right':>7}{'share':>8}{'bar':>6}"]
    for name, rs in results.items():
        what, bar = BARS[name]
        share = sum(r["right"] for r in rs) / len(rs)
        lines.append(f"{what:<46}{len(rs):>6}{sum(r['right'] for r in rs):>7}{share:>8.3f}{bar:>6.2f}{'' if share >= bar else '  MISSED'}")
        if name == "tool":
            share = sum(r["formed"] for r in rs) / len(rs)
            lines.append(f"{'  of these well-formed':<46}{len(rs):>6}{sum(r['formed'] for r in rs):>7}{share:>8.3f}{WELL_FORMED:>6.2f}{'' if share >= WELL_FORMED else '  MISSED'}")
    return "\n".join(lines)


def ask(args, item):
    """(content, calls) of one request."""
    body = {"model": args.model, "messages": item["messages"], "temperature": 0, "max_tokens": 400}
    if item["tools"]:
        body["tools"] = item["tools"]
    if args.thinking:
        body["chat_template_kwargs"] = {"enable_thinking": args.thinking == "on"}
    head = {"Content-Type": "application/json"}
    if args.key:
        head["Authorization"] = "Bearer " + args.key
    req = urllib.request.Request(args.url.rstrip("/") + "/chat/completions", json.dumps(body).encode(), head)
    with urllib.request.urlopen(req, timeout=600) as f:
        reply = json.load(f)
    m = reply["choices"][0]["message"]
    calls = []
    for c in m.get("tool_calls") or []:
        try:
            calls.append((c["function"]["name"], json.loads(c["function"]["arguments"])))
        except ValueError:
            calls.append((c["function"]["name"], None))
    return m.get("content") or "", calls


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--url", default="http://127.0.0.1:8080/v1")
    ap.add_argument("--model", default="tiny")
    ap.add_argument("--key")
    ap.add_argument("--jobs", type=int, default=8)
    ap.add_argument("--thinking", choices=["on", "off"], help="default: the server's default")
    ap.add_argument("--part", type=float, default=1.0)
    ap.add_argument("--sets", nargs="*", default=list(BARS))
    ap.add_argument("--fails", type=int, default=5, help="wrong answers to print, a set")
    args = ap.parse_args()
    items = list(corpus.held_out({s: max(1, int(corpus.COUNTS[s] * args.part)) for s in args.sets}))
    begin, results, shown = time.time(), {}, {}
    with ThreadPoolExecutor(args.jobs) as pool:
        for item, (content, calls) in zip(items, pool.map(lambda x: ask(args, x), items)):
            got = score(item, content, calls)
            results.setdefault(item["set"], []).append(got)
            if not got["right"] and shown.setdefault(item["set"], 0) < args.fails:
                shown[item["set"]] += 1
                print(f"-- {item['id']}: {item['messages'][-1]['content'][-200:]!r}\n   got {content!r} {calls}\n   want {json.dumps(item['check']['want'], ensure_ascii=False)}")
    print(table(results))
    print(f"{len(items)} requests in {time.time() - begin:.0f} s, thinking {args.thinking or 'as the server has it'}, {args.jobs} at a time")
    sys.exit("MISSED" in table(results))


if __name__ == "__main__":
    main()

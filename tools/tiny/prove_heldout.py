"""Shows that nothing of the held-out sets is in the training corpus, by making the corpus again and reading it.

    python3 tools/tiny/prove_heldout.py models/tiny/training.json [--jobs 16] [--every 1]

training.json lists the runs: the numbers of the documents and the stages that each may have used.  Of every document both
what the generator says it contains and what its text contains is looked at: sums by their two numbers, tool and parameter
names in schemas and calls, JSON replies as values, code words as words of the text.  Exits with 1 when one is found.
"""

import argparse
import json
import multiprocessing as mp
import pathlib
import re
import sys
from collections import Counter

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import corpus

SUM = re.compile(r"(?<!\d)(\d{2,3}) ?(?:\+|plus|and|to|from|,) ?(\d{2,3})(?!\d)")
WORD = re.compile(r"[^\s\"'.,:;()\[\]=]+")


def held_sets():
    """(keys of the held-out items by kind, code words by their first word)"""
    keys, codes = {"sum": set(), "code": set(), "name": set(), "json": set()}, {}
    for x in corpus.held_out():
        for kind, key in x["items"]:
            assert corpus.held(kind, key), (kind, key)
            keys[kind].add(key)
    for c in keys["code"]:
        codes.setdefault(WORD.search(c).group(), []).append(c)
    return keys, codes


KEYS, CODES = None, None


def read(job):
    """Looks through documents; returns counts and what was found."""
    first, last, step, stage = job
    n, seen, found, by_chance = 0, Counter(), [], Counter()
    for i in range(first, last, step):
        d = corpus.document(i, stage)
        n += 1
        for kind, key in d["items"]:
            seen[kind] += 1
            if corpus.held(kind, key) or key in KEYS[kind]:
                found.append((stage, i, kind, key))
        text = "\n".join(m.get("content") or "" for m in d["messages"])
        if "sum" in (k for k, _ in d["items"]):
            for a, b in SUM.findall(text):
                if corpus.sum_key(int(a), int(b)) in KEYS["sum"]:
                    by_chance["numbers of a held-out sum beside each other"] += 1
        for m in d["messages"]:
            c = m.get("content") or ""
            if m["role"] == "assistant" and c[:1] in "{[" and c:
                try:
                    key = json.dumps(json.loads(c), sort_keys=True, ensure_ascii=False)
                except ValueError:
                    continue
                if key in KEYS["json"]:
                    found.append((stage, i, "json reply", key))
            for call in m.get("tool_calls") or []:
                f = call["function"]
                for name in [f["name"], *f["arguments"]]:
                    if corpus.held("name", name):
                        found.append((stage, i, "name in a call", name))
        for t in d["tools"] or []:
            f = t["function"]
            for name in [f["name"], *f["parameters"]["properties"]]:
                if corpus.held("name", name):
                    found.append((stage, i, "name in a schema", name))
        low = text.lower()
        for w in set(WORD.findall(low)) & CODES.keys():
            for c in CODES[w]:
                if re.search(r"(?<![\w-])" + re.escape(c) + r"(?![\w-])", low):
                    by_chance["code word as other text: " + ("digits" if c.isdigit() else "words of a list" if " " in c or "-" in c else c)] += 1
    return n, seen, found, by_chance


def start():
    global KEYS, CODES
    KEYS, CODES = held_sets()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("training")
    ap.add_argument("--jobs", type=int, default=2)
    ap.add_argument("--every", type=int, default=1, help="read only one document in so many")
    args = ap.parse_args()
    jobs = []
    for run in json.loads(pathlib.Path(args.training).read_text())["runs"]:
        a, b = run["documents"]
        jobs += [(i, min(b, i + 2000), args.every, s) for s in run["stages"] for i in range(a, b, 2000)]
    n, seen, found, by_chance = 0, Counter(), [], Counter()
    with mp.Pool(args.jobs, start) as pool:
        for a, b, c, d in pool.imap_unordered(read, jobs):
            n, seen, found, by_chance = n + a, seen + b, found + c, by_chance + d
    keys, _ = held_sets()
    print(f"held out: {', '.join(f'{len(v)} {k}' for k, v in keys.items())}")
    print(f"read {n:,} documents with {', '.join(f'{v:,} {k}' for k, v in sorted(seen.items()))}")
    for k, v in by_chance.most_common(20):
        print(f"by chance, not as an item: {k}: {v}")
    print(f"held-out items found: {len(found)}", found[:5])
    sys.exit(bool(found))


if __name__ == "__main__":
    main()

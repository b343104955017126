#!/usr/bin/env python3
"""Hold our tokenizer against Hugging Face tokenizers (0.22 or 0.23) on many strings.

    tests/golden/compare_tokenizer.py --driver build/tests/tools/tok_driver MODEL_DIR [MODEL_DIR
    ...]
    (or --driver "build/bin/hearth-worker text": then encode and decode are appended)

Encodes --strings generated strings (default 100,000), all 1,112,064 code points in context and some
long runs, with and without special tokens; decodes random ids, skipping specials and not, and
streamed.
MODEL_DIR holds tokenizer.json and tokenizer_config.json; make_qwen_tokenizer.py writes the one of
the
real size, and only for that one the published vectors of qwen36_ids.jsonl are checked too.  Exit
status 0 when everything is equal; else the first differences are printed.
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
import tokenizers
from tokenizers import AddedToken, Tokenizer

import text_cases


def reference(folder):
    """tokenizer.json with the added tokens that only tokenizer_config.json has."""
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    known = {t["id"] for t in spec["added_tokens"]}
    for i, t in sorted(config.get("added_tokens_decoder", {}).items(), key=lambda kv: int(kv[0])):
        if int(i) not in known:
            spec["added_tokens"].append({"id": int(i), **t})
    return Tokenizer.from_str(json.dumps(spec))


def ask(driver, folder, command, requests):
    argv = driver.split()
    argv += [command, str(folder)] if argv[-1] == "text" else [str(folder)]
    text = "".join(json.dumps(q) + "\n" for q in requests)
    out = subprocess.run(argv, input=text.encode(), stdout=subprocess.PIPE, check=True).stdout
    answers = [json.loads(line) for line in out.decode().split("\n") if line]
    assert len(answers) == len(requests), (len(answers), len(requests))
    return answers


class Tally:
    def __init__(self):
        self.n = self.bad = 0

    def check(self, what, request, ours, theirs):
        self.n += 1
        if ours == theirs:
            return
        self.bad += 1
        if self.bad <= 10:
            print(
                f"{what}: {json.dumps(request)[:300]}\n  ours   {str(ours)[:300]}\n  theirs {str(theirs)[:300]}"
            )


def compare_encode(tally, what, tok, driver, folder, texts, special):
    for at in range(0, len(texts), 20000):
        part = texts[at:at + 20000]
        tok.encode_special_tokens = not special
        requests = [{"text": s, "special": special} for s in part]
        for s, ours, theirs in zip(
            part, ask(driver, folder, "encode", requests), tok.encode_batch(part)
        ):
            tally.check(what, s, ours.get("ids", ours), theirs.ids)


def compare_decode(tally, tok, driver, folder, n):
    r = random.Random(5)
    top = tok.get_vocab_size(with_added_tokens=True)
    kinds = [
        lambda: r.randrange(256),
        lambda: r.randrange(top + 300),
        lambda: r.randrange(top - 40, top + 5),
    ]
    requests = [{"ids": [r.choice(kinds)() for _ in range(r.choice([1, 2, 3, 5, 8, 13, 40]))],
                 "skip_special": i % 2 == 0, "stream": i % 4 > 1} for i in range(n)]
    for q, ours in zip(requests, ask(driver, folder, "decode", requests)):
        ours = "".join(ours["deltas"]) if q["stream"] else ours["text"]
        tally.check("decode", q, ours, tok.decode(q["ids"], skip_special_tokens=q["skip_special"]))


def compare_published(tally, driver, folder):
    """What several engines publish for the real vocabulary; {"text", "ids"} or {"ids",
    "decoded"}."""
    path = pathlib.Path(__file__).parent / "qwen36_ids.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for command, key, got in (("encode", "text", "ids"), ("decode", "decoded", "text")):
        part = [row for row in rows if key in row]
        for row, ours in zip(part, ask(driver, folder, command, part)):
            tally.check(
                "published", row, ours.get(got), row["ids" if command == "encode" else "decoded"]
            )


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--driver", required=True)
    ap.add_argument("--strings", type=int, default=100000)
    ap.add_argument("--seed", type=int, default=11)
    ap.add_argument("--quick", action="store_true", help="leave out the pass over all code points")
    ap.add_argument("folders", nargs="+", type=pathlib.Path)
    a = ap.parse_args()
    bad = 0
    print("tokenizers", tokenizers.__version__)
    for folder in a.folders:
        tok = reference(folder)
        tally = Tally()
        texts = text_cases.cases(a.seed, a.strings)
        compare_encode(tally, "encode", tok, a.driver, folder, texts, True)
        compare_encode(tally, "encode, special false", tok, a.driver, folder, texts[::5], False)
        compare_encode(tally, "long", tok, a.driver, folder, list(text_cases.long_ones()), True)
        if not a.quick:
            every = list(text_cases.every_character())
            compare_encode(tally, "every character", tok, a.driver, folder, every, True)
        compare_decode(tally, tok, a.driver, folder, a.strings // 5)
        if tok.token_to_id("<|im_end|>") == 248046:
            compare_published(tally, a.driver, folder)
        print(f"{folder}: {tally.n} compared, {tally.bad} differ")
        bad += tally.bad
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

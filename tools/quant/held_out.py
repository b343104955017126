"""Held-out documents of the tiny model, a line of JSON each, for the programs that compare.

    python3 tools/quant/held_out.py [--docs 24] [--tokens N] |
        build/bin/hearth-worker text encode models/tiny |
        build/bin/hearth-bench compare --with-quantize head+dense models/tiny

Without --tokens: sums, tool calls and JSON with their answers, as tools/quant/kl.py takes them.  With it: one question
about a text of about N tokens, and its answer.  No training text contains their items (tools/tiny/corpus.py).  Needs
nothing but Python.
"""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tiny"))
import corpus

KINDS = {"sum": corpus.sum_doc, "tool": corpus.tool_doc, "json": corpus.json_doc}


def document(i, tokens):
    if tokens:
        return corpus.recall(corpus.Maker(f"hearth-tiny-held-recall-{tokens}-{i}", want_held=True), tokens, True)
    kind = list(KINDS)[i % len(KINDS)]
    return KINDS[kind](corpus.Maker(f"hearth-tiny-held-{kind}-{i}", want_held=True), True)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--docs", type=int, default=24)
    ap.add_argument("--tokens", type=int, default=0)
    a = ap.parse_args()
    for i in range(a.docs):
        d = document(i, a.tokens) | {"thinking": i % 2 == 0, "preserve": False}
        print(json.dumps({"text": "".join(text for text, _ in corpus.render(d))}))


if __name__ == "__main__":
    main()

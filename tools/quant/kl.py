"""KL divergence of a quantised model from its BF16 original, on held-out documents, through the CPU back end.

    python3 tools/quant/kl.py BF16_FOLDER QUANTISED_FOLDER LOGITS_DRIVER [--docs 24] [--mode prefill|decode] [--max KL]

The documents are of tools/tiny/corpus.py: sums, tool calls and JSON whose items no training text contains, with their answers.
Needs numpy and tokenizers.  Exits with 1 when the mean over all positions is above --max.
"""

import argparse
import pathlib
import subprocess
import sys

import numpy as np
from tokenizers import Tokenizer

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tiny"))
import corpus

KINDS = {"sum": corpus.sum_doc, "tool": corpus.tool_doc, "json": corpus.json_doc}


def documents(n, tok):
    for i in range(n):
        kind = list(KINDS)[i % len(KINDS)]
        d = KINDS[kind](corpus.Maker(f"hearth-tiny-held-{kind}-{i}", want_held=True), True)
        yield corpus.tokens_of(d | {"thinking": i % 2 == 0, "preserve": False}, tok)


def log_probs(driver, folder, mode, ids):
    p = subprocess.run([driver, folder, "bf16", mode], input=" ".join(map(str, ids)).encode(), capture_output=True)
    if p.returncode:
        sys.exit(p.stderr.decode())
    x = np.frombuffer(p.stdout, np.float32).reshape(len(ids), -1).astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def line(what, kl, same):
    return f"{what}: {len(kl)} positions, KL mean {kl.mean():.5f}, median {np.median(kl):.5f}, largest {kl.max():.3f}; same arg-max {same.mean():.4f}"


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("base")
    ap.add_argument("other")
    ap.add_argument("driver")
    ap.add_argument("--docs", type=int, default=24)
    ap.add_argument("--mode", choices=["prefill", "decode"], default="prefill")
    ap.add_argument("--max", type=float, default=float("inf"))
    a = ap.parse_args()
    tok = Tokenizer.from_file(a.base + "/tokenizer.json")
    kls, sames, said = [], [], []
    for ids, flags in documents(a.docs, tok):
        p, q = (log_probs(a.driver, f, a.mode, ids)[:-1] for f in (a.base, a.other))
        kls.append((np.exp(p) * (p - q)).sum(-1))
        sames.append(p.argmax(-1) == q.argmax(-1))
        said.append(np.array(flags[1:], bool))      # position t predicts token t + 1
    kl, same, said = map(np.concatenate, (kls, sames, said))
    print(line("all text", kl, same))
    print(line("answers", kl[said], same[said]))
    sys.exit(not kl.mean() <= a.max)


if __name__ == "__main__":
    main()

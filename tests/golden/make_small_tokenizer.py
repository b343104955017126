#!/usr/bin/env python3
"""Make the small tokenizer of the unit tests and the ids the reference gives with it.

    tests/golden/make_small_tokenizer.py tests/golden/tokenizer

Made with Python 3.11, tokenizers 0.23.3 (tests/golden/tokenizer/README says when).  Writes
tokenizer.json, tokenizer_config.json (which alone has the last seven added tokens), encode.jsonl
({"text", "special", "ids"}) and decode.jsonl ({"ids", "skip_special", "text"}).
"""
import argparse
import json
import pathlib
import random

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import make_qwen_tokenizer as qwen
import text_cases

N_VOCAB = 700


def corpus():
    r = random.Random(1)
    words = text_cases.WORDS
    for _ in range(3000):
        yield " ".join(r.choice(words) for _ in range(12)) + r.choice(
            [".\n", "!", "\n\n", " (x)", "   "]
        )
    for s in ("你好世界 中文 日本語のテキスト ", "Привет мир слово ", "café déjà naïve ", "한국어 텍스트 ", "😀🚀😀 ",
              "नमस्ते दुनिया ", "aaaa aaaaaaaa ", "========--------", "\t\t\t\tif (x) {\n\t\t}\n"):
        yield s * 200


def train():
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(qwen.WORDS), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=N_VOCAB,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    model = json.loads(t.to_str())["model"]
    return model["vocab"], model["merges"]


def lines(path, rows):
    with open(path, "w", encoding="utf-8") as f:
        for row in rows:
            # ASCII: U+0085 and U+2028 inside a line confuse editors
            f.write(json.dumps(row, separators=(",", ":")) + "\n")


def encode_rows(tok):
    # mostly short ones: the file is committed
    texts = [s for i, s in enumerate(text_cases.cases(2, 5000)) if len(s) <= 60 or i % 50 == 0]
    for i, s in enumerate(texts):
        special = i % 5 != 0
        tok.encode_special_tokens = not special
        yield {"text": s, "special": special, "ids": tok.encode(s).ids}


def decode_rows(tok, top):
    r = random.Random(3)
    for i in range(1000):
        ids = [r.choice([r.randrange(256), r.randrange(top + 20), r.randrange(top - 40, top)])
               for _ in range(r.choice([1, 2, 4, 9, 30]))]
        yield {
            "ids": ids,
            "skip_special": i % 2 == 0,
            "text": tok.decode(ids, skip_special_tokens=i % 2 == 0),
        }


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("out", type=pathlib.Path)
    out = ap.parse_args().out
    vocab, merges = train()
    first = len(vocab)
    merges = [" ".join(m) for m in merges]
    assert sorted(vocab.values()) == list(range(first))
    qwen.write(out, qwen.tokenizer_json(vocab, merges, first=first), qwen.tokenizer_config(first))
    same = qwen.tokenizer_json(vocab, merges, first=first, n_added=len(qwen.ADDED))
    tok = Tokenizer.from_str(json.dumps(same))
    lines(out / "encode.jsonl", encode_rows(tok))
    lines(out / "decode.jsonl", decode_rows(tok, first + len(qwen.ADDED)))


if __name__ == "__main__":
    main()

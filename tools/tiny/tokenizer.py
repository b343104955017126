"""Makes the tiny model's tokenizer: byte-level BPE with Qwen3.6's pre-tokenizer and added tokens.

    python3 tools/tiny/tokenizer.py OUT_DIR [--docs 6000]

writes tokenizer.json and tokenizer_config.json into OUT_DIR, trained on text of corpus.py.

The merges are learnt by Hugging Face's trainer in three parts, so that a word is cut into the same
tokens wherever it stands (after a space, a quote, "=" or a line's start): what a small model has
to do most is to copy words it has never seen.
  1. letters only, a word without its space, never across a change from small to capital;
  2. punctuation and white space;
  3. last in rank, the space in front of a few frequent whole words.
"""

import argparse
import json
import pathlib
import re
import sys
from collections import Counter

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
BASE = 1216	# ids below are bytes and merges; the 33 added tokens follow
SPACED = 110
PUNCTUATION = 90

# (string, special), in the order of their ids.  The last seven stand in tokenizer_config.json only.
ADDED = [("<|endoftext|>", True), ("<|im_start|>", True), ("<|im_end|>", True),
         ("<|object_ref_start|>", True), ("<|object_ref_end|>", True), ("<|box_start|>", True),
         ("<|box_end|>", True), ("<|quad_start|>", True), ("<|quad_end|>", True),
         ("<|vision_start|>", True), ("<|vision_end|>", True), ("<|vision_pad|>", True),
         ("<|image_pad|>", True), ("<|video_pad|>", True), ("<tool_call>", False),
         ("</tool_call>", False), ("<|fim_prefix|>", False), ("<|fim_middle|>", False),
         ("<|fim_suffix|>", False), ("<|fim_pad|>", False), ("<|repo_name|>", False),
         ("<|file_sep|>", False), ("<tool_response>", False), ("</tool_response>", False),
         ("<think>", False), ("</think>", False),
         ("<|audio_start|>", True), ("<|audio_end|>", True), ("<tts_pad>", True),
         ("<tts_text_bos>", True), ("<tts_text_eod>", True), ("<tts_text_bos_single>", True),
         ("<|audio_pad|>", True)]
IN_JSON = 26
IDS = {s: BASE + i for i, (s, _) in enumerate(ADDED)}


def byte_alphabet():
    """The 256 characters that stand for the bytes, in the order of their ids."""
    direct = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in direct]
    return [chr(b) for b in direct], {b: chr(256 + i) for i, b in enumerate(rest)}


def learn(texts, pattern, wanted, behavior="removed", invert=True):
    """Up to `wanted` merges of byte-level BPE over the pieces that match the pattern."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior=behavior, invert=invert),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + wanted, initial_alphabet=alphabet, show_progress=False,
                                  max_token_length=12)
    tok.train_from_iterator(texts, trainer)
    merges = json.loads(tok.to_str())["model"]["merges"]
    return [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in merges]


def build(texts):
    """vocab and merges of the three parts."""
    texts = [re.sub("|".join(re.escape(s) for s, _ in ADDED), "\x00", t) for t in texts]
    letters = learn(texts, r"\p{Lu}?\p{Ll}+|\p{Lu}+", BASE - 256 - SPACED - PUNCTUATION)
    marks = learn(texts, r"[^\p{L}\p{N}\x00]+", 4 * PUNCTUATION)
    direct, rest = byte_alphabet()
    vocab = {c: i for i, c in enumerate(direct + list(rest.values()))}
    merges = []

    def add(pair):
        joined = pair[0] + pair[1]
        if joined in vocab or pair[0] not in vocab or pair[1] not in vocab:
            return False
        vocab[joined] = len(vocab)
        merges.append(pair)
        return True

    for pair in letters:
        add(pair)
    shape = re.compile(r"Ġ?[^\sĠĊčĉA-Za-z0-9]+Ċ*|Ġ*Ċ+|Ġ+")	# only what the real split can yield
    left = PUNCTUATION
    for pair in marks:
        if left and shape.fullmatch(pair[0] + pair[1]):
            left -= add(pair)
    words = Counter(w for t in texts for w in re.findall(r" ([A-Za-z]+)", t))
    for word, _ in words.most_common():
        if len(vocab) == BASE:
            break
        if 2 <= len(word) and word in vocab:
            add(("Ġ", word))
    assert len(vocab) == BASE, len(vocab)
    return vocab, merges


def added_entry(content, special):
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False,
            "single_word": False, "special": special}


def write(vocab, merges, out):
    tok = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": IDS[s], **added_entry(s, sp)} for s, sp in ADDED[:IN_JSON]],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}]},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                           "use_regex": False},
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                    "use_regex": False},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False,
                  "ignore_merges": False, "vocab": vocab, "merges": [list(m) for m in merges]}}
    extra = [s for s, sp in ADDED if sp and s not in ("<|endoftext|>",)]
    conf = {
        "add_bos_token": False, "add_prefix_space": False,
        "added_tokens_decoder": {str(IDS[s]): added_entry(s, sp) for s, sp in ADDED},
        "additional_special_tokens": [s for s in extra if IDS[s] < BASE + 14],
        "bos_token": None, "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>",
        "errors": "replace", "model_max_length": 32768, "pad_token": "<|endoftext|>",
        "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None}
    out.mkdir(parents=True, exist_ok=True)
    (out / "tokenizer.json").write_text(json.dumps(tok, ensure_ascii=False, indent=1) + "\n")
    (out / "tokenizer_config.json").write_text(json.dumps(conf, ensure_ascii=False, indent=2) + "\n")


def load(folder):
    """The tokenizer of a folder, with the added tokens of both files, as a `tokenizers` object."""
    from tokenizers import AddedToken
    folder = pathlib.Path(folder)
    tok = Tokenizer.from_file(str(folder / "tokenizer.json"))
    conf = json.loads((folder / "tokenizer_config.json").read_text())
    for i, e in sorted(conf["added_tokens_decoder"].items(), key=lambda p: int(p[0])):
        if tok.token_to_id(e["content"]) is None:
            tok.add_tokens([AddedToken(e["content"], normalized=False, special=e["special"])])
        assert tok.token_to_id(e["content"]) == int(i), e
    return tok


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("out", type=pathlib.Path)
    ap.add_argument("--docs", type=int, default=6000)
    ap.add_argument("--text", help="a plain text file to train on instead of the corpus")
    args = ap.parse_args()
    if args.text:
        texts = pathlib.Path(args.text).read_text().split("\n\n\n")
    else:
        sys.path.insert(0, str(pathlib.Path(__file__).parent))
        import corpus
        texts = corpus.sample_texts(args.docs)
    write(*build(texts), args.out)
    t = load(args.out)
    for s in ('{"name": "brimtol_zix", "description": "Get a brimtol"}', "=brimtol_zix>", "12 + 345 = 357."):
        print(t.encode(s, add_special_tokens=False).tokens)

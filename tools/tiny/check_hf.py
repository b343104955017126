"""Checks an exported folder against Hugging Face transformers on the CPU, in float32.

    python3 tools/tiny/check_hf.py models/tiny

Loads the folder with Qwen3_5MoeForCausalLM's loader (mtp.* is ignored there, as with the real checkpoint), compares the
logits with model.py on packed documents, the tokenizer with AutoTokenizer, and prints the largest difference.
"""

import pathlib
import sys

import torch
from transformers import AutoTokenizer, Qwen3_5MoeForConditionalGeneration

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from export import load_weights
from model import Tiny, positions
from tokenizer import load

TEXT = ["<|im_start|>user\nWhat is 47 + 385?<|im_end|>\n<|im_start|>assistant\n<think>\n",
        "The quick brown fox jumps over the lazy dog. " * 12, "{\"a\": [1, 2.5, true, null]}\n\n  cafe\u0301 \U0001F680"]


def main(folder):
    tok = load(folder)
    hf_tok = AutoTokenizer.from_pretrained(folder)
    docs = [tok.encode(t, add_special_tokens=False).ids for t in TEXT]
    for t, d in zip(TEXT, docs):
        assert hf_tok(t, add_special_tokens=False).input_ids == d, t
        assert tok.decode(d, skip_special_tokens=False) == hf_tok.decode(d), t
    print("tokenizer:", type(hf_tok).__name__, "agrees; vocabulary", len(hf_tok))
    msg = [{"role": "user", "content": "Hi"}]
    print(repr(hf_tok.apply_chat_template(msg, tokenize=False, add_generation_prompt=True)))
    mine = load_weights(Tiny(), folder).eval()
    cu = torch.tensor([0] + [len(d) for d in docs]).cumsum(0).to(torch.int32)
    ids = torch.tensor(sum(docs, []))
    with torch.no_grad():
        h, _ = mine.hidden(ids, positions(cu, len(ids)), cu, max(map(len, docs)))
        ours = mine.logits(h)
        hf, info = Qwen3_5MoeForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True)
        print("missing:", [k for k in info["missing_keys"] if "visual" not in k], "unexpected:", info["unexpected_keys"])
        hf.eval()
        for i, d in enumerate(docs):
            ref = hf(input_ids=torch.tensor([d])).logits[0]
            got = ours[cu[i]:cu[i + 1]]
            rel = ((got - ref).norm() / ref.norm()).item()
            print(f"{len(d)} tokens: relative RMS {rel:.2e}, same arg-max {(got.argmax(-1) == ref.argmax(-1)).float().mean():.3f}")
            assert rel < 1e-4


if __name__ == "__main__":
    main(sys.argv[1])

"""Logits of our CPU back end against Hugging Face transformers in float32.

    python tests/golden/compare_logits.py BUILD_DIR MODEL_DIR IDS_FILE [n]

IDS_FILE holds token ids as text (white space between them); the first n are used.  Prints relative
RMS, mean KL and arg-max agreement over full logits for NUMERICS_F32 and NUMERICS_BF16, through the
prefill and the decode kernels, and for BF16 how far HF's own bfloat16 run is from its float32 run.
Exit status 1 when a float32 figure misses 1e-4, 1e-5 or 99.9 %.
"""
import subprocess
import sys

import numpy as np
import torch
import transformers


def reference(model_dir, ids, dtype):
    config = transformers.AutoConfig.from_pretrained(model_dir)
    config = getattr(config, "text_config", config)
    cls = (
        transformers.Qwen3_5MoeForCausalLM
        if "moe" in config.model_type
        else transformers.Qwen3_5ForCausalLM
    )
    model = cls.from_pretrained(model_dir, config=config, dtype=dtype, attn_implementation="eager",
                                key_mapping={"^model.language_model": "model"})
    model.eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float().numpy()


def ours(build, model_dir, ids, numerics, how):
    text = " ".join(map(str, ids)).encode()
    out = subprocess.run(
        [f"{build}/tests/tools/logits_driver", model_dir, numerics, how],
        input=text,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    return np.frombuffer(out, np.float32).reshape(len(ids), -1)


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def figures(name, got, want):
    rms = np.sqrt(((got - want) ** 2).mean()) / np.sqrt((want ** 2).mean())
    p, q = log_softmax(want), log_softmax(got)
    kl = (np.exp(p) * (p - q)).sum(-1).mean()
    same = (got.argmax(-1) == want.argmax(-1)).mean()
    print(f"{name:24} relative RMS {rms:.2e}  KL {kl:.2e}  arg-max {100 * same:.2f} %")
    return rms <= 1e-4 and kl <= 1e-5 and same >= 0.999


def main():
    build, model_dir, ids_file = sys.argv[1:4]
    ids = [int(x) for x in open(ids_file).read().split()]
    ids = ids[:int(sys.argv[4])] if len(sys.argv) > 4 else ids
    print(
        f"{model_dir}: {len(ids)} positions; torch {torch.__version__}, transformers {transformers.__version__}"
    )
    want = reference(model_dir, ids, torch.float32)
    ok = True
    for how in ("prefill", "decode"):
        ok &= figures(f"f32 {how}", ours(build, model_dir, ids, "f32", how), want)
    for how in ("prefill", "decode"):
        figures(f"bf16 {how}", ours(build, model_dir, ids, "bf16", how), want)
    figures("HF bfloat16", reference(model_dir, ids, torch.bfloat16), want)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()

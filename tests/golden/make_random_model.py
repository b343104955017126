"""A small random checkpoint with the ratios of the 27B or of the 35B, for compare_logits.py.

    python tests/golden/make_random_model.py dense|moe OUT_DIR

dense: GQA 6:1, 3 GDN value heads a key head, dense MLP; moe: GQA 8:1, 2:1, 8 of 16 experts with a
shared
one.  Head sizes are the real ones (256 and 128).  About 30 MB, made where it is needed, not
committed.
"""
import sys

import torch
import transformers


def main():
    kind, out = sys.argv[1:3]
    torch.manual_seed(20261121)
    common = dict(
        vocab_size=512,
        hidden_size=256,
        num_hidden_layers=4,
        head_dim=256,
        linear_key_head_dim=128,
        linear_value_head_dim=128,
        linear_num_key_heads=2,
        max_position_embeddings=4096,
        layer_types=["linear_attention"] * 3 + ["full_attention"],
        tie_word_embeddings=False,
    )
    if kind == "dense":
        config = transformers.Qwen3_5TextConfig(
            num_attention_heads=12,
            num_key_value_heads=2,
            intermediate_size=640,
            linear_num_value_heads=6,
            **common
        )
        model = transformers.Qwen3_5ForCausalLM(config)
    else:
        config = transformers.Qwen3_5MoeTextConfig(
            num_attention_heads=16,
            num_key_value_heads=2,
            num_experts=16,
            num_experts_per_tok=8,
            moe_intermediate_size=128,
            shared_expert_intermediate_size=128,
            linear_num_value_heads=4,
            **common
        )
        model = transformers.Qwen3_5MoeForCausalLM(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1 and "A_log" not in name and "dt_bias" not in name:
                p.add_(torch.randn_like(p) * 0.1)
            elif p.dim() > 1:
                p.copy_(torch.randn_like(p) * p.shape[-1] ** -0.5)
    model.to(torch.bfloat16).save_pretrained(out)


if __name__ == "__main__":
    main()

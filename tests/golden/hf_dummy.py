"""Hugging Face's own model over made-up weights, a layer at a time.

The model is built without memory (torch's meta device) and run by its own forward(); each part gets its weights right
before it runs and loses them right after.  So the 35B with all its layers runs in bfloat16 and in float32 on any
device that has room for one layer and the logits, and no second copy of a weight exists.
"""
import torch
import transformers

import dummy_weights as dw

# parameter of a decoder layer -> slots, stacked in rows
LAYER = {
    "input_layernorm.weight": ["INPUT_NORM"],
    "post_attention_layernorm.weight": ["POST_NORM"],
    "linear_attn.in_proj_qkv.weight": ["GDN_QKV"],
    "linear_attn.in_proj_z.weight": ["GDN_Z"],
    "linear_attn.in_proj_a.weight": ["GDN_A"],
    "linear_attn.in_proj_b.weight": ["GDN_B"],
    "linear_attn.conv1d.weight": ["GDN_CONV"],
    "linear_attn.A_log": ["GDN_A_LOG"],
    "linear_attn.dt_bias": ["GDN_DT_BIAS"],
    "linear_attn.norm.weight": ["GDN_NORM"],
    "linear_attn.out_proj.weight": ["GDN_OUT"],
    "self_attn.q_proj.weight": ["Q"],
    "self_attn.k_proj.weight": ["K"],
    "self_attn.v_proj.weight": ["V"],
    "self_attn.o_proj.weight": ["O"],
    "self_attn.q_norm.weight": ["Q_NORM"],
    "self_attn.k_norm.weight": ["K_NORM"],
    "mlp.gate.weight": ["ROUTER"],
    "mlp.experts.gate_up_proj": ["EXPERT_GATE", "EXPERT_UP"],
    "mlp.experts.down_proj": ["EXPERT_DOWN"],
    "mlp.shared_expert.gate_proj.weight": ["SHARED_GATE"],
    "mlp.shared_expert.up_proj.weight": ["SHARED_UP"],
    "mlp.shared_expert.down_proj.weight": ["SHARED_DOWN"],
    "mlp.shared_expert_gate.weight": ["SHARED_SCORE"],
    "mlp.gate_proj.weight": ["MLP_GATE"],
    "mlp.up_proj.weight": ["MLP_UP"],
    "mlp.down_proj.weight": ["MLP_DOWN"],
}


def fill_parameter(p, slots, layer):
    if p.dim() == 3 and p.shape[1] == 1:  # the convolution
        p = p.squeeze(1)
    experts = range(p.shape[0]) if p.dim() == 3 else (0,)
    high = p.shape[-2] // len(slots) if p.dim() > 1 else 1
    for i, slot in enumerate(slots):
        dw.fill(p if p.dim() == 1 else p[..., i * high:(i + 1) * high, :], slot, layer, experts)


def lend(part, device, names, layer=0):
    """Gives a part its weights for as long as it runs."""

    def begin(module, *_):
        module.to_empty(device=device)
        with torch.no_grad():
            for name, p in module.named_parameters():
                fill_parameter(p.data, names[name], layer)

    def end(module, *_):
        module.to("meta")

    part.register_forward_pre_hook(begin)
    part.register_forward_hook(end)


def build(config, dtype, device):
    kind = transformers.Qwen3_5MoeForCausalLM if "moe" in config.model_type else transformers.Qwen3_5ForCausalLM
    config._attn_implementation = config._experts_implementation = "eager"
    with torch.device("meta"):
        model = kind(config).to(dtype)
    rotary = type(model.model.rotary_emb)
    model.model.rotary_emb = rotary(config).to(device)  # has no weights, but tables
    lend(model.model.embed_tokens, device, {"weight": ["EMBED"]})
    lend(model.model.norm, device, {"weight": ["FINAL_NORM"]})
    lend(model.lm_head, device, {"weight": ["HEAD"]})
    for i, layer in enumerate(model.model.layers):
        lend(layer, device, LAYER, i)
    return model.eval()


def logits(config, ids, dtype, device):
    """(logits [positions, vocabulary] in float32 on the CPU, RMS of the residual stream behind each layer)."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    model, sizes = build(config, dtype, device), []
    for layer in model.model.layers:
        layer.register_forward_hook(lambda _, __, out: sizes.append(out.float().pow(2).mean().sqrt().item()))
    with torch.no_grad():
        out = model(torch.tensor([ids], device=device), use_cache=False).logits[0].float().cpu()
    del model
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    return out, sizes

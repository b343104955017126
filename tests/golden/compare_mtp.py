"""The MTP head of our CPU back end against an independent one in PyTorch, float32.

    python tests/golden/compare_mtp.py BUILD_DIR MODEL_DIR IDS_FILE [n]

The hidden states are Hugging Face's; the head is written here from the tensors mtp.* alone: entry t
takes the final-norm row of position t and the embedding of the token after it, is rotated at
position
t, and sees the entries before it, made of the tokens really fed.  Ours decodes the same tokens one
by one and reports its own arg-max and the head's guess after it.  Exit status 1 unless >= 99.5 % of
the guesses agree.
"""
import glob
import subprocess
import sys

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file


def rms(x, w, eps=1e-6):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * (1 + w)


def rope(x, pos, dims, theta):
    half = dims // 2
    ang = pos.double()[:, None] * theta ** (-torch.arange(half).double() * 2 / dims)
    c, s = ang.cos().float()[:, None], ang.sin().float()[:, None]
    a, b, rest = x[..., :half], x[..., half:dims], x[..., dims:]
    return torch.cat([a * c - b * s, b * c + a * s, rest], -1)


class Head:
    def __init__(self, w, c):
        self.w, self.c = {k: v.float() for k, v in w.items()}, c

    def __getitem__(self, name):
        return self.w["mtp.layers.0." + name]

    def inputs(self, embed, hidden):
        e = rms(embed, self.w["mtp.pre_fc_norm_embedding.weight"])
        n = rms(hidden, self.w["mtp.pre_fc_norm_hidden.weight"])
        return torch.cat([e, n], -1) @ self.w["mtp.fc.weight"].T

    def qkv(self, u, pos):
        c, n = self.c, u.shape[0]
        x = rms(u, self["input_layernorm.weight"])
        qg = (x @ self["self_attn.q_proj.weight"].T).view(n, c.num_attention_heads, 2 * c.head_dim)
        k = (x @ self["self_attn.k_proj.weight"].T).view(n, c.num_key_value_heads, c.head_dim)
        v = (x @ self["self_attn.v_proj.weight"].T).view(n, c.num_key_value_heads, c.head_dim)
        dims = int(c.head_dim * c.rope_parameters.get("partial_rotary_factor", 0.25))
        theta = c.rope_parameters["rope_theta"]
        q = rope(rms(qg[..., :c.head_dim], self["self_attn.q_norm.weight"]), pos, dims, theta)
        k = rope(rms(k, self["self_attn.k_norm.weight"]), pos, dims, theta)
        return q, qg[..., c.head_dim:], k, v

    def mlp(self, x):
        def expert(gate, up, down):
            return (F.silu(x @ gate.T) * (x @ up.T)) @ down.T

        if "mtp.layers.0.mlp.gate.weight" not in self.w:
            return expert(*(self[f"mlp.{p}_proj.weight"] for p in ("gate", "up", "down")))
        prob = torch.softmax(x @ self["mlp.gate.weight"].T, -1)
        top, ids = prob.topk(self.c.num_experts_per_tok, -1)
        weight = torch.zeros_like(prob).scatter(-1, ids, top / top.sum(-1, keepdim=True))
        y = torch.sigmoid(x @ self["mlp.shared_expert_gate.weight"].T) * expert(
            *(self[f"mlp.shared_expert.{p}_proj.weight"] for p in ("gate", "up", "down")))
        for i in range(prob.shape[-1]):
            gate, up = self["mlp.experts.gate_up_proj"][i].chunk(2)
            y = y + weight[:, i:i + 1] * expert(gate, up, self["mlp.experts.down_proj"][i])
        return y

    def guess(self, hidden, embed_next, embed_guess, lm_head):
        """For each position t: the entries 0..t-1 of the real tokens, then one of the guess."""
        n = hidden.shape[0]
        pos = torch.arange(n)
        _, _, k, v = self.qkv(self.inputs(embed_next, hidden), pos)
        u = self.inputs(embed_guess, hidden)
        q, gate, k_own, v_own = self.qkv(u, pos)
        group = self.c.num_attention_heads // self.c.num_key_value_heads
        outs = []
        for t in range(n):
            kk = torch.cat([k[:t], k_own[t:t + 1]]).repeat_interleave(group, 1)
            vv = torch.cat([v[:t], v_own[t:t + 1]]).repeat_interleave(group, 1)
            p = torch.softmax(torch.einsum("hd,thd->ht", q[t], kk) * self.c.head_dim ** -0.5, -1)
            outs.append(torch.einsum("ht,thd->hd", p, vv))
        y = (torch.stack(outs) * torch.sigmoid(gate)).reshape(n, -1)
        u = u + y @ self["self_attn.o_proj.weight"].T
        u = u + self.mlp(rms(u, self["post_attention_layernorm.weight"]))
        return (rms(u, self.w["mtp.norm.weight"]) @ lm_head.T).argmax(-1)


def main():
    build, model_dir, ids_file = sys.argv[1:4]
    ids = [int(x) for x in open(ids_file).read().split()][
        : int(sys.argv[4]) if len(sys.argv) > 4 else 400
    ]
    config = transformers.AutoConfig.from_pretrained(model_dir)
    config = getattr(config, "text_config", config)
    cls = (
        transformers.Qwen3_5MoeForCausalLM
        if "moe" in config.model_type
        else transformers.Qwen3_5ForCausalLM
    )
    model = cls.from_pretrained(model_dir, config=config, dtype=torch.float32,
                                key_mapping={"^model.language_model": "model"}).eval()
    tensors = {}
    for f in sorted(glob.glob(f"{model_dir}/*.safetensors")):
        tensors.update({k: v for k, v in load_file(f).items() if k.startswith("mtp.")})
    with torch.no_grad():
        hidden = model.model(torch.tensor([ids])).last_hidden_state[0]
        own = model.lm_head(hidden).argmax(-1)
        embed = model.model.embed_tokens
        nxt = embed(torch.tensor(ids[1:] + [0]))
        want = Head(tensors, config).guess(hidden, nxt, embed(own), model.lm_head.weight)
    out = subprocess.run(
        [f"{build}/tests/tools/logits_driver", model_dir, "f32", "decode", "draft"],
        input=" ".join(map(str, ids)).encode(),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    got = torch.tensor([[int(x) for x in line.split()] for line in out.decode().splitlines()])
    same = (got[:, 1] == want).float().mean().item()
    print(f"{len(ids)} positions: arg-max {100 * (got[:, 0] == own).float().mean().item():.2f} %, "
          f"MTP guess {100 * same:.2f} % equal; torch {torch.__version__}, "
          f"transformers {transformers.__version__}")
    sys.exit(0 if same >= 0.995 else 1)


if __name__ == "__main__":
    main()

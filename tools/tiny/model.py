"""The tiny model of Hearth in plain PyTorch, with its MTP head.

The architecture is Qwen3_5MoeForConditionalGeneration's text part: layers of Gated DeltaNet and
of gated attention, a mixture of experts with a shared expert in each, and one multi-token-prediction
layer that Hugging Face's class does not have.  Parameter names are those of the checkpoint, so that
state_dict() is what export.py writes.

A batch is one flat run of documents: ids [N], and cu [D + 1] with the offset of each document.
Nothing crosses a document's edge: the convolution looks at the position in the document, the delta
rule and the attention get the offsets.  On a GPU they are flash-linear-attention's chunk kernel and
torch's flash attention; elsewhere plain torch, a document at a time, which is slow and readable.

Weights are kept in float32; the arithmetic runs in the type that forward() is given.

This file is imported by the others; `python3 model.py` counts the parameters.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    vocab: int = 1280
    hidden: int = 384
    layers: int = 4
    interval: int = 4
    heads: int = 8
    kv_heads: int = 1
    head_dim: int = 256
    rotary: int = 64
    theta: float = 1e7
    gdn_k_heads: int = 2
    gdn_v_heads: int = 4
    gdn_dim: int = 128
    conv: int = 4
    experts: int = 4
    top_k: int = 2
    inter: int = 384
    eps: float = 1e-6

    def is_attention(self, i):
        return i % self.interval == self.interval - 1


def rms(x, w, eps=1e-6):
    """RMSNorm with a weight around zero: one rounding, at the end."""
    f = x.float()
    return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + eps) * (1 + w.float())).to(x.dtype)


def lin(x, w):
    return F.linear(x, w.to(x.dtype))


class Weight(nn.Module):
    """A bare weight under the name `<module>.weight`."""

    def __init__(self, *shape, std=None, fill=0.0):
        super().__init__()
        w = torch.full(shape, fill) if std is None else torch.randn(*shape) * std
        self.weight = nn.Parameter(w)


def causal_conv(u, w, pos):
    """Depthwise convolution over 4 tokens, then SiLU; u [N, C], w [C, 1, 4], pos [N]."""
    w = w.squeeze(1).to(u.dtype).float()
    taps = w.shape[1]
    acc = u.float() * w[:, taps - 1]
    for back in range(1, taps):
        past = F.pad(u, (0, 0, back, 0))[:-back].float()
        past = torch.where((pos >= back)[:, None], past, 0.0)
        acc = acc + past * w[:, taps - 1 - back]
    return F.silu(acc).to(u.dtype)


def l2norm(x):
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def delta_rule_doc(q, k, v, g, beta, state, chunk=64):
    """One document of the gated delta rule, chunked; all float32.

    q, k [T, H, D] normed and scaled, v [T, H, D], g, beta [T, H], state [H, D, D].
    Inside a chunk the rank-one updates are solved as one triangular system; only the state
    is carried from chunk to chunk.
    """
    outs = []
    for a in range(0, q.shape[0], chunk):
        qc, kc, vc = (t[a:a + chunk].transpose(0, 1) for t in (q, k, v))
        bc = beta[a:a + chunk].t()
        G = g[a:a + chunk].t().cumsum(-1)
        n = qc.shape[1]
        diff = G[:, :, None] - G[:, None, :]
        keep = torch.ones(n, n, dtype=torch.bool, device=q.device).tril()
        D = torch.where(keep, diff, -math.inf).exp()
        A = (bc[:, :, None] * (kc @ kc.transpose(1, 2)) * D).tril(-1)
        eye = torch.eye(n, device=q.device).expand_as(A)
        rhs = torch.cat([bc[..., None] * vc, (bc * G.exp())[..., None] * kc], -1)
        sol = torch.linalg.solve_triangular(A + eye, rhs, upper=False, unitriangular=True)
        U, W = sol.split([vc.shape[-1], kc.shape[-1]], -1)
        vn = U - W @ state
        o = G.exp()[..., None] * (qc @ state) + ((qc @ kc.transpose(1, 2)) * D) @ vn
        last = G[:, -1:]
        state = last.exp()[..., None] * state + ((last - G).exp()[..., None] * kc).transpose(1, 2) @ vn
        outs.append(o.transpose(0, 1))
    return torch.cat(outs), state


def delta_rule(q, k, v, g, beta, cu, want_state=False):
    """Gated delta rule over packed documents: q, k [N, Hk, D], v [N, Hv, D], g, beta [N, Hv]."""
    if q.is_cuda:
        from fla.ops.gated_delta_rule import chunk_gated_delta_rule
        o, s = chunk_gated_delta_rule(q[None], k[None], v[None], g[None], beta[None], cu_seqlens=cu.long(),
                                      use_qk_l2norm_in_kernel=True, output_final_state=want_state)
        return o[0], s
    rep = v.shape[1] // q.shape[1]
    qf = l2norm(q.float()).repeat_interleave(rep, 1) * q.shape[-1] ** -0.5
    kf = l2norm(k.float()).repeat_interleave(rep, 1)
    outs, states = [], []
    for a, b in zip(cu[:-1].tolist(), cu[1:].tolist()):
        s0 = torch.zeros(v.shape[1], q.shape[-1], v.shape[-1])
        o, s = delta_rule_doc(qf[a:b], kf[a:b], v[a:b].float(), g[a:b].float(), beta[a:b].float(), s0)
        outs.append(o)
        states.append(s)
    return torch.cat(outs).to(v.dtype), torch.stack(states)


def attention(q, k, v, cu, max_len):
    """Causal attention over packed documents: q [N, Hq, D], k, v [N, Hkv, D]."""
    scale = q.shape[-1] ** -0.5
    if q.is_cuda:
        from torch.nn.attention.varlen import varlen_attn
        return varlen_attn(q, k, v, cu, cu, max_len, max_len, scale=scale, window_size=(-1, 0))
    outs = []
    for a, b in zip(cu[:-1].tolist(), cu[1:].tolist()):
        o = F.scaled_dot_product_attention(q[a:b].transpose(0, 1)[None], k[a:b].transpose(0, 1)[None],
                                           v[a:b].transpose(0, 1)[None], is_causal=True, scale=scale,
                                           enable_gqa=True)
        outs.append(o[0].transpose(0, 1))
    return torch.cat(outs)


class GatedDeltaNet(nn.Module):
    def __init__(self, c, out_std):
        super().__init__()
        self.c = c
        kd, vd = c.gdn_k_heads * c.gdn_dim, c.gdn_v_heads * c.gdn_dim
        std = c.hidden ** -0.5
        self.in_proj_qkv = Weight(2 * kd + vd, c.hidden, std=std)
        self.in_proj_z = Weight(vd, c.hidden, std=std)
        self.in_proj_a = Weight(c.gdn_v_heads, c.hidden, std=std)
        self.in_proj_b = Weight(c.gdn_v_heads, c.hidden, std=std)
        self.conv1d = Weight(2 * kd + vd, 1, c.conv)
        nn.init.uniform_(self.conv1d.weight, -0.5, 0.5)
        self.A_log = nn.Parameter(torch.log(torch.linspace(1, 12, c.gdn_v_heads)))
        dt = torch.exp(torch.linspace(math.log(0.1), math.log(0.001), c.gdn_v_heads))
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.norm = Weight(c.gdn_dim, fill=1.0)
        self.out_proj = Weight(c.hidden, vd, std=out_std * vd ** -0.5)

    def before(self, x, norm_w, pos):
        """What the delta rule needs of the normed input, and the output gate z."""
        c = self.c
        x = rms(x, norm_w, c.eps)
        u = lin(x, self.in_proj_qkv.weight)
        return (u, *self.split(causal_conv(u, self.conv1d.weight, pos)), *self.gates(x))

    def split(self, conv):
        c = self.c
        kd = c.gdn_k_heads * c.gdn_dim
        q, k, v = conv.split([kd, kd, c.gdn_v_heads * c.gdn_dim], -1)
        n = q.shape[0]
        return (q.reshape(n, c.gdn_k_heads, c.gdn_dim), k.reshape(n, c.gdn_k_heads, c.gdn_dim),
                v.reshape(n, c.gdn_v_heads, c.gdn_dim))

    def gates(self, x):
        a = lin(x, self.in_proj_a.weight).float()
        g = -self.A_log.float().exp() * F.softplus(a + self.dt_bias.float())
        beta = torch.sigmoid(lin(x, self.in_proj_b.weight).float())
        return g, beta, lin(x, self.in_proj_z.weight)

    def after(self, x, o, z):
        c = self.c
        of = o.float()
        n = of * torch.rsqrt(of.pow(2).mean(-1, keepdim=True) + c.eps) * self.norm.weight.float()
        y = n * F.silu(z.reshape(o.shape).float())
        return x + lin(y.reshape(x.shape[0], -1).to(x.dtype), self.out_proj.weight)


class GatedAttention(nn.Module):
    def __init__(self, c, out_std):
        super().__init__()
        self.c = c
        std = c.hidden ** -0.5
        self.q_proj = Weight(c.heads * c.head_dim * 2, c.hidden, std=std)
        self.k_proj = Weight(c.kv_heads * c.head_dim, c.hidden, std=std)
        self.v_proj = Weight(c.kv_heads * c.head_dim, c.hidden, std=std)
        self.o_proj = Weight(c.hidden, c.heads * c.head_dim, std=out_std * (c.heads * c.head_dim) ** -0.5)
        self.q_norm = Weight(c.head_dim)
        self.k_norm = Weight(c.head_dim)

    def rope(self, x, pos):
        c = self.c
        half = c.rotary // 2
        inv = c.theta ** (-torch.arange(half, device=x.device, dtype=torch.float32) * 2 / c.rotary)
        ang = pos.float()[:, None] * inv
        cos, sin = ang.cos().to(x.dtype).float()[:, None], ang.sin().to(x.dtype).float()[:, None]
        a, b, rest = x.split([half, half, x.shape[-1] - c.rotary], -1)
        a, b = a.float(), b.float()
        return torch.cat([(a * cos - b * sin).to(x.dtype), (b * cos + a * sin).to(x.dtype), rest], -1)

    def before(self, x, norm_w, pos):
        c = self.c
        n = x.shape[0]
        x = rms(x, norm_w, c.eps)
        q, gate = lin(x, self.q_proj.weight).view(n, c.heads, 2 * c.head_dim).chunk(2, -1)
        k = lin(x, self.k_proj.weight).view(n, c.kv_heads, c.head_dim)
        v = lin(x, self.v_proj.weight).view(n, c.kv_heads, c.head_dim)
        q = self.rope(rms(q, self.q_norm.weight, c.eps), pos)
        k = self.rope(rms(k, self.k_norm.weight, c.eps), pos)
        return q.contiguous(), k.contiguous(), v, gate

    def after(self, x, o, gate):
        y = o * torch.sigmoid(gate.float()).to(o.dtype)
        return x + lin(y.reshape(x.shape[0], -1), self.o_proj.weight)


class Experts(nn.Module):
    def __init__(self, c, out_std):
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.randn(c.experts, 2 * c.inter, c.hidden) * c.hidden ** -0.5)
        self.down_proj = nn.Parameter(torch.randn(c.experts, c.hidden, c.inter) * out_std * c.inter ** -0.5)


class SharedExpert(nn.Module):
    def __init__(self, c, out_std):
        super().__init__()
        self.gate_proj = Weight(c.inter, c.hidden, std=c.hidden ** -0.5)
        self.up_proj = Weight(c.inter, c.hidden, std=c.hidden ** -0.5)
        self.down_proj = Weight(c.hidden, c.inter, std=out_std * c.inter ** -0.5)


class Moe(nn.Module):
    """Four experts of which a token uses two, and one that every token uses.

    With so few experts it is quickest to compute all of them as two dense products: the weight of
    an expert that was not chosen is zero, and the shared one is a fifth with its own gate.
    """

    def __init__(self, c, out_std):
        super().__init__()
        self.c = c
        self.gate = Weight(c.experts, c.hidden, std=c.hidden ** -0.5)
        self.experts = Experts(c, out_std)
        self.shared_expert = SharedExpert(c, out_std)
        self.shared_expert_gate = Weight(1, c.hidden, std=c.hidden ** -0.5)

    def forward(self, x, norm_w):
        """x + moe(norm x), and the load-balance loss (1 when the load is even)."""
        c = self.c
        h = rms(x, norm_w, c.eps)
        n = h.shape[0]
        p = lin(h, self.gate.weight).float().softmax(-1)
        val, idx = p.topk(c.top_k, -1)
        val = val / val.sum(-1, keepdim=True)
        w = torch.zeros_like(p).scatter(-1, idx, val)
        balance = c.experts / c.top_k * ((w > 0).float().mean(0) * p.mean(0)).sum()
        ws = torch.sigmoid(lin(h, self.shared_expert_gate.weight).float())
        s, e = self.shared_expert, self.experts
        up = torch.cat([e.gate_up_proj.reshape(-1, c.hidden), s.gate_proj.weight, s.up_proj.weight])
        down = torch.cat([e.down_proj.transpose(0, 1).reshape(c.hidden, -1), s.down_proj.weight], 1)
        gate, upv = lin(h, up).view(n, c.experts + 1, 2, c.inter).unbind(2)
        act = (F.silu(gate.float()) * upv.float()).to(x.dtype)
        act = act * torch.cat([w, ws], 1).to(x.dtype)[..., None]
        return x + lin(act.view(n, -1), down), balance


class Layer(nn.Module):
    def __init__(self, c, attn, out_std):
        super().__init__()
        self.input_layernorm = Weight(c.hidden)
        self.post_attention_layernorm = Weight(c.hidden)
        self.is_attention = attn
        if attn:
            self.self_attn = GatedAttention(c, out_std)
        else:
            self.linear_attn = GatedDeltaNet(c, out_std)
        self.mlp = Moe(c, out_std)

    def mix(self, x, pos, cu, max_len, keep=None):
        """The token mixer. keep, a list, receives what incremental decoding continues from."""
        w = self.input_layernorm.weight
        if self.is_attention:
            q, k, v, gate = self.self_attn.before(x, w, pos)
            if keep is not None:
                keep.append((k, v))
            return self.self_attn.after(x, attention(q, k, v, cu, max_len), gate)
        u, q, k, v, g, beta, z = self.linear_attn.before(x, w, pos)
        o, state = delta_rule(q, k, v, g, beta, cu, want_state=keep is not None)
        if keep is not None:
            keep.append((u, state))
        return self.linear_attn.after(x, o, z)

    def forward(self, x, pos, cu, max_len, keep=None):
        x = self.mix(x, pos, cu, max_len, keep)
        return self.mlp(x, self.post_attention_layernorm.weight)


class Mtp(nn.Module):
    """Predicts the token after next from the final hidden state and the next token's embedding."""

    def __init__(self, c, out_std):
        super().__init__()
        self.c = c
        self.fc = Weight(c.hidden, 2 * c.hidden, std=(2 * c.hidden) ** -0.5)
        self.pre_fc_norm_embedding = Weight(c.hidden)
        self.pre_fc_norm_hidden = Weight(c.hidden)
        self.layers = nn.ModuleList([Layer(c, True, out_std)])
        self.norm = Weight(c.hidden)

    def join(self, emb, h):
        e = rms(emb, self.pre_fc_norm_embedding.weight, self.c.eps)
        n = rms(h, self.pre_fc_norm_hidden.weight, self.c.eps)
        return lin(torch.cat([e, n], -1), self.fc.weight)

    def forward(self, emb, h, pos, cu, max_len):
        x, balance = self.layers[0](self.join(emb, h), pos, cu, max_len)
        return rms(x, self.norm.weight, self.c.eps), balance


class Trunk(nn.Module):
    def __init__(self, c, out_std):
        super().__init__()
        self.embed_tokens = Weight(c.vocab, c.hidden, std=0.5)
        self.layers = nn.ModuleList([Layer(c, c.is_attention(i), out_std) for i in range(c.layers)])
        self.norm = Weight(c.hidden)


class Tiny(nn.Module):
    def __init__(self, c=None):
        super().__init__()
        self.c = c or Config()
        out_std = (2 * self.c.layers) ** -0.5
        self.model = nn.Module()
        self.model.language_model = Trunk(self.c, out_std)
        self.lm_head = Weight(self.c.vocab, self.c.hidden, std=self.c.hidden ** -0.5)
        self.mtp = Mtp(self.c, out_std)

    @property
    def trunk(self):
        return self.model.language_model

    def embed(self, ids, dtype):
        return F.embedding(ids, self.trunk.embed_tokens.weight).to(dtype)

    def hidden(self, ids, pos, cu, max_len, dtype=torch.float32, keep=None):
        """Final hidden states (after the last norm) [N, hidden], and the mean balance loss."""
        x = self.embed(ids, dtype)
        total = 0.0
        for layer in self.trunk.layers:
            x, balance = layer(x, pos, cu, max_len, keep)
            total = total + balance
        return rms(x, self.trunk.norm.weight, self.c.eps), total / self.c.layers

    def draft_hidden(self, nxt, h, pos, cu, max_len):
        """The MTP layer's output for slots whose next token is nxt [N]."""
        return self.mtp(self.embed(nxt, h.dtype), h, pos, cu, max_len)

    def logits(self, h):
        return lin(h, self.lm_head.weight)


def positions(cu, n):
    """Position of each token in its document, from the offsets."""
    idx = torch.arange(n, device=cu.device)
    doc = torch.searchsorted(cu.long(), idx, right=True) - 1
    return (idx - cu.long()[doc]).to(torch.int32)


if __name__ == "__main__":
    m = Tiny()
    total = sum(p.numel() for p in m.parameters())
    mtp = sum(p.numel() for p in m.mtp.parameters())
    print(f"parameters {total:,} (MTP {mtp:,}), {2 * total:,} bytes in BF16")

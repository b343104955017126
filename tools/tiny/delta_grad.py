"""The part of flash-linear-attention's backward pass that its Triton kernel gets wrong on Hopper with Triton 3.4 to 3.7.0.

fla refuses to run there (its issue 640).  The same formulas are a handful of batched products when every chunk of 64
tokens lies within one document, which train.py sees to by padding documents to whole chunks; patch() puts them in
the kernel's place.  check_gpu.py compares the gradients with plain torch.
"""

import torch

CHUNK = 64


def grads(q, k, v, g, h, do, dh, dv, scale):
    """dq, dk, dw, dg of one layer.  q, k [N, H, K]; v, do, dv [N, HV, V]; g [N, HV] the decay summed up in each chunk,
    as a power of two; h, dh [N / 64, HV, K, V] the state that enters a chunk and its gradient at the chunk's end."""
    heads, rep = v.shape[1], v.shape[1] // q.shape[1]

    def chunks(x):
        return x.reshape(-1, CHUNK, heads, x.shape[-1]).transpose(1, 2)
    q, k = (chunks(x.repeat_interleave(rep, 1)) for x in (q, k))
    v, do, dv = chunks(v), chunks(do), chunks(dv)
    g = g.reshape(-1, CHUNK, heads).transpose(1, 2).float()
    last = g[..., -1:]
    hT, dhT = h.to(do.dtype).mT, dh.to(do.dtype).mT
    dw = -(dv.to(do.dtype) @ hT)
    dq = (do @ hT).float() * (torch.exp2(g)[..., None] * scale)
    dk = (v @ dhT).float() * torch.exp2(last - g)[..., None]
    dlast = (h.float() * dh.float()).sum((-1, -2)) * torch.exp2(last[..., 0]) + (dk * k).sum((-1, -2))
    keep = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=g.device).tril()
    decay = torch.exp2(torch.where(keep, g[..., :, None] - g[..., None, :], -1e30))
    ds = ((do @ v.mT).float() * decay * scale).to(k.dtype)
    dq = dq + (ds @ k).float()
    dk = dk + (ds.mT @ q).float()
    dg = (dq * q).sum(-1) - (dk * k).sum(-1)
    end = torch.arange(CHUNK, device=g.device) == CHUNK - 1
    dg = dg + torch.where(end, dlast[..., None], 0.0)

    def back(x):
        return x.transpose(1, 2).reshape(-1, heads, x.shape[-1])
    dq, dk = (back(x).view(-1, heads // rep, rep, x.shape[-1]).sum(2).to(q.dtype) for x in (dq, dk))
    return dq, dk, back(dw), dg.transpose(1, 2).reshape(-1, heads)


def patch(compiled=True):
    """Replaces the kernel inside fla's chunk_gated_delta_rule."""
    from fla.ops.gated_delta_rule import chunk
    fn = torch.compile(grads, dynamic=False) if compiled else grads

    def replacement(q, k, v, do, h, dh, w=None, g=None, dv=None, scale=None, **_):
        assert q.shape[0] == 1 and q.shape[1] % CHUNK == 0 and h.shape[1] * CHUNK == q.shape[1], (q.shape, h.shape)
        out = fn(q[0], k[0], v[0], g[0], h[0], do[0], dh[0], dv[0], scale)
        return tuple(x[None] for x in out)
    chunk.chunk_bwd_dqkwg = replacement

"""Asks the held-out sets of the PyTorch model itself, greedily and in large batches, with thinking on and off.

    python3 tools/tiny/eval_torch.py models/tiny [--part 1.0] [--modes on off]

The weights are the exported BF16 ones and the arithmetic runs in BF16 on a GPU, so that the figures are what a
decoder will see but for the order of sums.  Also counts how often the first draft of the MTP head is right.
"""

import argparse
import json
import pathlib
import re
import sys
import time

import torch
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import corpus
import export
import tokenizer as tokmod
from eval_http import BARS, score, table
from model import Tiny, causal_conv, l2norm, positions, rms

END = tokmod.IDS["<|im_end|>"]


class Decoder:
    """Greedy decoding of many conversations at once with the caches of the real thing."""

    def __init__(self, model, dtype):
        self.m, self.c, self.dtype = model, model.c, dtype
        self.dev = model.lm_head.weight.device
        self.agree = [0, 0]	# tokens of the replies that one pass over the whole would give too

    def prefill(self, docs, room):
        lens = [len(d) for d in docs]
        ids = torch.tensor(sum(docs, []), device=self.dev)
        cu = torch.tensor([0] + lens, device=self.dev).cumsum(0).to(torch.int32)
        pos, keep = positions(cu, len(ids)), []
        h, _ = self.m.hidden(ids, pos, cu, max(lens), self.dtype, keep)
        self.cache, ends = [], cu[1:].long()
        for layer, (a, b) in zip(self.m.trunk.layers, keep):
            if layer.is_attention:
                k = torch.zeros(len(docs), 1, max(lens) + room, self.c.head_dim, dtype=self.dtype, device=self.dev)
                v = torch.zeros_like(k)
                for i, n in enumerate(lens):
                    k[i, 0, :n], v[i, 0, :n] = a[cu[i]:cu[i + 1], 0], b[cu[i]:cu[i + 1], 0]
                self.cache.append([k, v])
            else:
                tail = torch.stack([a[e - 3:e] for e in ends.tolist()])
                self.cache.append([tail, b.float()])
        self.pos = torch.tensor(lens, device=self.dev)
        return self.m.logits(h[ends - 1]).argmax(-1)

    def step(self, tok):
        c, x = self.c, self.m.embed(tok, self.dtype)
        for layer, cache in zip(self.m.trunk.layers, self.cache):
            w = layer.input_layernorm.weight
            if layer.is_attention:
                q, k, v, gate = layer.self_attn.before(x, w, self.pos)
                rows = torch.arange(len(tok), device=self.dev)
                cache[0][rows, 0, self.pos], cache[1][rows, 0, self.pos] = k[:, 0], v[:, 0]
                mask = torch.arange(cache[0].shape[2], device=self.dev)[None] <= self.pos[:, None]
                s = torch.einsum("bhd,btd->bht", q.float(), cache[0][:, 0].float()) * c.head_dim ** -0.5
                p = s.masked_fill(~mask[:, None], float("-inf")).softmax(-1)
                o = torch.einsum("bht,btd->bhd", p.to(self.dtype).float(), cache[1][:, 0].float()).to(self.dtype)
                x = layer.self_attn.after(x, o, gate)
            else:
                x = self.delta_step(layer.linear_attn, x, w, cache)
            x, _ = layer.mlp(x, layer.post_attention_layernorm.weight)
        self.pos = self.pos + 1
        return self.m.logits(rms(x, self.m.trunk.norm.weight, c.eps)).argmax(-1)

    def delta_step(self, g, x, norm_w, cache):
        c = self.c
        h = rms(x, norm_w, c.eps)
        u = F.linear(h, g.in_proj_qkv.weight.to(h.dtype))
        win = torch.cat([cache[0], u[:, None]], 1)
        cache[0] = win[:, 1:]
        w = g.conv1d.weight.squeeze(1).to(u.dtype).float()
        q, k, v = g.split(F.silu((win.float() * w.t()).sum(1)).to(u.dtype))
        decay, beta, z = g.gates(h)
        rep = c.gdn_v_heads // c.gdn_k_heads
        q = l2norm(q.float()).repeat_interleave(rep, 1) * c.gdn_dim ** -0.5
        k = l2norm(k.float()).repeat_interleave(rep, 1)
        s = cache[1] * decay.exp()[..., None, None]
        d = beta[..., None] * (v.float() - torch.einsum("bhkv,bhk->bhv", s, k))
        s = s + k[..., None] * d[..., None, :]
        cache[1] = s
        return g.after(x, torch.einsum("bhkv,bhk->bhv", s, q).to(x.dtype), z)

    @torch.no_grad()
    def generate(self, docs, limit):
        tok = self.prefill(docs, limit + 1)
        out, alive = [tok], tok != END
        for _ in range(limit - 1):
            if not alive.any():
                break
            tok = self.step(tok)
            out.append(tok)
            alive &= tok != END
        rows = torch.stack(out, 1).tolist()
        return [r[:r.index(END)] if END in r else r for r in rows]

    @torch.no_grad()
    def acceptance(self, docs, replies):
        """(first drafts that were right, drafts) over the replies, END included."""
        full = [d + r + [END] for d, r in zip(docs, replies)]
        lens = [len(d) for d in full]
        ids = torch.tensor(sum(full, []), device=self.dev)
        cu = torch.tensor([0] + lens, device=self.dev).cumsum(0).to(torch.int32)
        pos = positions(cu, len(ids))
        h, _ = self.m.hidden(ids, pos, cu, max(lens), self.dtype)
        m, _ = self.m.draft_hidden(torch.roll(ids, -1), h, pos, cu, max(lens))
        draft = self.m.logits(m).argmax(-1)
        again = self.m.logits(h).argmax(-1)
        right = total = 0
        for i, d in enumerate(docs):
            a, b = int(cu[i]) + len(d) - 1, int(cu[i + 1])
            self.agree = [self.agree[0] + (again[a:b - 1] == ids[a + 1:b]).sum().item(), self.agree[1] + b - 1 - a]
            right += (draft[a:b - 2] == ids[a + 2:b]).sum().item()
            total += max(0, b - 2 - a)
        return right, total


def parse(text, thinking):
    """A reply as the API would give it."""
    if thinking:
        _, _, text = text.partition("</think>")
    calls, rest = [], text
    if "<tool_call>" in text:
        rest = text[:text.index("<tool_call>")]
        for f in re.findall(r"(?s)<tool_call>\n<function=([^>\n]+)>\n(.*?)</function>\n</tool_call>", text):
            calls.append((f[0], dict(re.findall(r"(?s)<parameter=([^>\n]+)>\n(.*?)\n</parameter>\n", f[1]))))
        if text.count("<tool_call>") != len(calls):
            rest += "<tool_call> broken"
    return rest.strip(), calls


def typed(calls, tools):
    """The XML's strings as the types that the schemas give."""
    out = []
    for name, args in calls:
        props = next((t["function"]["parameters"]["properties"] for t in tools if t["function"]["name"] == name), {})
        got = {}
        for k, v in args.items():
            got[k] = v
            if props.get(k, {}).get("type", "string") != "string":
                try:
                    got[k] = json.loads(v)
                except ValueError:
                    pass
        out.append((name, got))
    return out


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("folder")
    ap.add_argument("--part", type=float, default=1.0, help="share of each set that is asked")
    ap.add_argument("--modes", nargs="*", default=["on", "off"])
    ap.add_argument("--tokenizer")
    ap.add_argument("--fails", type=int, default=3)
    ap.add_argument("--sets", nargs="*")
    ap.add_argument("--far", type=int, nargs="*", default=[], help="also 20 recalls from contexts of so many tokens")
    args = ap.parse_args()
    tok = tokmod.load(args.tokenizer or args.folder)
    dev = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if dev == "cuda" else torch.float32
    dec = Decoder(export.load_weights(Tiny(), args.folder).to(dev), dtype)
    counts = {s: max(1, int(n * args.part)) for s, n in corpus.COUNTS.items() if not args.sets or s in args.sets}
    items = list(corpus.held_out(counts))
    for mode in args.modes:
        results, accept, t0 = {}, [0, 0], time.time()
        for name in counts:
            todo = [x for x in items if x["set"] == name]
            docs = []
            for x in todo:
                pieces = corpus.render({"messages": x["messages"] + [corpus.bot("")], "tools": x["tools"], "thinking": mode == "on", "preserve": False})
                docs.append(tok.encode(pieces[-2][0], add_special_tokens=False).ids if len(pieces) == 2 else
                            sum((tok.encode(s, add_special_tokens=False).ids for s, _ in pieces[:-1]), []))
            at = 0
            while at < len(docs):
                n = 1
                while at + n < len(docs) and sum(map(len, docs[at:at + n + 1])) < 400_000:
                    n += 1
                part = docs[at:at + n]
                replies = dec.generate(part, 400)
                a = dec.acceptance(part, replies)
                accept = [accept[0] + a[0], accept[1] + a[1]]
                for x, r in zip(todo[at:at + n], replies):
                    text = tok.decode(r, skip_special_tokens=False)
                    content, calls = parse(text, mode == "on")
                    got = score(x, content, typed(calls, x["tools"] or []))
                    results.setdefault(name, []).append(got)
                    if not got["right"] and sum(not g["right"] for g in results[name]) <= args.fails:
                        print(f"-- {x['id']} thinking {mode}: {x['messages'][-1]['content'][-300:]!r}\n   got {text[-400:]!r}\n   want {json.dumps(x['check']['want'], ensure_ascii=False)}")
                at += n
        print(f"thinking {mode} ({time.time() - t0:.0f} s)")
        print(table(results))
        print(f"first draft right: {accept[0]}/{accept[1]} = {accept[0] / max(1, accept[1]):.3f}; "
              f"decode and prefill agree on {dec.agree[0]}/{dec.agree[1]}", flush=True)
    for n in args.far:
        docs, want = [], []
        for i in range(20):
            d = corpus.recall(corpus.Maker(f"far-{n}-{i}", want_held=True), n, True)
            last = max(j for j, x in enumerate(d["messages"]) if x["role"] == "user")
            pieces = corpus.render({"messages": d["messages"][:last + 1] + [corpus.bot("")], "tools": None, "thinking": True, "preserve": False})
            docs.append(sum((tok.encode(s, add_special_tokens=False).ids for s, _ in pieces[:-1]), []))
            want.append(d["check"]["want"])
        right = sum(w in tok.decode(dec.generate([x], 60)[0]) for w, x in zip(want, docs))
        print(f"recall from about {n} tokens ({min(map(len, docs))} to {max(map(len, docs))}): {right}/20", flush=True)


if __name__ == "__main__":
    main()

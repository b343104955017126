"""Trains the tiny model on one GPU, for a given number of seconds, from nothing or from a folder that export.py can read.

    python3 tools/tiny/train.py OUT_DIR --seconds 520 --progress 0 0.5 [--resume DIR] [--tokenizer models/tiny]

A training of several runs gives each its part of the whole with --progress FROM TO: the learning rate and the mixture of
documents depend on it alone.  OUT_DIR gets the BF16 shards (<= 16 MB each, 40 MB in all); --state FILE also keeps the
optimizer's state for the next run on the same machine, and without it a run warms up again.

The documents are made on the fly by worker processes (corpus.py; each number is used once), packed without padding
into batches of --tokens tokens.  Loss: cross entropy on what the assistant says, a little on the rest, the MTP head on
the token after next, and the load balance of the experts.  Matrices are trained by Muon, the rest by AdamW.
"""

import argparse
import json
import math
import multiprocessing as mp
import pathlib
import queue
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import corpus
import delta_grad
import export
import tokenizer as tokmod
from model import Config, Tiny, positions

PAD = tokmod.IDS["<|endoftext|>"]


def stage_of(progress):
    return 0 if progress < 0.2 else 1 if progress < 0.7 else 2


def maker(worker, workers, first, stage, folder, size, out):
    """Worker process: packs documents first + worker, first + worker + workers, ... into batches."""
    tok = tokmod.load(folder)
    i, held = first + worker, None
    while True:
        ids, flags, cu = [], [], [0]
        while True:
            if held is None:
                held = corpus.tokens_of(corpus.document(i, stage.value), tok)
                i += workers
                if len(held[0]) > size:
                    held = None
                    continue
            if len(ids) + len(held[0]) + delta_grad.CHUNK > size:
                break
            fill = -len(held[0]) % delta_grad.CHUNK	# a chunk belongs to one document
            ids += held[0] + [PAD] * fill
            flags += held[1] + [0] * fill
            cu.append(len(ids))
            held = None
        if len(ids) < size:
            flags += [0] * (size - len(ids))
            ids += [PAD] * (size - len(ids))
            cu.append(size)
        out.put((np.array(ids, np.int16), np.array(flags, np.uint8), np.array(cu, np.int32), i))


def newton_schulz(g):
    """The nearest orthogonal matrices to a stack [B, m, n], roughly (Muon's quintic iteration)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
    return x.mT if tall else x


class Muon:
    """Momentum, orthogonalised; parameters of one shape are treated as one stack. 3-D weights are stacks themselves."""

    def __init__(self, params, momentum=0.95, decay=0.05):
        self.groups, self.momentum, self.decay = {}, momentum, decay
        for p in params:
            self.groups.setdefault(tuple(p.shape[-2:]), []).append(p)
        self.state = {s: torch.zeros(sum(p.numel() // (s[0] * s[1]) for p in ps), *s, device=ps[0].device)
                      for s, ps in self.groups.items()}

    @torch.no_grad()
    def step(self, lr):
        for s, ps in self.groups.items():
            g = torch.cat([p.grad.reshape(-1, *s) for p in ps])
            buf = self.state[s]
            buf.lerp_(g, 1 - self.momentum)
            u = newton_schulz(g.lerp(buf, self.momentum)).float() * (0.2 * max(s) ** 0.5)
            at = 0
            for p in ps:
                n = p.numel() // (s[0] * s[1])
                p.mul_(1 - lr * self.decay).sub_(u[at:at + n].reshape(p.shape), alpha=lr)
                at += n


def losses(logits, target, weight):
    ce = F.cross_entropy(logits.float(), target, reduction="none")
    good = ((logits.argmax(-1) == target).float() * (weight == 1)).sum()
    return (ce * weight).sum(), good


class Trainer:
    def __init__(self, args, device):
        torch.manual_seed(7)
        self.model = Tiny(Config())
        if args.resume:
            export.load_weights(self.model, args.resume)
        self.model.to(device)
        named = list(self.model.named_parameters())
        matrix = [p for n, p in named if min(p.shape[-2:] if p.dim() > 1 else [1]) >= 128 and "embed" not in n and "lm_head" not in n]
        ids = {id(p) for p in matrix}
        self.muon = Muon(matrix)
        self.adam = torch.optim.AdamW([p for _, p in named if id(p) not in ids], lr=1e-3, betas=(0.9, 0.98), eps=1e-10,
                                      weight_decay=0.0, fused=device == "cuda")
        self.device = device
        self.steps = 0
        self.loss = losses
        if device == "cuda" and not args.eager:
            self.compile()

    def compile(self):
        """Compiles the pieces between the attention and delta-rule kernels; all have the batch's fixed shape."""
        torch._dynamo.config.cache_size_limit = 64
        torch._dynamo.config.allow_unspec_int_on_nn_module = True
        delta_grad.patch()
        m = self.model
        for layer in [*m.trunk.layers, *m.mtp.layers]:
            layer.mlp.forward = torch.compile(layer.mlp.forward, dynamic=False)
            mixer = layer.self_attn if layer.is_attention else layer.linear_attn
            mixer.before = torch.compile(mixer.before, dynamic=False)
            mixer.after = torch.compile(mixer.after, dynamic=False)
        m.mtp.join = torch.compile(m.mtp.join, dynamic=False)
        self.loss = torch.compile(losses, dynamic=False)

    def state(self):
        return {"model": self.model.state_dict(), "muon": self.muon.state, "adam": self.adam.state_dict(), "steps": self.steps}

    def load_state(self, path):
        s = torch.load(path, map_location=self.device)
        self.model.load_state_dict(s["model"])
        self.muon.state = s["muon"]
        self.adam.load_state_dict(s["adam"])
        self.steps = s["steps"]

    def step(self, batch, lr, rest, mtp_weight):
        """One batch; rest is the weight of tokens that the assistant did not say. Returns tensors to be printed later."""
        ids, flags, cu = batch
        n = ids.shape[0]
        pos = positions(cu, n)
        longest = int((cu[1:] - cu[:-1]).max())
        weight = torch.where(flags > 0, 1.0, torch.where(ids == PAD, 0.0, rest))
        count = flags.sum()
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        h, balance = self.model.hidden(ids, pos, cu, longest, dtype)
        # What the next document starts with is nothing to be predicted.
        w1 = torch.where(torch.roll(pos, -1) >= 1, torch.roll(weight, -1), 0.0)
        w2 = torch.where(torch.roll(pos, -2) >= 2, torch.roll(weight, -2), 0.0)
        loss, good = self.loss(self.model.logits(h), torch.roll(ids, -1), w1)
        m, balance2 = self.model.draft_hidden(torch.roll(ids, -1), h, pos, cu, longest)
        draft, draft_good = self.loss(self.model.logits(m), torch.roll(ids, -2), w2)
        total = (loss + mtp_weight * draft) / count + 0.01 * (balance + 0.25 * balance2)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.adam.param_groups[0]["params"], 1.0)
        self.muon.step(lr)
        for g in self.adam.param_groups:
            g["lr"] = lr
        self.adam.step()
        for p in self.model.parameters():
            p.grad = None
        self.steps += 1
        return torch.stack([loss.detach() / count, good / count, draft.detach() / count, draft_good / count, balance.detach()])


def rate(progress, peak):
    """Flat, then linearly down to nearly nothing over the last 55 %."""
    return peak * min(1.0, max(0.0, (1 - progress) / 0.55) * 0.98 + 0.02)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("out", type=pathlib.Path)
    ap.add_argument("--seconds", type=float, required=True)
    ap.add_argument("--progress", type=float, nargs=2, default=[0, 1])
    ap.add_argument("--resume")
    ap.add_argument("--state", type=pathlib.Path, help="full state, read if it exists, written at the end")
    ap.add_argument("--tokenizer", default=str(pathlib.Path(__file__).parents[2] / "models/tiny"))
    ap.add_argument("--tokens", type=int, default=65536)
    ap.add_argument("--workers", type=int, default=12)
    ap.add_argument("--first", type=int, default=0, help="number of the first document")
    ap.add_argument("--lr", type=float, default=3e-3)
    ap.add_argument("--eager", action="store_true")
    args = ap.parse_args()
    begin = time.time()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # The workers are started before CUDA is.
    ctx = mp.get_context("fork")
    stage = ctx.Value("i", stage_of(args.progress[0]))
    q = ctx.Queue(maxsize=3 * args.workers)
    procs = [ctx.Process(target=maker, daemon=True, args=(w, args.workers, args.first, stage, args.tokenizer, args.tokens, q))
             for w in range(args.workers)]
    for p in procs:
        p.start()
    t = Trainer(args, device)
    if args.state and args.state.exists():
        t.load_state(args.state)
    warm, first_step, seen, top = 60 if t.steps else 150, t.steps, 0, 0
    log, starve, start = [], 0.0, None
    while True:
        now = time.time()
        if now - begin > args.seconds:
            break
        a = time.time()
        ids, flags, cu, doc = q.get(timeout=120)
        starve += time.time() - a
        # The first step compiles; progress counts from its end.
        done = 0.0 if start is None else (now - start) / (args.seconds - (start - begin))
        progress = args.progress[0] + (args.progress[1] - args.progress[0]) * done
        stage.value = stage_of(progress)
        batch = (torch.from_numpy(ids).to(device, non_blocking=True).long(), torch.from_numpy(flags).to(device, non_blocking=True).long(),
                 torch.from_numpy(cu).to(device, non_blocking=True))
        lr = rate(progress, args.lr) * min(1.0, (t.steps - first_step + 1) / warm)
        out = t.step(batch, lr, 0.1 if progress < 0.2 else 0.03, 0.3)
        if start is None or t.steps == first_step + 3:
            torch.cuda.synchronize() if device == "cuda" else None
            start = time.time()
            print(f"step {t.steps} done after {start - begin:.1f} s", flush=True)
        seen += len(ids)
        top = max(top, doc)
        log.append(out)
        if t.steps % 200 == 0 or device == "cpu":
            x = torch.stack(log).float().mean(0).tolist()
            log = []
            print(f"step {t.steps} progress {progress:.3f} stage {stage.value} lr {lr:.2e} loss {x[0]:.4f} right {x[1]:.4f} draft {x[2]:.4f} "
                  f"right {x[3]:.4f} balance {x[4]:.3f} tokens/s {seen / (time.time() - start):,.0f} starved {starve:.1f} s {time.time() - begin:.0f} s", flush=True)
    for p in procs:
        p.terminate()
    export.save_weights(t.model, args.out)
    (args.out / "train.json").write_text(json.dumps({"progress": args.progress, "steps": t.steps, "tokens": seen, "documents": [args.first, top]}))
    if args.state:
        torch.save(t.state(), args.state)
    print(f"wrote {args.out}: {t.steps} steps, {seen:,} tokens in this run, documents {args.first} to {top}, {time.time() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()

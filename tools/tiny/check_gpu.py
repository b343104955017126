"""Compares the model on the GPU (fla, flash attention, BF16) with plain torch on the CPU: hidden states and gradients.

    python3 tools/tiny/check_gpu.py
"""

import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import delta_grad
from model import Tiny, positions


def main():
    torch.manual_seed(0)
    delta_grad.patch(compiled=False)
    m = Tiny()
    lens = [128, 64, 320, 192]
    cu = torch.tensor([0] + lens).cumsum(0).to(torch.int32)
    ids = torch.randint(0, 1200, (sum(lens),))
    pos = positions(cu, len(ids))
    mix = torch.randn(len(ids), 384)
    grads = []
    for dev, dtype in (("cpu", torch.float32), ("cuda", torch.bfloat16)):
        m.to(dev)
        m.zero_grad()
        h, _ = m.hidden(ids.to(dev), pos.to(dev), cu.to(dev), max(lens), dtype)
        d, _ = m.draft_hidden(ids.roll(-1).to(dev), h, pos.to(dev), cu.to(dev), max(lens))
        ((h.float() + d.float()) * mix.to(dev)).sum().backward()
        grads.append([h.detach().float().cpu(), d.detach().float().cpu()] + [(p.grad if p.grad is not None else torch.zeros(1) + 1).float().cpu().clone() for p in m.parameters()])
    names = ["hidden", "draft"] + [n for n, _ in m.named_parameters()]
    worst = sorted(((((a - b).norm() / a.norm()).item(), n) for n, a, b in zip(names, *grads)), reverse=True)
    print("largest relative differences:", [f"{n} {x:.3f}" for x, n in worst[:8]], "median", f"{worst[len(worst) // 2][0]:.3f}", flush=True)
    assert worst[0][0] < 0.25 and worst[len(worst) // 2][0] < 0.1


if __name__ == "__main__":
    main()

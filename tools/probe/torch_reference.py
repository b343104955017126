"""What cuBLAS (through PyTorch, BF16) needs for the dense cells of the CUDA probe.

    python3 tools/probe/torch_reference.py > cublas.md

Launched as the probe launches: CUDA graphs over rotating copies of the weights, medians.
cuBLAS chooses its algorithm by shape, so its bits change with the number of rows.
"""
import statistics
import torch

SHAPES = [(12352, 2048), (9216, 2048), (2048, 4096), (248320, 2048)]


def cell(n, k, rows):
    copies = max(4, min(48, (4 << 30) // (n * k * 2)))
    ws = [torch.randn(n, k, device="cuda", dtype=torch.bfloat16) for _ in range(copies)]
    x = torch.randn(rows, k, device="cuda", dtype=torch.bfloat16)
    out = torch.empty(rows, n, device="cuda", dtype=torch.bfloat16)
    for w in ws[:2]:
        torch.mm(x, w.t(), out=out)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for w in ws:
            torch.mm(x, w.t(), out=out)
    times = []
    for _ in range(12):
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record()
        graph.replay()
        b.record()
        b.synchronize()
        times.append(a.elapsed_time(b) * 1e3 / copies)
    return statistics.median(times[2:])


print(f"cuBLAS through torch {torch.__version__}, {torch.cuda.get_device_name()}\n")
print("| matrix | " + " | ".join(f"{r} rows us" for r in (1, 8, 24, 64, 200)) + " |")
print("|---|--:|--:|--:|--:|--:|")
with torch.no_grad():
    for n, k in SHAPES:
        print(f"| {n} x {k} | " + " | ".join(f"{cell(n, k, r):.2f}" for r in (1, 8, 24, 64, 200)) + " |", flush=True)

"""The bytes of kernels/dummy_fill.c in PyTorch, on any device: read there what they are.

A weight is a function of (seed, slot, layer, expert, place), so a tensor is filled in place, alone, and experts side by
side.  Whole numbers in int64 throughout, then the same float32 operations as in C.  compare_dummy.py holds the two
against one another, byte for byte.
"""
import math

import torch

# enum weight_slot of kernels/model.h, in its order
SLOTS = """EMBED HEAD FINAL_NORM MTP_FC MTP_EMBED_NORM MTP_HIDDEN_NORM MTP_NORM INPUT_NORM POST_NORM GDN_QKV GDN_Z GDN_A
GDN_B GDN_CONV GDN_A_LOG GDN_DT_BIAS GDN_NORM GDN_OUT Q K V O Q_NORM K_NORM ROUTER EXPERT_GATE EXPERT_UP EXPERT_DOWN
SHARED_GATE SHARED_UP SHARED_DOWN SHARED_SCORE MLP_GATE MLP_UP MLP_DOWN""".split()
SLOT = {name: i for i, name in enumerate(SLOTS)}
PER_LAYER = SLOT["INPUT_NORM"]
GAIN = {"HEAD": 4.0, "ROUTER": 2.0, "GDN_OUT": 0.1875}
GAIN.update({name: 0.25 for name in ("O", "EXPERT_DOWN", "SHARED_DOWN", "MLP_DOWN")})
RANGE = {"EMBED": (0, 1), "GDN_NORM": (1, 0.25), "GDN_A_LOG": (0.5, 1), "GDN_DT_BIAS": (-3, 1),
         "Q_NORM": (0.5, 0.5), "K_NORM": (0.5, 0.5)}
RANGE.update({name: (0, 0.25) for name in SLOTS if name.endswith("_NORM") and name not in RANGE})
DATA, SCALE = 1, 2
LOW = 0xFFFFFFFF
CHUNK = 1 << 22  # counters at a time


def float32(x):
    return torch.tensor(x, dtype=torch.float64).float().item()


def philox(seed, c0, c1, c2, c3):
    """Ten rounds of Philox4x32 over int64 tensors whose values are 32-bit words: four of them, stacked last."""
    k0, k1 = seed & LOW, seed >> 32
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57  # modulo 2^64: the sign is a bit like any other
        c0, c1, c2, c3 = (p1 >> 32 & LOW) ^ c1 ^ k0, p1 & LOW, (p0 >> 32 & LOW) ^ c3 ^ k1, p0 & LOW
        k0, k1 = k0 + 0x9E3779B9 & LOW, k1 + 0xBB67AE85 & LOW
    return torch.stack(torch.broadcast_tensors(c0, c1, c2, c3), -1)


def stream_of(name, layer=0, expert=0):
    return SLOT[name] | layer << 6 | expert << 15


def words(seed, streams, kind, first, n):
    """Counters first .. first + n - 1 of each stream: [streams, n, 4]."""
    i = torch.arange(first, first + n, device=streams.device)[None]
    return philox(seed, i & LOW, i >> 32, streams[:, None], torch.full_like(i, kind))


def parts(seed, streams, kind, bits, begin, end):
    """Random whole numbers of so many bits, begin .. end - 1 of each stream, low ones of a word first."""
    each = 128 // bits
    first, last = begin // each, -(-end // each)
    w = words(seed, streams, kind, first, last - first)
    shift = torch.arange(0, 32, bits, device=w.device)
    all_of = (w[..., None] >> shift & (1 << bits) - 1).flatten(1)
    return all_of[:, begin - first * each:end - first * each]


def range_of(name, cols):
    if name in RANGE:
        return RANGE[name]
    return 0, float32(GAIN.get(name, 1) * math.sqrt(3 / cols))


def bf16(seed, streams, name, cols, begin, end):
    """Elements of a plain weight, row-major."""
    base, spread = range_of(name, cols)
    u = (2 * parts(seed, streams, DATA, 16, begin, end) + 1).float() * (1 / 65536) - 1
    return (u * spread + base if base else u * spread).bfloat16()


def fill(to, name, layer=0, experts=(0,), seed=1):
    """A parameter in place, in its own type: [rows, cols], a vector, or [experts, rows, cols] (a view will do)."""
    streams = torch.tensor([stream_of(name, layer, e) for e in experts], device=to.device)
    to = to.reshape(1, 1, -1) if to.dim() == 1 else to[None] if to.dim() == 2 else to
    rows, cols = to.shape[1:]
    step = max(CHUNK // (len(streams) * cols) * 8, 1)
    for r in range(0, rows, step):
        end = min(r + step, rows)
        to[:, r:end] = bf16(seed, streams, name, cols, r * cols, end * cols).view(len(streams), end - r, cols)


# ---- other formats: bytes -------------------------------------------------------------------------


def e4m3(byte):
    exponent, mantissa = byte >> 3 & 15, byte & 7
    return (8 + mantissa) * 2.0 ** (exponent - 10) if exponent else mantissa * 2.0 ** -9


def no_nan(b):
    return torch.where(b & 0x7F == 0x7F, b ^ 1, b)


def fp8(seed, streams, begin, end):
    return no_nan(parts(seed, streams, DATA, 8, begin, end)).to(torch.uint8)


def fp8_scales(seed, streams, name, cols, begin, end):
    mean = sum(e4m3(min(i, 0x7E)) ** 2 for i in range(128)) / 128 * 7 / 3
    least = float32(GAIN.get(name, 1) / math.sqrt(cols * mean))
    h = parts(seed, streams, SCALE, 16, begin, end)
    return ((65536 + h).float() * (1 / 65536) * least).bfloat16()


def nvfp4(seed, streams, begin, end):
    return parts(seed, streams, DATA, 8, begin, end).to(torch.uint8)


def nvfp4_scales(seed, streams, begin, end):
    return (0x38 | parts(seed, streams, SCALE, 8, begin, end) & 7).to(torch.uint8)

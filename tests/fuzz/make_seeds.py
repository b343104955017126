#!/usr/bin/env python3
"""make_seeds.py - writes the seeds that are not text: wire frames and a safetensors file.

    python3 tests/fuzz/make_seeds.py        (from the top; what it writes is committed)

Fields are those of proto/hearth.proto, encoded here by hand so that no protobuf package is needed.
"""
import json
import os
import struct

SEEDS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "seeds")


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def u(field, n):
    return varint(field << 3) + varint(n)


def fixed64(field, n):
    return varint(field << 3 | 1) + struct.pack("<Q", n)


def f32(field, x):
    return varint(field << 3 | 5) + struct.pack("<f", x)


def s(field, data):
    data = data if isinstance(data, bytes) else data.encode()
    return varint(field << 3 | 2) + varint(len(data)) + data


ID = fixed64(1, 7)
TOP = s(1, "x") + f32(2, -0.5) + s(3, s(1, "y") + f32(2, -1))
CHAT = '{"model":"m","messages":[{"role":"user","content":"h\u00e9"}]}'
SAMPLING = (b"".join(f32(i, 0.5) for i in (1, 2, 4, 5, 6, 7)) + u(3, 20) + fixed64(8, 3) + s(9,
    u(1, 5) + f32(2, -100))
            + u(10, 1) + u(11, 3))

# type of the frame, then the body: as wire_fuzz.c takes it
FRAMES = {
    "hello": (1, s(1, "w1") + fixed64(2, 9) + s(3, "tiny") + s(4, "class-1") + u(5, 4096) + u(6,
        16) + u(7, 64)
              + s(8, "chat") + s(8, "tools") + s(9, "0.1") + u(10, 1700000000)),
    "beat": (2, u(1, 1) + u(2, 2) + u(3, 3) + u(4, 4) + u(5, 300) + u(9, 1)),
    "accepted": (3, ID + u(2, 11) + fixed64(3, 5) + s(4, "top_k was cut")),
    "refused": (4, ID + u(2, 3) + s(3, "the queue is full") + s(4, "messages") + u(5, 250)),
    "progress": (5, ID + u(2, 64) + u(3, 128) + u(4, 0)),
    "delta": (6, ID + u(2, 0) + u(3, 1) + s(4, u(1, 1) + s(2, "h\u00e9")) + s(4,
        u(1, 3) + s(2, "f") + u(3, 0) + s(4, "c1"))
              + s(5, varint(300) + varint(5)) + s(6, TOP)),
    "done": (7, ID + u(2, 0) + u(3, 2) + u(4, 1) + u(5, 9) + u(6, 3) + s(8, "why")),
    "welcome": (32, fixed64(1, 9) + u(2, 1000) + u(3, 3000)),
    "generate": (34, ID + s(2, "tiny") + u(3, 64) + u(4, 1000) + s(5, CHAT) + u(8, 5) + u(9,
        2) + u(10, 0) + s(11, "stop")
                 + s(12, varint(7)) + s(15, SAMPLING) + s(16, varint(4) + varint(300))),
    "generate_text": (34, ID + s(2, "tiny") + u(3, 64) + s(6, "once upon") + u(13, 1) + u(14, 1)),
    "cancel": (35, ID),
    "credit": (36, ID + u(2, 8)),
    "goodbye": (64, s(1, "bye")),
}


def write(target, name, data):
    os.makedirs(os.path.join(SEEDS, target), exist_ok=True)
    with open(os.path.join(SEEDS, target, name), "wb") as f:
        f.write(data)


for frame, (kind, body) in FRAMES.items():
    write("wire_fuzz", frame, bytes([kind]) + body)
header = json.dumps({
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
    "b": {"dtype": "F32", "shape": [], "data_offsets": [12, 16]},
    "c": {"dtype": "U8", "shape": [0, 7], "data_offsets": [16, 16]},
}).encode()
header += b" " * (-len(header) % 8)
write("safetensors_fuzz", "three", struct.pack("<Q", len(header)) + header + bytes(range(16)))

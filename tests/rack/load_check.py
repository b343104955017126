#!/usr/bin/env python3
"""load_check.py - the rack's clients sort replies rightly: a judge that cannot see a fault would pass any rack."""
import os
import socket
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from load import Client, Load

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(text, finish="null"):
    return chunk(b'data: {"choices":[{"delta":{"content":"%s"},"finish_reason":%s}]}\n\n' % (text, finish.encode()))


END = b"0\r\n\r\n"
DONE = chunk(b"data: [DONE]\n\n")
STOP = '"stop"'
SHAPE = b'{"error":{"message":"gone","type":"server_error","param":null,"code":null}}'
ERROR = chunk(b"data: " + SHAPE + b"\n\n")
CASES = [   # what the server sends, how it counts, when the answer is "ab|stop"
    (HEAD + event(b"a") + event(b"b", STOP) + DONE + END, "ok"),
    (HEAD + event(b"ab", STOP) + DONE[:9], "cut"),
    (HEAD + event(b"a") + event(b"x", STOP) + DONE + END, "wrong"),
    (HEAD + event(b"a", STOP) + DONE + END, "wrong"),
    (HEAD + event(b"a") + event(b"a") + event(b"b", STOP) + DONE + END, "wrong"),
    (HEAD + event(b"a") + DONE + END, "silent"),
    (HEAD + event(b"ab", STOP) + END, "silent"),
    (HEAD + event(b"a"), "cut"),
    (HEAD + event(b"a") + event(b"b")[:20], "cut"),
    (HEAD + event(b"a") + b"0\r\n", "cut"),
    (HEAD + event(b"x"), "wrong"),
    (HEAD + event(b"a") + ERROR + END, "told"),
    (HEAD + event(b"b") + ERROR + END, "wrong"),
    (HEAD + event(b"a") + chunk(b'data: {"error":{"message":"gone"}}\n\n') + END, "rude"),
    (b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n{}", "rude"),
    (b"HTTP/1.1 503 Busy\r\nContent-Length: %d\r\n\r\n" % len(SHAPE) + SHAPE, "rude"),
    (b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: %d\r\n\r\n" % len(SHAPE) + SHAPE, "told"),
    (b"HTTP/1.1 404 No\r\nContent-Length: %d\r\n\r\n" % len(SHAPE) + SHAPE, "told"),
    (b"", "cut"),
]


def serve(payload):
    s = socket.create_server(("127.0.0.1", 0))

    def answer():
        c, _ = s.accept()
        c.recv(65536)
        c.sendall(payload)
        c.close()
        s.close()
    threading.Thread(target=answer, daemon=True).start()
    return s.getsockname()[1]


def main():
    bad = 0
    for payload, expected in CASES:
        load = Load(Client("127.0.0.1", serve(payload), timeout=10), 1)
        load.right[0] = "ab|stop"
        kind = load.one(0)
        if kind != expected:
            bad += 1
            print("%r: %s, expected %s" % (payload[len(HEAD):], kind, expected))
    s = socket.create_server(("127.0.0.1", 0))
    port = s.getsockname()[1]
    s.close()
    kind = Client("127.0.0.1", port).stream("m", "q", 1, 1)[0]
    if kind != "refused":
        bad += 1
        print("nobody listens: %s" % kind)
    print("%d of %d right" % (len(CASES) + 1 - bad, len(CASES) + 1))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""router_speed.py - what the router costs: CPU per token frame, per request, memory.  By hand, on a quiet machine:

    top_builddir=build python3 tests/box/router_speed.py

Prints figures and judges none.  CPU seconds are the router's own (/proc/PID/stat), so that a slow client in
Python does not count.
"""
import os
import threading
import time

from box import Router, main, post, read_until

HZ = os.sysconf("SC_CLK_TCK")


def cpu(r):
    with open("/proc/%d/stat" % r.proc.pid) as f:
        x = f.read().rsplit(")", 1)[1].split()
    return (int(x[11]) + int(x[12])) / HZ


def test_token_frames_per_cpu_second():
    n, streams = 20000, 16
    with Router("[log]\nlevel = warning\n") as r:
        r.worker()
        read_until(r.stream("tokens=1000"), b"[DONE]")
        c, t = cpu(r), time.monotonic()
        ts = [threading.Thread(target=lambda: read_until(r.stream("tokens=%d" % n), b"[DONE]", 100)) for _ in range(streams)]
        for x in ts:
            x.start()
        for x in ts:
            x.join()
        c, t = cpu(r) - c, time.monotonic() - t
    return "%d frames: %.0f per CPU second (%.1f us each), %.0f per second" % (
        n * streams, n * streams / c, c * 1e6 / n / streams, n * streams / t)


def test_requests_per_cpu_second():
    n = 20000
    with Router("[log]\nlevel = warning\n") as r:
        r.worker()
        for what, data, mark in (("GET /health", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"}"),
                                 ("chat of 1 token", post("tokens=1"), b"}}")):
            s = r.connect()
            c, took = cpu(r), []
            for _ in range(n if mark == b"}" else n // 4):
                t = time.monotonic()
                s.sendall(data)
                got = b""
                while not got.endswith(mark):
                    got += s.recv(65536)
                took.append(time.monotonic() - t)
            c = cpu(r) - c
            took.sort()
            print("  %s: %.0f per CPU second, p50 %.0f us, p99 %.0f us" % (
                what, len(took) / c, took[len(took) // 2] * 1e6, took[len(took) * 99 // 100] * 1e6))


def test_memory():
    with Router() as r:
        r.worker()
        idle = r.rss_kib()
        ss = [r.stream("tokens=1000 delay=1000") for _ in range(500)]
        for s in ss:
            read_until(s, b"t0 ")
        open_ = r.rss_kib()
    return "idle %.1f MB, %.1f KB an open stream" % (idle / 1024, (open_ - idle) / 500)


if __name__ == "__main__":
    main(dict(globals()))

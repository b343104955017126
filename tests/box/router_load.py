#!/usr/bin/env python3
"""router_load.py - hearth-bench router against a real router and a worker that answers at once.

In `make check` it runs for some seconds, and looks at what must hold under load: every answer is a 200, tokens are
counted right, the worker is never taken for lost, memory comes back.  It judges no speed.  The full table, by hand on
a quiet machine:

    HEARTH_LONG=1 top_builddir=build python3 tests/box/router_load.py
"""
import re
import signal
import subprocess
import threading
import time

from box import BUILD, LONG, Router, Skip, main

COLUMNS = ("kind in_flight req_s tok_s req_cpu tok_cpu user_us sys_us switches "
           "first_p50 first_p99 all_p50 all_p99 rss_mb").split()


def bench(r, *args, model="tiny"):
    p = subprocess.run([BUILD + "/bin/hearth-bench", "router", "--pid", str(r.proc.pid), "--model", model, *args,
                        "127.0.0.1:%d" % r.port], capture_output=True, text=True, timeout=300)
    rows = [dict(zip(COLUMNS, line.split())) for line in p.stdout.splitlines()
            if re.match(r"(health|chat|stream) +\d", line)]
    return p, rows


def counted(r, name):
    """A counter of /metrics, all its series together."""
    text = r.get("/metrics")[2].decode()
    return sum(int(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def halt(r, times):
    for _ in range(times):
        time.sleep(0.1)
        r.proc.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        r.proc.send_signal(signal.SIGCONT)


def test_every_answer_is_counted_and_the_worker_stays():
    with Router("[log]\nlevel = warning\n") as r:
        r.worker()
        p, rows = bench(r, "--prompt", "tokens=3", "--tokens", "3", "--requests", "400", "--in-flight", "1,8",
                        "--kind", "health,chat,stream")
        assert p.returncode == 0, p.stderr
        assert [(x["kind"], x["in_flight"]) for x in rows] == [(k, n) for k in ("health", "chat", "stream")
                                                               for n in ("1", "8")], p.stdout
        assert "not answered with 200" not in p.stdout, p.stdout
        for x in rows:
            ratio = float(x["tok_s"]) / float(x["req_s"])
            assert abs(ratio - (0 if x["kind"] == "health" else 3)) < 0.05, x
        # 400 of each, and four times the connections to warm up; three tokens each
        n = 2 * (400 + 4 + 400 + 32)
        assert counted(r, 'hearth_requests_total{alias="tiny",code="200"}') == n
        assert counted(r, 'hearth_tokens_total{kind="output"}') == 3 * n
        assert "lost" not in r.log_text(), r.log_text()


def test_long_streams_do_not_hide_the_workers_beat():
    """A router that was stopped for a moment finds its tick and a heap of messages due at once: what waits to be read
    was no silence."""
    with Router("[log]\nlevel = warning\n") as r:
        r.worker()
        halts = threading.Thread(target=halt, args=(r, 5))
        halts.start()
        p, rows = bench(r, "--prompt", "tokens=2000", "--tokens", "2000", "--requests", "300", "--in-flight", "16",
                        "--kind", "stream")
        halts.join()
        assert p.returncode == 0, p.stderr
        assert "not answered with 200" not in p.stdout, p.stdout
        assert abs(float(rows[0]["tok_s"]) / float(rows[0]["req_s"]) - 2000) < 40, rows
        assert counted(r, "hearth_fallback_total") == 0
        assert "lost" not in r.log_text(), r.log_text()


def test_what_cannot_be_measured_is_said():
    with Router() as r:
        r.worker()
        p, rows = bench(r, "--requests", "10", "--in-flight", "2", "--kind", "chat", model="no-such-model")
        assert p.returncode != 0 and "not one answer was a 200" in p.stderr, (p.stdout, p.stderr)
        assert "404" in p.stdout, p.stdout
        for bad in (["--in-flight", "0"], ["--requests", "x"], ["--kind", "chat", "--in-flight", "99999"]):
            assert bench(r, *bad)[0].returncode == 64, bad
        port = r.port
    p = subprocess.run([BUILD + "/bin/hearth-bench", "router", "127.0.0.1:%d" % port], capture_output=True, text=True)
    assert p.returncode == 69 and "refused" in p.stderr, p.stderr


def test_full_table():
    if not LONG:
        raise Skip("by hand, HEARTH_LONG=1")
    for level in ("warning", "notice"):
        with Router("[log]\nlevel = %s\n" % level) as r:
            r.worker()
            print("log level", level)
            print(bench(r, "--prompt", "tokens=1", "--tokens", "1", "--requests", "40000", "--in-flight", "1,16,64")[0]
                  .stdout)
            print(bench(r, "--prompt", "tokens=1000", "--tokens", "1000", "--requests", "400", "--in-flight", "1,16,64",
                        "--kind", "stream")[0].stdout)


if __name__ == "__main__":
    main(dict(globals()))

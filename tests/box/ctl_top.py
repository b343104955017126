#!/usr/bin/env python3
"""ctl_top.py - hearthctl top: a frame without a terminal, and live on a pseudo-terminal.

    top_builddir=build python3 tests/box/ctl_top.py
"""
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

from box import BUILD, Router, main, read_until, wait_for


def ctl(r, *args):
    p = subprocess.run([BUILD + "/bin/hearthctl", "--url", r.url, *args],
                       capture_output=True, text=True, timeout=20)
    return p.returncode, p.stdout, p.stderr


def test_a_frame_without_a_terminal():
    with Router("[upstream c]\nurl = http://127.0.0.1:9/v1\n") as r:
        code, out, err = ctl(r, "top")
        assert code == 0 and "no worker is connected" in out and "\x1b" not in out, (code, out, err)
        r.worker("w1")
        r.worker("w2", model="other")
        s = r.stream("tokens=100 delay=20")
        head = read_until(s, b"t2 ").decode()
        id = re.search(r"x-request-id: (\S+)", head, re.I).group(1)
        code, out, err = ctl(r, "top", "--once")
        lines = out.splitlines()
        assert (
            code == 0 and lines[0].startswith("router ") and "1 requests" in lines[1] and "2 workers" in lines[1]
        ), out
        assert any(x.startswith("w1 ") and " tiny " in x and " up " in x for x in lines), out
        assert any(x.startswith("w2 ") and " other " in x for x in lines), out
        assert any(x.startswith("c ") for x in lines) and any(x.startswith(id) for x in lines), out
        v = json.loads(ctl(r, "top", "--json")[1])
        assert len(v["status"]["workers"]) == 2 and v["requests"][0]["id"] == id, v
        s.close()
    code, out, err = ctl(r, "top", "--once")
    assert code == 69 and err, (code, out)
    assert ctl(r, "--interval", "never", "top")[0] == 64


class Screen:
    """hearthctl top on a terminal of 100 x 30 whose bytes are kept."""

    def __init__(self, r, env={}):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.pop("NO_COLOR", None)
            os.environ.update({"TERM": "xterm-256color", **env})
            os.execv(BUILD + "/bin/hearthctl", ["hearthctl", "--url", r.url, "--interval", "0.2", "top"])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.seen = b""

    def read(self, seconds=0.05):
        while select.select([self.fd], [], [], seconds)[0]:
            try:
                d = os.read(self.fd, 65536)
            except OSError:
                return False
            if not d:
                return False
            self.seen += d
        return True

    def wait(self, mark):
        wait_for(lambda: (self.read(), mark in self.seen)[1])

    def end(self):
        while self.read(0.5):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_live_on_a_terminal():
    with Router() as r:
        r.worker("first")
        t = Screen(r)
        t.wait(b"first")
        t.seen = b""
        w = r.worker("second")
        t.wait(b"second")           # it looks again by itself
        os.write(t.fd, b"p")
        t.wait(b"stopped")
        os.write(t.fd, b"q")
        assert t.end() == 0
        assert b"\x1b[?1049l" in t.seen   # the terminal is given back


def test_a_router_that_goes_away_and_no_colour():
    with Router() as r:
        r.worker("first")
        t = Screen(r, {"NO_COLOR": "1"})
        t.wait(b"first")
        r.proc.terminate()
        wait_for(lambda: r.proc.poll() is not None)
        t.wait(b"127.0.0.1:%d/admin/status" % r.port)
        os.write(t.fd, b"q")
        assert t.end() == 0
        assert not re.search(rb"\x1b\[3[1-3]m", t.seen), t.seen


def test_colour_on_a_terminal():
    with Router() as r:
        r.worker("first")
        t = Screen(r)
        t.wait(b"first")
        os.write(t.fd, b"q")
        assert t.end() == 0
        assert re.search(rb"\x1b\[[0-9;]*3[1-3]m", t.seen), t.seen


if __name__ == "__main__":
    main(dict(globals()))

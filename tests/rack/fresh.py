#!/usr/bin/env python3
"""fresh.py - from the packages to the first answer on a fresh Debian 12, as a transcript.

    sudo tests/rack/fresh.py [--debs build/deb]

A booted machine that holds what debootstrap's smallest variant and systemd need, and nothing that Hearth needs: apt gets
that from the mirror, on the host's network.  Two commands, then a question.  Exit status: 0 an answer within 60 s and every
unit says what it is doing; 77 this machine cannot.
"""

import argparse
import glob
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from machine import Absent, Machine, need
from run import TOP

PACKAGES = "systemd,systemd-sysv,dbus,ca-certificates,iproute2"
UNITS = ("hearth-router.socket", "hearth-router.service", "hearthd.service", "hearth-worker@tiny.service",
         "hearth-dropcaches.socket", "hearth-dropcaches.service", "hearth.slice")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--debs", default=os.path.join(os.environ.get("top_builddir", TOP + "/build"), "deb"))
    o = p.parse_args()
    m = None
    try:
        need()
        debs = [d for d in glob.glob(o.debs + "/hearth-*.deb") if "dbgsym" not in d]
        if not debs:
            raise Absent("no packages in %s: make deb" % o.debs)
        m = Machine(None, "fresh", 7, packages=PACKAGES)
        os.mkdir(m.root + "/root/debs")
        for d in debs:
            subprocess.run(["cp", d, m.root + "/root/debs/"], check=True)
        m.boot()
        if m.run("apt-get update -q", check=False).returncode:
            raise Absent("no Debian mirror from here")
        print("# a fresh Debian %s, %s packages, systemd %s\n" % (
            m.run("cat /etc/debian_version").stdout.strip(), m.run("dpkg -l | grep -c ^ii").stdout.strip(),
            m.run("systemctl --version | head -n 1").stdout.split()[1]))
        begun = time.monotonic()
        for command in (
            "apt install -y ./hearth-*.deb",
            "systemctl start hearth-worker@tiny",
            "hearthctl chat 'What is 2 plus 2?'",
        ):
            t0 = time.monotonic()
            text = m.run("cd /root/debs && " + command + " 2>&1").stdout.strip()
            print("# %s\n%s\n[%.1f s]\n" % (command, text, time.monotonic() - t0), flush=True)
        seconds = time.monotonic() - begun
        assert text, "no answer"
        print("first answer after %.1f s\n" % seconds)
        time.sleep(3)           # status lines are renewed every second
        silent = []
        for u in UNITS:
            print(
                "# systemctl status %s\n%s\n"
                % (u, m.run("systemctl status --no-pager -n 0 '%s'" % u, check=False).stdout.strip())
            )
            if u.endswith(".service") and m.show(u, "ActiveState") == "active" and not m.show(u, "StatusText"):
                silent.append(u)
        assert not silent, "say nothing of themselves: %s" % silent
        assert seconds < 60, "%.1f s" % seconds
        return 0
    except Absent as e:
        print("skipped: %s" % e)
        return 77
    finally:
        if m:
            m.stop()


if __name__ == "__main__":
    sys.exit(main())

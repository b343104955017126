#!/usr/bin/env python3
"""examples.py - the manual pages' examples that need systemd, on a booted machine with the packages installed.

    sudo tests/rack/examples.py [--debs build/deb]

tests/box/man_examples.py reads them from the pages and compares; `make check` runs all others.  Exit status: 0 each did
what its page shows; 77 this machine cannot.
"""
import argparse
import glob
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from machine import BASE_PACKAGES, Absent, Machine, Net, base, need, sh
from run import TOP

PACKAGES = BASE_PACKAGES + ",python3"


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
        base(PACKAGES)          # while there is a network
        m = Machine(Net(), "examples", 9, packages=PACKAGES)
        for d in ("debs", "src/man", "src/tests/box"):
            os.makedirs("%s/root/%s" % (m.root, d))
        sh("cp", *debs, m.root + "/root/debs/")
        sh("cp", *glob.glob(TOP + "/man/*.in"), m.root + "/root/src/man/")
        sh("cp", TOP + "/tests/box/man_examples.py", m.root + "/root/src/tests/box/")
        m.boot()
        m.run("apt install -y /root/debs/hearth-*.deb")
        r = m.run("cd /root/src && HEARTH_EXAMPLES_SYSTEMD=1 top_srcdir=. python3 tests/box/man_examples.py", check=False)
        print(r.stdout, end="")
        return r.returncode or (0 if "ok  " in r.stdout else 1)
    except Absent as e:
        print("skipped: %s" % e)
        return 77
    finally:
        if m:
            m.stop()


if __name__ == "__main__":
    sys.exit(main())

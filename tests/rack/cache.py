#!/usr/bin/env python3
"""cache.py - one booted box whose memory another program's file has filled: must a person drop caches, or does hearthd?

    sudo tests/rack/cache.py [--debs build/deb]

The packages in a machine of its own systemd; the sizes are the host's real ones and nothing pretends: a file of most of
the free memory is read (it is a hole, so that no disk is busy) until MemFree is below what the worker needs.

  never      drop_caches = never: the worker is refused, with the numbers
  auto       the load succeeds, and the journal has MemFree, MemAvailable and Cached before and after each step
  workload   a unit that holds memory is stopped for the alias, its caches dropped, and started again when that unloads

The page cache of the host is dropped by this: that is the point.  Needs 12 GiB of free memory, else exits with 77.
"""
import argparse
import glob
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from faults import Sampler
from machine import Absent, Machine, Net, base, need
from run import TOP, wait_for

MIB = 1 << 20
NEED = 4096                     # MiB of KV: what makes the worker need more than is free
FREE = 3072                     # left by the cache; below 2 GiB some kernels give a reader its own pages again
STEP = re.compile(r"drop: step=(\S+) (?:files=\d+ )?ms=\d+ free=(\d+)>(\d+) available=(\d+)>(\d+) cached=(\d+)>(\d+)")


def meminfo():
    """MiB; available as hearthd counts it, with the free pages on the CPUs' own lists."""
    with open("/proc/meminfo") as f:
        m = {x.split(":")[0]: int(x.split()[1]) // 1024 for x in f}
    with open("/proc/zoneinfo") as f:
        lists = sum(int(x.split()[1]) for x in f if x.split()[0] == "count:") * os.sysconf("SC_PAGE_SIZE") // MIB
    return {**m, "MemAvailable": m["MemAvailable"] + lists}


class Cache:
    """Another program's file in the page cache, as much of it as leaves `free` MiB free."""

    def __init__(self):
        self.paths = []

    def new(self):
        fd, path = tempfile.mkstemp(prefix="hearth-cache-", dir="/var/tmp")
        self.paths.append(path)
        os.truncate(fd, (meminfo()["MemTotal"]) * MIB)
        os.close(fd)
        return path

    def fill(self, free):
        # A file that was read to its end and did not fill it will not either when it is read again: the kernel takes pages
        # that were read once first.  Others on this machine may drop it meanwhile, too.
        for _ in range(6):
            if meminfo()["MemFree"] <= free:
                break
            reader = subprocess.Popen(["cat", self.new()], stdout=subprocess.DEVNULL)
            while meminfo()["MemFree"] > free and reader.poll() is None:
                time.sleep(0.02)
            reader.kill()
            reader.wait()
        m = meminfo()
        print("   page cache %d of %d MiB (%d %%), MemFree %d, MemAvailable %d" % (
            m["Cached"], m["MemTotal"], 100 * m["Cached"] // m["MemTotal"], m["MemFree"], m["MemAvailable"]), flush=True)
        assert m["Cached"] >= 0.6 * m["MemTotal"], "the cache is too small to show anything"
        assert m["MemFree"] < NEED, "MemFree is not below the need"

    def remove(self):
        for path in self.paths:
            os.unlink(path)


class Box:
    def __init__(self, debs):
        if meminfo()["MemFree"] < 12288:
            raise Absent("less than 12 GiB are free here")
        base()
        self.cache = Cache()
        self.m = m = Machine(Net(), "cachebox", 8)
        try:
            os.mkdir(m.root + "/debs")
            for d in debs:
                subprocess.run(["cp", d, m.root + "/debs/"], check=True)
            m.boot()
            # nspawn makes all of /proc/sys read-only: a machine of metal has this file writable
            m.run("mount --bind /proc/sys/vm /proc/sys/vm && mount -o remount,bind,rw /proc/sys/vm")
            m.put("/etc/hearth/worker.d/big.conf",
                  "[worker]\nmodel = /usr/share/hearth/models/tiny\ndevice = cpu\nslots = 80\nkv_bytes = %dM\n" % NEED)
            m.put("/usr/local/bin/tts", "#!/bin/sh\n# holds 2 GiB: tail keeps a line that never ends\n"
                  "(head -c 2G /dev/zero; exec sleep infinity) | tail\n", 0o755)
            m.put("/etc/systemd/system/tts.service", "[Service]\nExecStart=/usr/local/bin/tts\n")
            m.run("apt-get install -y -q /debs/hearth-*.deb")
        except BaseException:
            self.stop()
            raise

    def stop(self):
        self.cache.remove()
        self.m.stop()

    def configure(self, text):
        m = self.m
        m.run("systemctl stop hearth-worker@big; systemctl reset-failed 'hearth-*'", check=False)
        m.put("/etc/hearth/hearthd.conf.d/cache.conf", text)
        m.run("systemctl restart hearthd")
        self.since = m.run("date +%s.%N").stdout.strip()

    def journal(self, *units):
        return self.m.run("journalctl --no-pager -o cat --since=@%s %s" % (
            self.since, " ".join("-u " + u for u in units)), check=False).stdout

    def start(self):
        """Exit status of systemctl start."""
        t0 = time.monotonic()
        r = self.m.run("systemctl start hearth-worker@big", check=False)
        print("   systemctl start hearth-worker@big: %d after %.1f s" % (r.returncode, time.monotonic() - t0))
        print("   Status: " + self.m.show("hearth-worker@big", "StatusText"))
        return r.returncode

    def steps(self):
        said = self.journal("hearthd", "hearth-dropcaches")
        for line in said.splitlines():
            if "drop:" in line or "drop " in line or "granted" in line or "refused" in line or "workload" in line:
                print("   | " + line)
        return {s[0]: [int(x) // MIB for x in s[1:]] for s in STEP.findall(said)}, said

    def test_auto(self):
        self.configure("[memory]\ndrop_caches = auto\n")
        self.cache.fill(FREE)
        code = self.start()
        steps, said = self.steps()
        assert code == 0, self.journal("hearth-worker@big")
        assert list(steps) == ["fadvise", "sync", "drop_caches=1", "drop_caches=3", "percpu"], said
        s = steps["drop_caches=1"]
        assert s[1] > s[0] + NEED and s[5] < s[4] - NEED, s

    def test_never(self):
        self.configure("[memory]\ndrop_caches = never\n")
        self.cache.fill(FREE)
        code = self.start()
        steps, said = self.steps()
        status = self.m.show("hearth-worker@big", "ExecMainStatus")
        self.m.run("systemctl stop hearth-worker@big", check=False)
        text = self.journal("hearth-worker@big")
        line = next((x for x in text.splitlines() if "too much" in x), "")
        print("   | " + line)
        assert code != 0 and not steps, said
        for part in ("big needs", "weights", "kv %.1f GiB" % (NEED / 1024), "MemFree", "MemAvailable", "reserve", "drop_caches = never"):
            assert part in line, (part, text)
        assert status == "75" or "status=75" in text, (status, text)

    def test_workload(self):
        m = self.m
        m.run("systemctl stop hearth-worker@big", check=False)
        free = meminfo()["MemAvailable"]
        m.run("systemctl start tts")
        wait_for(lambda: free - meminfo()["MemAvailable"] > 1900, 60, "tts holds its memory")
        # with tts there is half a GiB less than the worker needs, without it there is enough
        reserve = meminfo()["MemAvailable"] - NEED + 512
        self.configure("[memory]\ndrop_caches = auto\nreserve_mib = %d\nyellow_mib = 1024\nred_mib = 512\n"
                       "[workload tts]\nunit = tts.service\nmemory = 2G\nstop-for = big\nrestart = yes\n" % reserve)
        print("   reserve %d MiB; tts holds 2 GiB" % reserve)
        self.cache.fill(FREE)
        code = self.start()
        steps, said = self.steps()
        assert code == 0, self.journal("hearth-worker@big")
        assert m.show("tts", "ActiveState") == "inactive", "tts was not stopped"
        table = m.run("hearthctl memory").stdout
        print("".join("   : %s\n" % x for x in table.splitlines()), end="")
        assert "stopped for big" in table, table
        m.run("systemctl stop hearth-worker@big")
        wait_for(lambda: m.show("tts", "ActiveState") == "active", 60, "tts is started again")
        print("   hearth-worker@big is stopped: tts is " + m.show("tts", "ActiveState"))
        said = self.journal("hearthd")
        print("".join("   | %s\n" % x for x in said.splitlines() if "tts" in x), end="")
        m.run("systemctl stop tts")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--debs", default=os.path.join(os.environ.get("top_builddir", TOP + "/build"), "deb"))
    p.add_argument("--only", type=lambda s: s.split(","), default=["never", "workload", "auto"])
    o = p.parse_args()
    box, bad = None, 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        need()
        debs = [d for d in glob.glob(o.debs + "/hearth-*.deb") if "dbgsym" not in d]
        if not debs:
            raise Absent("no packages in %s: make deb" % o.debs)
        box = Box(debs)
        for name in o.only:
            print(name, flush=True)
            sampler = Sampler()
            try:
                getattr(box, "test_" + name)()
                word = "ok"
            except Exception:
                bad, word = bad + 1, "FAIL\n" + traceback.format_exc()
            print("   least MemAvailable %.0f MiB of %d samples\n%s %s" % (sampler.stop()[:2] + (name, word)), flush=True)
    except Absent as e:
        print("skipped: %s" % e)
        return 77
    finally:
        if box:
            box.stop()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

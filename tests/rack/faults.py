#!/usr/bin/env python3
"""faults.py - hundreds of random faults on a booted rack, under streams whose every byte is known.

    sudo tests/rack/faults.py [--faults 200] [--streams 32] [--seed 1] [--debs build/deb] [--table FILE]

The rack of run.py: a router, two boxes, packages installed.  Faults are drawn from a seeded generator and follow each
other without waiting for anything to be well again; after every ten the rack gets time to come back, all units must be
active, and sizes are taken.  What is held against it:

  - a reply is the reply that the same request had when it was alone, byte for byte; or it is an error in the dialect's
    shape, after a beginning of that reply (load.py judges);
  - a reply breaks off in no other case than this one: the router, which was sending it, was killed while it ran;
  - MemAvailable, read every 50 ms by a process of its own, never falls below the reserve that hearthd states;
  - resident memory and descriptors of every process are at the end what they were at the beginning.

Waits are shorter than a house would have them, so that faults overlap: a cable is out for 1 to 4 s and for 10 s each sixth
time, a machine stands still for 1 to 5 s and for 20 s each sixth time.  Exit status as run.py's.
"""

import argparse
import collections
import json
import multiprocessing
import os
import random
import signal
import statistics
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from load import Load
from machine import Absent, need
from run import TOP, Rack, wait_for

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
ROUTER, WORKER, HEARTHD = "hearth-router.service", "hearth-worker@tiny.service", "hearthd.service"


def available_mib():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("MemAvailable")) / 1024


class Sampler:
    """MemAvailable every 50 ms, in a process of its own: the clients' threads must not hold it up."""

    def __init__(self, period=0.05):
        self.pipe, other = multiprocessing.Pipe()
        self.proc = multiprocessing.Process(target=self._run, args=(other, period), daemon=True)
        self.proc.start()

    @staticmethod
    def _run(pipe, period):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))     # what is loaded is what is measured
        except OSError:
            pass
        least, n, gap, last = float("inf"), 0, 0.0, time.monotonic()
        due = last
        while not pipe.poll(max(0, due - time.monotonic())):
            now = time.monotonic()
            least, n, gap, last = min(least, available_mib()), n + 1, max(gap, now - last), now
            due = max(due + period, now)
        pipe.send((least, n, gap))

    def stop(self):
        """(least MiB, samples, longest time between two in s)"""
        self.pipe.send(None)
        r = self.pipe.recv()
        self.proc.join()
        return r


class Faults:
    """Each method is one fault; it ends what it began, and does not wait for the rack to be well."""

    def __init__(self, rack, seed):
        self.rack, self.r = rack, random.Random(seed)
        self.router, self.boxes = rack.router, rack.boxes
        self.killed = []        # (from, to) in which the router was killed: what it was sending then may be cut
        self.versions = 0
        self.turn = collections.Counter()
        self.swaps = []

    KINDS = collections.OrderedDict((
        ("kill_worker", 5), ("kill_hearthd", 3), ("kill_router", 2), ("restart_worker", 2), ("restart_hearthd", 1),
        ("restart_router", 2), ("cut", 4), ("freeze", 3), ("stop_worker", 2), ("clock", 2), ("disk_full", 2),
        ("read_only", 1), ("reload_good", 2), ("reload_bad", 2), ("upgrade", 1), ("swap", 2)))

    def draw(self):
        return self.r.choices(list(self.KINDS), list(self.KINDS.values()))[0]

    def box(self):
        return self.r.choice(self.boxes)

    def long(self, kind):
        """Each sixth of a kind is as long as a person would make it."""
        self.turn[kind] += 1
        return self.turn[kind] % 6 == 3

    def kill(self, m, unit):
        m.run("systemctl kill -s KILL --kill-who=main '%s'" % unit, check=False)

    def kill_worker(self):
        b = self.box()
        self.kill(b, WORKER)
        return b.name

    def kill_hearthd(self):
        b = self.box()
        self.kill(b, HEARTHD)
        return b.name

    def kill_router(self):
        at = time.monotonic()
        self.kill(self.router, ROUTER)
        self.killed.append((at, time.monotonic()))
        return ""

    def restart_worker(self):
        b = self.box()
        b.run("systemctl restart " + WORKER)
        return b.name

    def restart_hearthd(self):
        b = self.box()
        b.run("systemctl restart " + HEARTHD)
        return b.name

    def restart_router(self):
        self.router.run("systemctl restart " + ROUTER)
        return ""

    def cut(self):
        b, s = self.box(), 10 if self.long("cut") else self.r.uniform(1, 4)
        b.cable(False)
        time.sleep(s)
        b.cable(True)
        return "%s %.1f s" % (b.name, s)

    def freeze(self):
        m, s = self.r.choice(self.boxes + [self.router]), 20 if self.long("freeze") else self.r.uniform(1, 5)
        m.freeze(True)
        time.sleep(s)
        m.freeze(False)
        return "%s %.1f s" % (m.name, s)

    def stop_worker(self):
        b, s = self.box(), self.r.uniform(2, 6)
        pid = b.pid(WORKER)
        if not pid:
            return b.name + " has none"
        b.run("kill -STOP %d" % pid, check=False)
        time.sleep(s)
        b.run("kill -CONT %d" % pid, check=False)
        return "%s %.1f s" % (b.name, s)

    def clock(self):
        """The wall clock of the router and of box1's worker; the real one is the host's."""
        places = [self.router, self.boxes[0]]
        jump = self.r.choice((3600, -3600, 86400))
        for m in places:
            m.put("/etc/faketime", "%+d\n" % jump)
        time.sleep(3)
        for m in places:
            m.put("/etc/faketime", "+0\n")
        return "%+d s" % jump

    def disk_full(self):
        m = self.r.choice(self.boxes + [self.router])
        m.run("cat /dev/zero >/var/fill 2>/dev/null; sync", check=False)
        assert m.run("head -c 8192 /dev/zero >/var/more", check=False).returncode != 0, "the disk is not full"
        if m is self.router:
            m.run("systemctl restart " + ROUTER)
        else:
            self.kill(m, self.r.choice((WORKER, HEARTHD)))
        time.sleep(3)
        m.run("rm -f /var/fill /var/more")
        return m.name

    def read_only(self):
        b = self.box()
        b.run("mount --bind /usr/share/hearth/models /usr/share/hearth/models && "
              "mount -o remount,bind,ro /usr/share/hearth/models")
        try:
            b.run("systemctl restart " + WORKER)
        finally:
            b.run("umount -l /usr/share/hearth/models")
        return b.name

    def router_is_up(self):
        """systemctl reloads nothing that a fault before this one has just killed."""
        wait_for(lambda: self.router.show(ROUTER, "ActiveState") == "active", 20, "the router is up")

    def reload_good(self):
        self.router_is_up()
        self.router.put(
            "/etc/hearth/hearth.conf.d/faults.conf", "[route]\ngrace_ms = %d\n" % self.r.randint(6000, 9000)
        )
        self.router.run("systemctl reload " + ROUTER)
        return ""

    def reload_bad(self):
        self.router_is_up()
        self.router.put("/etc/hearth/hearth.conf.d/zz-bad.conf", "[route]\ngrace_ms = soon\n")
        bad = self.router.run("systemctl reload " + ROUTER, check=False)
        self.router.run("rm /etc/hearth/hearth.conf.d/zz-bad.conf")
        assert bad.returncode != 0 and "zz-bad.conf:2" in self.router.journal(ROUTER, 60), (
            "a bad file was taken: " + bad.stdout
        )
        self.router.run("systemctl reload " + ROUTER)
        return ""

    def upgrade(self):
        m = self.r.choice(self.boxes + [self.router])
        names = ["hearth-" + n for n in ("common", "tools", "router" if m is self.router else "box")]
        self.versions += 1
        at = self.rack.newer(m, names, "n%03d" % self.versions)
        m.run(
            "apt-get install -y -q -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold %s/*.deb && rm -rf %s"
            % (at, at)
        )
        assert m.run("dpkg-query -W -f '${Version}' hearth-common").stdout.endswith("+n%03d" % self.versions)
        return m.name

    def swap(self):
        """Two models that do not fit together, asked for at the same time."""
        for x in self.swaps:
            x.start()
        time.sleep(5)
        for x in self.swaps:
            x.stop()
        return "red=%d blue=%d" % tuple(x.results["ok"] for x in self.swaps)


class Run:
    def __init__(self, o):
        self.o = o
        self.rack = Rack(o)
        self.rows = []
        self.sizes = collections.defaultdict(list)
        self.problems = []
        self.count = collections.Counter()

    def problem(self, text):
        self.problems.append(text)
        print("PROBLEM  " + text, flush=True)

    def set_up(self):
        k = self.rack
        k.build()
        k.install(k.router, "hearth-common", "hearth-router", "hearth-tools")
        k.configure_router()
        for m, key in zip(k.boxes, k.keys):
            k.install(m, "hearth-common", "hearth-box", "hearth-tools", "hearth-model-tiny")
            k.configure_box(m, key)
        for m, unit in ((k.router, ROUTER), (k.box1, WORKER)):
            m.put("/etc/faketime", "+0\n")
            m.put(
                "/etc/systemd/system/%s.d/clock.conf" % unit,
                "[Service]\nEnvironment=LD_PRELOAD=%s FAKETIME_TIMESTAMP_FILE=/etc/faketime FAKETIME_CACHE_DURATION=1 "
                "FAKETIME_DONT_FAKE_MONOTONIC=1\n" % FAKETIME,
            )
            m.run("test -e %s && systemctl daemon-reload && systemctl restart %s" % (FAKETIME, unit))
        k.wait_workers()
        self.faults = Faults(k, self.o.seed)
        self.faults.swaps = [Load(k.client, 2, x, 40) for x in ("red", "blue")]
        self.load = Load(k.client, self.o.streams)
        for x in [self.load] + self.faults.swaps:
            x.learn()
        self.memory = json.loads(k.box1.run("hearthctl memory --json").stdout)

    def look(self):
        """Everything well again, and how large it is."""
        self.rack.wait_workers(seconds=90)
        self.rack.check_units()
        for k, v in self.rack.sizes().items():
            self.sizes[k].append(v)

    def show(self):
        """What all of them say, while it is as it is."""
        print(self.rack.client.get("/admin/status")[1].decode(errors="replace"))
        for m, unit in self.rack.units():
            print("--- %s %s: %s, %s\n%s" % (m.name, unit, m.show(unit, "ActiveState"), m.show(unit, "StatusText"),
                                            "\n".join([x for x in m.journal(unit, 400).splitlines()
                                                       if not x.startswith("request ")][-40:])), flush=True)

    def judge(self):
        """Every failed attempt since the last look is one that was allowed."""
        n = collections.Counter()
        for x in [self.load] + self.faults.swaps:
            results, _ = x.mark()
            n.update(results)
            with x.lock:
                failed, x.failed = x.failed, []
            for begun, ended, kind, why in failed:
                if kind == "told":
                    n["why: " + why[:110]] += 1
                elif kind == "cut" and any(begun <= to and ended >= at for at, to in self.faults.killed):
                    n["cut by a killed router"] += 1
                else:
                    self.problem(
                        "%s after %.1f s (%.1f s ago): %s" % (kind, ended - begun, time.monotonic() - ended, why[:600])
                    )
        self.count.update(n)
        return n

    def go(self):
        self.load.start()
        time.sleep(5)
        self.look()
        sampler, t0 = Sampler(), time.monotonic()
        for i in range(self.o.faults):
            kind = self.o.kinds[i % len(self.o.kinds)] if self.o.kinds else self.faults.draw()
            at = time.monotonic()
            try:
                what = getattr(self.faults, kind)()
            except Exception as e:
                what = "failed"
                self.problem("fault %d, %s: %s" % (i + 1, kind, e if isinstance(e, (AssertionError, RuntimeError))
                                                   else traceback.format_exc()))
            self.rows.append((i + 1, kind, what, at - t0, time.monotonic() - at))
            print("%4d %6.0f s  %-16s %s" % (i + 1, at - t0, kind, what), flush=True)
            time.sleep(self.faults.r.uniform(0.2, 2.5))
            if i % 10 == 9 or i + 1 == self.o.faults:
                at = time.monotonic()
                try:
                    self.look()
                except AssertionError as e:
                    self.problem("after fault %d: %s" % (i + 1, e))
                    self.show()
                n = self.judge()
                print("     %6.0f s  well after %.1f s; %s; available %.0f MiB" % (
                    time.monotonic() - t0, time.monotonic() - at,
                    " ".join("%s=%d" % kv for kv in sorted(n.items()) if not kv[0].startswith("why")), available_mib()),
                    flush=True)
        self.load.stop()
        self.seconds = time.monotonic() - t0
        self.least, self.samples, self.gap = sampler.stop()
        self.judge()
        self.look()

    def flat(self):
        """Sizes in the last third against the first third of the looks."""
        lines = []
        for name, all_of_it in sorted(self.sizes.items()):
            third = max(1, len(all_of_it) // 3)
            row = []
            for k, slack in ((0, 4096), (1, 8)):
                first = statistics.median(x[k] for x in all_of_it[:third])
                last = statistics.median(x[k] for x in all_of_it[-third:])
                row += [first, last, max(x[k] for x in all_of_it)]
                if last > first * 1.15 + slack:
                    self.problem("%s grows: %s from %d to %d" % (name, ("KiB", "descriptors")[k], first, last))
            lines.append("| %s | %d | %d | %d | %d | %d | %d |" % ((name,) + tuple(int(x) for x in row)))
        return lines

    def table(self):
        c, kinds = self.count, collections.Counter(r[1] for r in self.rows)
        floor = self.floor()
        if self.least < floor:
            self.problem("the reserve was broken: %.0f of %.0f MiB" % (self.least, floor))
        flat = self.flat()
        out = ["| fault | times |", "|---|--:|"] + ["| %s | %d |" % kv for kv in sorted(kinds.items())]
        out += ["", "| replies (%d streams, %d faults, seed %d, %.0f s) | |" % (
            self.o.streams, self.o.faults, self.o.seed, self.seconds), "|---|--:|"]
        out += ["| %s | %d |" % (k, c[k]) for k in ("ok", "told", "cut by a killed router")]
        out += ["| cut otherwise | %d |" % (c["cut"] - c["cut by a killed router"])]
        out += ["| %s | %d |" % (k, c[k]) for k in ("wrong", "silent", "rude", "refused")]
        out += ["", "| what they were told | |", "|---|--:|"]
        out += ["| `%s` | %d |" % (k[5:].replace("|", " "), n) for k, n in c.most_common() if k.startswith("why")]
        out += ["", "MemAvailable: least %.0f MiB of %d samples (longest gap %.0f ms); the reserve is %.0f MiB." % (
            self.least, self.samples, self.gap * 1000, floor), ""]
        out += [
            "| process | KiB first | last | most | descriptors first | last | most |",
            "|---|--:|--:|--:|--:|--:|--:|",
        ] + flat
        out += ["", "Problems: %s" % ("none" if not self.problems else ""), ""] + ["- " + p for p in self.problems]
        return "\n".join(out) + "\n"

    def floor(self):
        def find(x):
            if isinstance(x, dict):
                for k, v in x.items():
                    if k.startswith("reserve") and isinstance(v, (int, float)):
                        return v
                    r = find(v)
                    if r:
                        return r
            return None
        v = find(self.memory)
        assert v, "hearthctl memory names no reserve: %s" % self.memory
        return v / 2**20


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--faults", type=int, default=200)
    p.add_argument("--streams", type=int, default=32)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--kinds", type=lambda x: x.split(","), help="these, in this order, over and over")
    p.add_argument("--debs", default=os.path.join(os.environ.get("top_builddir", TOP + "/build"), "deb"))
    p.add_argument("--table")
    o = p.parse_args()
    o.short = False
    run = None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        need()
        run = Run(o)
        run.set_up()
        run.go()
        text = run.table()
        print(text)
        if o.table:
            with open(o.table, "w") as f:
                f.write(text)
        if run.problems:
            for m, unit in run.rack.units():
                print("--- %s %s\n%s" % (m.name, unit, m.journal(unit, 40)))
        print("problems: %d" % len(run.problems))
        return 1 if run.problems else 0
    except Absent as e:
        print("skipped: %s" % e)
        return 77
    finally:
        for m in run.rack.machines if run else ():
            m.stop()


if __name__ == "__main__":
    sys.exit(main())

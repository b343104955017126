#!/usr/bin/env python3
"""run.py - a rack of three booted machines, with the packages installed, and what may happen to it.

    tests/rack/run.py [--short] [--debs DIR] [--only NAME,...] [--faults N] [--seed N] [--keep]

A router and two boxes (each Debian 12 with its own systemd, from one cached base) on a bridge in a network namespace of
this process.  The router listens off loopback with keys; the boxes reach it over tcp:// with CURVE.  Clients stream
answers of the tiny model all the time and compare every byte with what they heard while nothing was wrong.

Each scenario prints one line.  Exit status: 0 all held, 1 not, 77 this machine cannot (not root, no nspawn, no network for
the first debootstrap).  --short leaves out what takes long; the long form is run by hand.
"""
import argparse
import ctypes
import glob
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from load import Client, Load
from machine import Absent, Machine, Net, base, need, sh

KEY = "rack-client-key-0123456789"
TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))


def curve_pair():
    zmq = ctypes.CDLL("libzmq.so.5")
    public, secret = ctypes.create_string_buffer(41), ctypes.create_string_buffer(41)
    if zmq.zmq_curve_keypair(public, secret):
        raise Absent("this libzmq has no CURVE")
    return public.value.decode(), secret.value.decode()


def wait_for(what, seconds, text):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        r = what()
        if r:
            return r
        time.sleep(0.2)
    raise AssertionError("not within %d s: %s" % (seconds, text))


def allowed(results, *kinds):
    bad = {k: n for k, n in results[0].items() if k not in ("ok",) + kinds and n}
    assert not bad, "%s; %s" % (dict(results[0]), "; ".join("%d x %s" % (n, w) for w, n in results[1].most_common(4)))
    assert results[0]["ok"] > 0, "nobody got an answer: %s" % dict(results[1])


class Rack:
    def __init__(self, options):
        self.o = options
        self.debs = sorted(glob.glob(options.debs + "/hearth-*.deb"))
        self.debs = [d for d in self.debs if "dbgsym" not in d]
        if not self.debs:
            raise Absent("no packages in %s: make deb" % options.debs)
        self.machines = []
        self.random = random.Random(options.seed)

    # ---- building it -------------------------------------------------------------------

    def machine(self, name, number):
        m = Machine(self.net, name, number)
        self.machines.append(m)
        os.mkdir(m.root + "/debs")
        for d in self.debs:
            sh("cp", d, m.root + "/debs/")
        # random faults come faster than any house has them: the limit on starts is not what is tested
        for unit in ("hearth-router.service", "hearth-worker@.service", "hearthd.service", "hearth-router.socket"):
            m.write("/etc/systemd/system/%s.d/rack.conf" % unit,
                    "[Unit]\nStartLimitBurst=1000\n" + ("[Socket]\nTriggerLimitBurst=0\n" if "socket" in unit else ""))
        return m

    def build(self):
        base()
        self.net = Net()
        self.router, self.box1, self.box2 = (self.machine(n, k) for n, k in (("router", 2), ("box1", 3), ("box2", 4)))
        self.boxes = [self.box1, self.box2]
        self.client = Client("10.77.0.2", key=KEY)
        for m in self.machines:
            m.boot()

    def install(self, m, *names):
        chosen = [d for d in self.debs if os.path.basename(d).split("_")[0] in names] if names else self.debs
        m.run("apt-get install -y -q " + " ".join("/debs/" + os.path.basename(d) for d in chosen))

    def configure_router(self):
        public, secret = curve_pair()
        self.router_public = public
        self.keys = [curve_pair() for _ in self.boxes]
        r = self.router
        r.put("/etc/hearth/keys", "rack %s admin\n" % KEY, 0o640)
        r.run("chgrp hearth /etc/hearth/keys")
        r.put("/etc/credstore/hearth.curve", "%s\n%s\n" % (public, secret), 0o600)
        r.put("/etc/hearth/curve.allow", "\n".join(k[0] for k in self.keys) + "\n")
        r.put("/etc/hearth/hearth.conf.d/rack.conf",
              "[http]\nlisten = 10.77.0.2:8080 127.0.0.1:8080\nkeys_file = /etc/hearth/keys\n"
              "[bus]\nlisten = tcp://10.77.0.2:7420\ncurve_file = credential:hearth.curve\n"
              "curve_allow_file = /etc/hearth/curve.allow\n[alias tiny]\nchain = worker:tiny\n"
              "[alias other]\nchain = worker:other\n" + self.swap_aliases())
        r.put("/etc/systemd/system/hearth-router.socket.d/listen.conf",
              "[Socket]\nListenStream=\nListenStream=10.77.0.2:8080\nListenStream=127.0.0.1:8080\nFreeBind=yes\n")
        r.run("systemctl daemon-reload && systemctl stop hearth-router.service hearth-router.socket && "
              "systemctl start hearth-router.socket hearth-router.service")

    def has_hearthd(self):
        return any(os.path.basename(d).startswith("hearth-box_") and "bin/hearthd" in sh("dpkg-deb", "-c", d).stdout
                   for d in self.debs)

    def swap_aliases(self):
        if not self.has_hearthd():
            return ""
        return "".join("[alias %s]\nchain = worker:%s\nload = wait\n" % (x, x) for x in ("red", "blue"))

    def configure_box(self, m, key):
        secret = "credential:" + ("hearth.curve-secret.enc" if m is self.box1 else "hearth.curve-secret")
        m.put("/etc/hearth/hearthd.conf.d/rack.conf",
              "[box]\nname = %s\nrouter = tcp://10.77.0.2:7420\ncurve_public = %s\ncurve_server = %s\n"
              # failures come faster than any house has them: quarantine is not what is tested
              "curve_secret_file = %s\ncrash_limit = 1000\nbackoff_max_s = 2\n" % (
                  m.name, key[0], self.router_public, secret) +
              # tiny stays; red and blue take turns beside it
              ("" if m is self.box1 else "max_models = 2\nkeep_s = 2\n[model tiny]\npin = yes\n" + "".join(
                  "[model %s]\npath = /usr/share/hearth/models/tiny\nmax_streams = 8\n" % x for x in ("red", "blue"))))
        m.put("/etc/hearth/worker.conf.d/rack.conf",
              "[worker]\nconnect = tcp://10.77.0.2:7420\ncurve_public = %s\ncurve_server = %s\n"
              "curve_secret_file = %s\n" % (key[0], self.router_public, secret))
        if m is self.box1:      # one box with an encrypted secret, one with a plain one
            m.put("/run/secret", key[1], 0o600)
            m.run("mkdir -p /etc/credstore.encrypted && systemd-creds encrypt --with-key=host "
                  "--name=hearth.curve-secret.enc /run/secret /etc/credstore.encrypted/hearth.curve-secret.enc && "
                  "rm /run/secret")
        else:
            m.put("/etc/credstore/hearth.curve-secret", key[1], 0o600)
        m.put("/etc/hearth/worker.d/other.conf", "[worker]\nmodel = /usr/share/hearth/models/tiny\nslots = 8\n")
        m.run("systemctl enable --now hearth-worker@tiny")
        if m.run("test -e /lib/systemd/system/hearthd.service", check=False).returncode == 0:
            m.run("systemctl restart hearthd")

    def workers(self, model="tiny"):
        status, data = self.client.get("/admin/status")
        assert status == 200, data
        return [w for w in json.loads(data)["workers"] if w["model"] == model and w["state"] == "up"]

    def wait_workers(self, n=2, seconds=60, model="tiny"):
        def there():
            try:
                return len(self.workers(model)) >= n
            except OSError:
                return False
        wait_for(there, seconds, "%d workers of %s" % (n, model))

    # ---- scenarios: each is called with the load running, and leaves the rack whole ----------

    def units(self):
        yield self.router, "hearth-router.service"
        yield self.router, "hearth-router.socket"
        for b in self.boxes:
            yield b, "hearth-worker@tiny.service"
            if b.run("test -e /lib/systemd/system/hearthd.service", check=False).returncode == 0:
                yield b, "hearthd.service"

    def check_units(self):
        for m, unit in self.units():
            wait_for(lambda: m.show(unit, "ActiveState") == "active", 40,
                     "%s: %s: %s\n%s" % (m.name, unit, m.show(unit, "StatusText"), m.journal(unit, 8)))

    def settle(self, seconds=3):
        time.sleep(seconds)

    def kill(self, m, unit):
        before = m.pid(unit)
        m.run("kill -9 %d" % before)
        wait_for(lambda: m.pid(unit) not in (0, before) and m.show(unit, "ActiveState") == "active", 40,
                 "%s back on %s" % (unit, m.name))

    def test_kill_worker(self):
        self.kill(self.box1, "hearth-worker@tiny.service")
        self.wait_workers()
        self.settle()
        return ()

    def test_kill_hearthd(self):
        if not any(u == "hearthd.service" for _, u in self.units()):
            raise Absent("this package has no hearthd")
        pid = self.box1.pid("hearth-worker@tiny.service")
        self.kill(self.box1, "hearthd.service")
        self.settle()
        assert self.box1.pid("hearth-worker@tiny.service") == pid, "the worker did not live through it"
        return ()

    def test_kill_router(self):
        # what it was sending is cut, and the client can tell; nobody new is refused: the socket stays
        self.kill(self.router, "hearth-router.service")
        self.wait_workers()
        self.settle()
        return ("cut",)

    def test_restart_router(self):
        old = self.router.pid("hearth-router.service")
        self.router.run("systemctl restart hearth-router")
        assert self.router.pid("hearth-router.service") != old
        self.wait_workers()
        self.settle()
        return ()

    def test_restart_worker(self):
        self.box1.run("systemctl restart hearth-worker@tiny")
        self.wait_workers()
        return ()

    def test_reload(self):
        r = self.router
        pid = r.pid("hearth-router.service")
        r.put("/etc/hearth/keys", "rack %s admin\nsecond a-second-client-key\n" % KEY, 0o640)
        r.run("systemctl reload hearth-router")
        second = Client("10.77.0.2", key="a-second-client-key")
        wait_for(lambda: second.get("/v1/models")[0] == 200, 5, "the new key works")
        assert second.get("/admin/status")[0] == 403, "a client's key is no admin's"
        r.put("/etc/hearth/hearth.conf.d/zz-bad.conf", "[route]\ngrace_ms = soon\n")
        bad = r.run("systemctl reload hearth-router", check=False)
        assert bad.returncode != 0, "a bad file was taken"
        said = r.journal("hearth-router", 20)
        assert "zz-bad.conf:2" in said and "grace_ms" in said, said
        # and past the check, straight at the process
        r.run("systemctl kill -s HUP --kill-who=main hearth-router")
        wait_for(lambda: "last reload refused" in r.show("hearth-router", "StatusText"), 5, "the status says it")
        assert second.get("/v1/models")[0] == 200
        r.run("rm /etc/hearth/hearth.conf.d/zz-bad.conf")
        r.put("/etc/hearth/keys", "rack %s admin\n" % KEY, 0o640)
        r.run("systemctl reload hearth-router")
        wait_for(lambda: second.get("/v1/models")[0] == 401, 5, "the old key works no more")
        assert "refused" not in r.show("hearth-router", "StatusText")
        assert r.pid("hearth-router.service") == pid, "a reload is not a restart"
        assert r.show("hearth-router", "NRestarts") is not None
        return ()

    def cut(self, seconds):
        self.box1.cable(False)
        time.sleep(seconds)
        self.box1.cable(True)
        self.wait_workers()
        self.settle()
        return ()

    def test_cable_10s(self):
        return self.cut(10)

    def test_cable_60s(self):
        return self.cut(60)

    def test_freeze_20s(self):
        pid = self.box2.pid("hearth-worker@tiny.service")
        self.box2.freeze(True)
        time.sleep(6 if self.o.short else 20)
        self.box2.freeze(False)
        self.wait_workers()
        assert self.box2.pid("hearth-worker@tiny.service") == pid, "the watchdog took a stopped box for a wedged worker"
        return ()

    def test_wedged_worker(self):
        """Its loop stands still, its process lives: the watchdog ends it, and it comes back."""
        b, unit = self.box2, "hearth-worker@tiny.service"
        b.put("/run/systemd/system/hearth-worker@tiny.service.d/dog.conf", "[Service]\nWatchdogSec=4\n")
        b.run("systemctl daemon-reload && systemctl restart " + unit)
        self.wait_workers()
        pid = b.pid(unit)
        b.run("kill -STOP %d" % pid)
        wait_for(lambda: b.pid(unit) not in (0, pid), 30, "the watchdog acts")
        assert "watchdog" in b.run("journalctl --no-pager -o cat -u %s -n 40" % unit).stdout.lower()
        b.run("rm /run/systemd/system/hearth-worker@tiny.service.d/dog.conf && systemctl daemon-reload && "
              "systemctl restart " + unit)
        self.wait_workers()
        return ()

    def test_disk_full(self):
        for m in (self.box1, self.router):
            m.run("dd if=/dev/zero of=/var/fill bs=1M 2>/dev/null; cat /dev/zero >/var/fill2 2>/dev/null; sync", check=False)
            assert m.run("echo x >/var/more 2>&1", check=False).returncode != 0, "the disk is not full"
        self.settle()
        self.kill(self.box1, "hearth-worker@tiny.service")
        self.router.run("systemctl restart hearth-router")
        self.wait_workers()
        self.settle()
        for m in (self.box1, self.router):
            m.run("rm -f /var/fill /var/fill2 /var/more")
        return ()

    def test_read_only_model(self):
        b = self.box1
        b.run("mount --bind /usr/share/hearth/models /usr/share/hearth/models && "
              "mount -o remount,bind,ro /usr/share/hearth/models")
        try:
            assert b.run("touch /usr/share/hearth/models/x", check=False).returncode != 0
            b.run("systemctl restart hearth-worker@tiny")
            self.wait_workers()
        finally:
            b.run("umount -l /usr/share/hearth/models")
        return ()

    def test_clock_jump(self):
        """The wall clock of router and workers jumps by an hour and back (libfaketime: the real one is the host's)."""
        lib = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
        if self.router.run("test -e " + lib, check=False).returncode:
            raise Absent("no libfaketime for this architecture")
        places = [(self.router, "hearth-router.service"), (self.box1, "hearth-worker@tiny.service")]
        for m, unit in places:
            m.put("/etc/faketime", "+0\n")
            m.put("/run/systemd/system/%s.d/clock.conf" % unit,
                  "[Service]\nEnvironment=LD_PRELOAD=%s FAKETIME_TIMESTAMP_FILE=/etc/faketime FAKETIME_NO_CACHE=1 "
                  "FAKETIME_DONT_FAKE_MONOTONIC=1\n" % lib)
            m.run("systemctl daemon-reload && systemctl restart " + unit)
        self.wait_workers()
        for jump in ("+3600", "-3600", "+0"):
            for m, _ in places:
                m.put("/etc/faketime", jump + "\n")
            self.settle(4)
            created = json.loads(self.client.request("POST", "/v1/chat/completions", {
                "model": "tiny", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]})[1].read())["created"]
            assert abs(created - time.time() - int(jump)) < 60, "the clock did not jump: %s" % created
        for m, unit in places:
            m.run("rm /run/systemd/system/%s.d/clock.conf && systemctl daemon-reload && systemctl restart %s" % (unit, unit))
        self.wait_workers()
        return ()

    def newer(self, m, names, mark="next"):
        """The same packages with a higher version and another default in a conffile."""
        out = tempfile.mkdtemp(prefix="newer-", dir=m.root + "/debs")
        for d in self.debs:
            if os.path.basename(d).split("_")[0] not in names:
                continue
            at = tempfile.mkdtemp()
            sh("dpkg-deb", "-R", d, at + "/x")
            with open(at + "/x/DEBIAN/control") as f:
                text = f.read()
            old = next(line.split()[1] for line in text.splitlines() if line.startswith("Version:"))
            with open(at + "/x/DEBIAN/control", "w") as f:
                f.write(text.replace(old, old + "+" + mark))
            for conf in ("/x/etc/hearth/hearth.conf", "/x/etc/hearth/worker.conf"):
                if os.path.exists(at + conf):
                    with open(at + conf, "a") as f:
                        f.write("# a new line of version %s\n" % mark)
            sh("dpkg-deb", "--root-owner-group", "-Znone", "-b", at + "/x", out + "/" + os.path.basename(d))
            sh("rm", "-rf", at)
        return "/debs/" + os.path.basename(out)

    def test_upgrade(self):
        # mine: a line that a person added to a conffile, which the next version changes too
        for m, conf, names in ((self.router, "hearth.conf", "common router tools"),
                               (self.box1, "worker.conf", "common box tools model-tiny")):
            m.run("echo '# mine' >>/etc/hearth/" + conf)
            names = ["hearth-" + n for n in names.split()]
            at = self.newer(m, names)
            unit = "hearth-router.service" if m is self.router else "hearth-worker@tiny.service"
            pid = m.pid(unit)
            m.run("apt-get install -y -q -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold " +
                  " ".join("%s/%s_*.deb" % (at, n) for n in names))
            assert m.run("dpkg-query -W -f '${Version}' hearth-common").stdout.endswith("+next")
            assert "# mine" in m.run("cat /etc/hearth/" + conf).stdout, "the person's line is gone"
            if m is self.router:
                assert m.pid(unit) != pid, "the router is still the old one"
            else:
                assert m.pid(unit) == pid, "an upgrade unloaded the model"
            assert m.run("ls /etc/hearth/%s.d/rack.conf" % conf).returncode == 0
        self.wait_workers()
        self.settle()
        return ()

    def test_swap(self):
        """Two models that take turns on a box, asked for all the time."""
        other = Load(self.client, 4, "other", 40)
        b = self.box2
        b.run("systemctl stop hearth-worker@tiny && systemctl start hearth-worker@other")
        self.wait_workers(1, model="other")
        other.learn()
        other.start()
        self.settle()
        b.run("systemctl stop hearth-worker@other && systemctl start hearth-worker@tiny")
        self.wait_workers(2)
        self.settle(2)
        b.run("systemctl stop hearth-worker@tiny && systemctl start hearth-worker@other")
        self.wait_workers(1, model="other")
        self.settle(2)
        other.stop()
        b.run("systemctl stop hearth-worker@other && systemctl start hearth-worker@tiny")
        self.wait_workers(2)
        # while it is away its clients hear so, and never anything wrong
        allowed(other.mark(), "told")
        return ()

    def test_swap_by_hearthd(self):
        """Two models that do not fit together, asked for at the same time: each request waits for its model."""
        if not self.has_hearthd():
            raise Absent("this package has no hearthd")
        # neither was ever loaded: hearthd had to ask their workers' program, inside its unit's walls
        need = {a["alias"]: a["need"] for a in json.loads(self.box2.run("hearthctl memory --json").stdout)["aliases"]}
        loads = [Load(self.client, 2, x, 40) for x in ("red", "blue")]
        for x in loads:
            x.learn()
        for x in loads:
            x.start()
        self.settle(10 if self.o.short else 40)
        for x in loads:
            x.stop()
        swaps = self.box2.run("journalctl --no-pager -o cat -u 'hearth-worker@red' -u 'hearth-worker@blue' | "
                              "grep -c 'self-test:'").stdout
        assert int(swaps) >= 4, "swapped %s times only" % swaps
        for x in ("red", "blue"):
            said = self.box2.run("journalctl --no-pager -o cat -u 'hearth-worker@%s'" % x).stdout
            took = int(re.findall(r"memory: (\d+) bytes =", said)[-1])
            assert need[x] == took, "%s: %d bytes were expected, it took %d" % (x, need[x], took)
        for x in loads:
            allowed(x.mark())
        return ()

    def test_random_faults(self):
        self.wait_workers()
        n = self.o.faults
        kinds = ["worker", "worker", "router", "router-restart", "cable", "freeze", "reload"]
        if any(u == "hearthd.service" for _, u in self.units()):
            kinds.append("hearthd")
        for i in range(n):
            kind, b = self.random.choice(kinds), self.random.choice(self.boxes)
            if kind == "worker":
                b.run("systemctl kill -s KILL hearth-worker@tiny", check=False)
            elif kind == "hearthd":
                b.run("systemctl kill -s KILL hearthd", check=False)
            elif kind == "router":
                self.router.run("systemctl kill -s KILL hearth-router", check=False)
            elif kind == "router-restart":
                self.router.run("systemctl restart hearth-router", check=False)
            elif kind == "cable":
                b.cable(False)
                time.sleep(self.random.uniform(0.5, 8))
                b.cable(True)
            elif kind == "freeze":
                b.freeze(True)
                time.sleep(self.random.uniform(0.5, 8))
                b.freeze(False)
            else:
                self.router.run("systemctl reload hearth-router", check=False)
            time.sleep(self.random.uniform(0.2, 3))
        self.wait_workers(seconds=120)
        # a killed router cuts, and for a moment there may be no worker: both are said, nothing is wrong
        return ("cut", "told")

    # ---- outside the load -----------------------------------------------------------------

    def first_answer(self):
        """Two commands on a fresh machine."""
        m = self.router
        t0 = time.monotonic()
        m.run("apt-get install -y -q /debs/hearth-*.deb")
        m.run("systemctl start hearth-worker@tiny")
        answer = m.run("hearthctl chat 'What is 2 plus 2?'").stdout
        seconds = time.monotonic() - t0
        assert answer.strip(), "no answer"
        assert seconds < 60, "%.1f s" % seconds
        for unit in ("hearth-router", "hearth-worker@tiny"):
            text = m.show(unit, "StatusText")
            assert text, unit + " says nothing of itself"
            print("   %s: %s" % (unit, text))
        told = m.run("journalctl --no-pager -x -u hearth-router -u hearth-worker@tiny").stdout
        assert "Defined-By: Hearth" in told and "There is nothing to do" in told, "no catalogue"
        for unit, limit in (("hearth-router.service", 1.5), ("hearth-worker@tiny.service", 4.0)):
            line = m.run("systemd-analyze security --no-pager %s | tail -n 1" % unit).stdout
            assert float(line.split(": ")[1].split()[0]) <= limit, line
        m.run("systemctl stop hearth-worker@tiny")
        return "%.1f s" % seconds

    def purge(self):
        m = self.router
        m.run("rm -f /etc/hearth/keys /etc/hearth/curve.allow /etc/hearth/hearth.conf.d/rack.conf /etc/credstore/hearth.*")
        m.run("apt-get purge -y -q 'hearth-*'")
        left = m.run("find / -xdev '(' -iname '*hearth*' -o -user hearth-router -o -nouser ')' -not -path '/proc/*' "
                     "-not -path '/debs*' -not -path '/etc/systemd/system/*.d' -not -path '/etc/systemd/system/*.d/*' "
                     "-not -path '/var/log/*' 2>/dev/null; getent passwd hearth-router hearth-worker; getent group hearth; "
                     "systemctl list-units --all --plain --no-legend 'hearth*' | grep -v not-found; true").stdout
        assert not left.strip(), "left behind:\n" + left
        return "nothing left"

    def sizes(self):
        """(resident KiB, descriptors) of each process of ours."""
        out = {}
        for m, unit in self.units():
            if unit.endswith(".service"):
                p = m.pid(unit)
                rss = int(m.run("awk '/VmRSS/{print $2}' /proc/%d/status" % p).stdout)
                fds = len(m.run("ls /proc/%d/fd" % p).stdout.split())
                out["%s %s" % (m.name, unit)] = (rss, fds)
        return out


SHORT = ["kill_worker", "kill_hearthd", "kill_router", "restart_router", "reload", "freeze_20s", "swap_by_hearthd", "upgrade", "random_faults"]
LONG = ["kill_worker", "kill_hearthd", "kill_router", "restart_router", "restart_worker", "reload", "cable_10s", "cable_60s",
        "freeze_20s", "wedged_worker", "disk_full", "read_only_model", "clock_jump", "swap", "swap_by_hearthd", "upgrade", "random_faults"]


def say(name, word, detail=""):
    print("%-16s %-5s %s" % (name, word, detail), flush=True)


def run(rack, o):
    failed = 0

    def scenario(name, what):
        nonlocal failed
        t0 = time.monotonic()
        try:
            detail = what()
            say(name, "ok", "%.0f s  %s" % (time.monotonic() - t0, detail or ""))
        except Absent as e:
            say(name, "skip", str(e))
        except Exception as e:
            failed += 1
            say(name, "FAIL", "%.0f s  %s" % (time.monotonic() - t0, e))
            if not isinstance(e, AssertionError):
                traceback.print_exc()
            for m, unit in rack.units():
                print("--- %s %s\n%s" % (m.name, unit, m.journal(unit, 12)))

    scenario("first_answer", rack.first_answer)
    rack.configure_router()
    for m, key in zip(rack.boxes, rack.keys):
        rack.install(m, "hearth-common", "hearth-box", "hearth-tools", "hearth-model-tiny")
        rack.configure_box(m, key)
    rack.wait_workers()
    load = Load(rack.client, o.streams)
    load.learn()
    load.start()

    def under_load(name):
        load.mark()
        kinds = getattr(rack, "test_" + name)()
        time.sleep(2)
        rack.check_units()
        results = load.mark()
        allowed(results, *kinds)
        why = "".join("\n   %d x %s" % (n, w) for w, n in results[1].most_common(4))
        return " ".join("%s=%d" % kv for kv in sorted(results[0].items())) + why

    time.sleep(5)
    before = rack.sizes()
    for name in o.only or (SHORT if o.short else LONG):
        scenario(name, lambda: under_load(name))
        rack.wait_workers(seconds=90)
    load.stop()
    scenario("units", rack.check_units)
    print("resident KiB and descriptors, before and after:")
    for k, v in rack.sizes().items():
        print("   %-40s %s -> %s" % (k, before.get(k), v))
    scenario("purge", rack.purge)
    return failed


def can():
    """Boots an empty machine: the only way to know."""
    m = None
    try:
        need()
        base()      # from the net, which the machines' own namespace does not reach
        m = Machine(Net(), "probe", 9, 100)
        m.boot(60)
        return 0
    except (Absent, RuntimeError, OSError) as e:
        print("skipped: %s" % e)
        return 77
    finally:
        if m:
            m.stop()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--short", action="store_true")
    p.add_argument("--can", action="store_true", help="only: can this machine boot one? 0 or 77")
    p.add_argument("--debs", default=None)
    p.add_argument("--only", type=lambda s: s.split(","))
    p.add_argument("--faults", type=int, default=None)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--streams", type=int, default=None)
    o = p.parse_args()
    if o.can:
        return can()
    o.faults = o.faults or (6 if o.short else 200)
    o.streams = o.streams or (8 if o.short else 32)
    o.debs = o.debs or os.path.join(os.environ.get("top_builddir", TOP + "/build"), "deb")
    rack = None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))       # `timeout` must not leave machines behind
    try:
        need()
        rack = Rack(o)
        rack.build()
        failed = run(rack, o)
    except RuntimeError as e:
        print("FAIL  setting up: %s" % e)
        for m in rack.machines:
            print("--- %s\n%s" % (m.name, m.run("journalctl --no-pager -o cat -n 40 -u 'hearth*'", check=False).stdout))
        failed = 1
    except Absent as e:
        print("skipped: %s" % e)
        return 77
    finally:
        for m in rack.machines if rack else ():
            m.stop()
    print("failed: %d" % failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

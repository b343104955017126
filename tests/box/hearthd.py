#!/usr/bin/env python3
"""hearthd.py - the memory broker with real processes: a real page cache filled by another program's file, real workers,
a real hearthd that is killed.  The box is made small with memory.limit_mib, so that little memory is really used.

    top_builddir=build python3 tests/box/hearthd.py [TEST]...
"""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

from box import BUILD, SANITIZED, Skip, main, wait_for

SRC = os.path.abspath(os.environ.get("top_srcdir", "."))
TINY = os.environ.get("HEARTH_TINY", os.path.join(SRC, "models/tiny"))
MIB = 1 << 20


def meminfo():
    with open("/proc/meminfo") as f:
        m = {x.split(":")[0]: int(x.split()[1]) << 10 for x in f}
    with open("/proc/zoneinfo") as f:      # pages free on the CPUs' own lists: available, although not counted
        lists = sum(int(x.split()[1]) for x in f if x.split()[0] == "count:") * os.sysconf("SC_PAGE_SIZE")
    return {**m, "MemAvailable": m["MemAvailable"] + lists}


class Hearthd:
    """hearthd alone: no router answers, none is needed for memory."""

    def __init__(self, conf="", **memory):
        if not os.path.exists(BUILD + "/bin/hearthd") or not os.path.exists(TINY + "/config.json"):
            raise Skip("no hearthd, or no tiny model")
        self.dir = tempfile.mkdtemp(prefix="hearth-memory-")
        self.socket = self.dir + "/memory"
        self.workers = []
        memory = {"reserve_mib": 64, "drop_socket": self.dir + "/nobody", **memory}
        with open(self.dir + "/conf", "w") as f:
            f.write("[box]\nname = b\nrouter = ipc://%s/bus\nlauncher = spawn\nrun_dir = %s\n[memory]\n%s\n%s" % (
                self.dir, self.dir, "\n".join("%s = %s" % kv for kv in memory.items()), conf))
        self.start()

    def start(self):
        self.log = open(self.dir + "/log", "ab")
        self.proc = subprocess.Popen([BUILD + "/bin/hearthd", "-c", self.dir + "/conf"], stdout=self.log,
                                     stderr=self.log, stdin=subprocess.DEVNULL)
        wait_for(lambda: self.proc.poll() is not None or self.memory(check=False))
        assert self.proc.poll() is None, self.text()

    def text(self):
        with open(self.dir + "/log") as f:
            return f.read()

    def memory(self, check=True):
        p = subprocess.run([BUILD + "/bin/hearthctl", "--hearthd", self.socket, "--json", "memory"],
                           capture_output=True, text=True)
        assert p.returncode == 0 or not check, p.stderr
        return json.loads(p.stdout) if p.returncode == 0 else None

    def lease(self, alias):
        return next((w for w in self.memory()["workers"] if w["alias"] == alias and w["state"] == "granted"), None)

    def worker(self, alias, kv="8M", slots=8, wait=True, words=()):
        log = open("%s/%s.log" % (self.dir, alias), "ab")
        p = subprocess.Popen([BUILD + "/bin/hearth-worker", "serve", TINY, "--connect", "ipc://%s/bus" % self.dir,
                              "--alias", alias, "--hearthd", self.socket, "--kv-bytes", kv, "--slots", str(slots),
                              "--threads", "1", "--rows", "128", *words], stdout=log, stderr=log,
                             stdin=subprocess.DEVNULL)
        self.workers.append(p)
        if wait:
            wait_for(lambda: "self-test:" in self.worker_text(alias) or p.poll() is not None, 60)
            assert p.poll() is None, self.worker_text(alias)
        return p

    def worker_text(self, alias):
        try:
            with open("%s/%s.log" % (self.dir, alias)) as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def __enter__(self):
        return self

    def __exit__(self, *a):
        for p in self.workers + [self.proc]:
            if p.poll() is None:
                p.kill()
            p.wait()


class Cache:
    """Another program's file in the page cache.  It is a hole: reading it fills the cache, and no disk."""

    def __init__(self, bytes_):
        fd, self.path = tempfile.mkstemp(prefix="hearth-cache-", dir="/var/tmp")
        os.truncate(fd, bytes_)
        os.close(fd)
        before = meminfo()["Cached"]
        subprocess.run(["cat", self.path], check=True, stdout=subprocess.DEVNULL)
        if meminfo()["Cached"] - before < bytes_ // 2:
            os.unlink(self.path)
            raise Skip("reading a file does not fill the page cache here")

    def __enter__(self):
        return self

    def __exit__(self, *a):
        os.unlink(self.path)


def small_box(mib, of="MemAvailable"):
    """A limit under which about `mib` of this machine's free or available memory count.  Other programs come and go
    meanwhile: what a test needs and what it must not get lie a GiB from there."""
    m = meminfo()
    if m["MemFree"] < 5 << 30:
        raise Skip("less than 5 GiB are free here")
    return (m["MemTotal"] - m[of] >> 20) + mib


def unit_mib():
    """What such a test takes, in MiB: others on this machine (a router under a sanitizer, a build) may take or give back
    this much while it runs."""
    return 2048 if meminfo()["MemFree"] > 14 << 30 else 1024


def needs_root():
    if os.geteuid() != 0:
        raise Skip("dropping caches is root's")


STEP = re.compile(r"drop: step=(\S+) (?:files=\d+ )?ms=\d+ free=(\d+)>(\d+) available=(\d+)>(\d+) cached=(\d+)>(\d+)")


def test_cache_of_another_program_is_dropped_and_the_worker_starts():
    needs_root()
    unit = unit_mib()
    limit = small_box(2 * unit, "MemFree")
    with Cache(3 * unit * MIB), Hearthd(limit_mib=limit) as h:
        before = h.memory()
        # the cache took what was free: MemFree is below the need, MemAvailable is not
        assert before["free"] < unit * MIB < before["available"], before
        h.worker("tiny", kv="%dM" % unit, slots=32)
        steps = {m[0]: [int(x) for x in m[1:]] for m in STEP.findall(h.text())}
        assert list(steps) == ["fadvise", "sync", "drop_caches=1", "drop_caches=3", "percpu"], h.text()
        was, now = steps["drop_caches=1"], steps["percpu"]
        assert now[1] - was[0] > 1.9 * unit * MIB and was[4] - now[5] > 1.9 * unit * MIB, h.text()
        assert "tiny granted" in h.text() and h.lease("tiny"), h.text()


def test_never_drop_refuses_with_the_numbers():
    unit = unit_mib()
    limit = small_box(2 * unit, "MemFree")
    with Cache(3 * unit * MIB), Hearthd(limit_mib=limit, drop_caches="never") as h:
        p = h.worker("tiny", kv="%dM" % unit, slots=32, wait=False)
        assert p.wait(60) == 75, p.returncode
        line = next(x for x in h.worker_text("tiny").splitlines() if "too much" in x)
        for part in (
            "tiny needs",
            "weights",
            "kv %d.0 GiB" % (unit // 1024),
            "MemFree",
            "MemAvailable",
            "reserve 64 MiB",
            "drop_caches = never",
        ):
            assert part in line, (part, line)
        assert "refused: tiny" in h.text() and "step=" not in h.text(), h.text()
        assert h.memory()["workers"] == []


def test_a_helper_that_may_not_leaves_the_cpu_to_the_kernel():
    """As in a container: /proc/sys is read-only.  A CPU worker can reclaim cache by touching memory; so it gets its grant."""
    import socket
    import threading
    path = tempfile.mkdtemp(prefix="hearth-drop-") + "/socket"
    asked = []

    def helper(door):
        s, _ = door.accept()
        asked.append(s.recv(100))
        for step in ("sync", "drop_caches=1", "drop_caches=3", "percpu"):
            s.send(b"step=%s ms=0 free=1>1 available=1>1 cached=1>1%s" % (
                step.encode(), b" error=Read-only file system" if "drop" in step else b""))
        s.send(b"done")
        s.recv(100)

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.bind(path)
        door.listen()
        t = threading.Thread(target=helper, args=(door,), daemon=True)
        t.start()
        unit = unit_mib()
        limit = small_box(2 * unit, "MemFree")
        with Cache(3 * unit * MIB), Hearthd(limit_mib=limit, drop_socket=path) as h:
            assert h.memory()["free"] < unit * MIB, h.memory()
            h.worker("tiny", kv="%dM" % unit, slots=32)
            assert asked == [b"drop"] and "not complete: hearth-dropcaches may not" in h.text(), h.text()
            assert h.lease("tiny")


def test_a_budget_larger_than_the_box_costs_nobody_anything():
    with Hearthd() as h:
        p = h.worker("big", kv="4000G", slots=1024, wait=False, words=("--rows", "1200"))
        assert p.wait(60) == 75
        # kv is cut to what the slots can fill; it is larger than the box all the same
        assert "the box is too small" in h.worker_text("big") and "step=" not in h.text(), h.text()


def test_killed_hearthd_rebuilds_its_leases():
    with Hearthd() as h:
        a, b = h.worker("a"), h.worker("b", kv="16M")
        was = {x: h.lease(x) for x in "ab"}
        h.proc.send_signal(signal.SIGKILL)
        h.proc.wait()
        time.sleep(0.3)
        h.start()
        wait_for(lambda: h.lease("a") and h.lease("b"), 5)
        for x in "ab":
            now = h.lease(x)
            assert {k: v for k, v in now.items() if k != "taken"} == \
                   {k: v for k, v in was[x].items() if k != "taken"}, (now, was[x])
            wait_for(lambda: "hearthd is back" in h.worker_text(x), 5)
        assert a.poll() is None and b.poll() is None
        assert h.text().count("it holds") == 2, h.text()
        # and a new one is counted beside them
        h.worker("c")
        assert len(h.memory()["workers"]) == 3


def test_lease_outlives_its_connection_and_ends_with_its_process():
    with Hearthd() as h:
        a = h.worker("a", kv="64M")
        a.send_signal(signal.SIGSTOP)      # it cannot speak, and holds its memory all the same
        time.sleep(0.5)
        assert h.lease("a")
        a.send_signal(signal.SIGKILL)
        wait_for(lambda: not h.memory()["workers"], 5)
        assert "a (process %d) ended" % a.pid in h.text()


def test_dead_workers_bytes_are_granted_when_they_are_back():
    """One that holds more than half of what can be granted dies; the next gets the same."""
    with Hearthd(limit_mib=small_box(3072), judge="available", drop_caches="never") as h:
        usable = h.memory()["usable"]
        kv = "%dM" % (usable * 6 // 10 >> 20)
        words = ("--context", "32768", "--slots", "63")
        a = h.worker("a", kv=kv, words=words)
        # the second does not fit beside the first, whose memory is owed although it is not touched yet
        p = h.worker("b", kv=kv, words=words, wait=False)
        assert p.wait(60) == 75, h.text()
        assert "worker a" in h.worker_text("b"), h.worker_text("b")
        a.kill()
        a.wait()        # until then it is alive, if only to end, and so is its lease
        h.worker("c", kv=kv, words=words)
        assert h.lease("c"), h.text()


def test_red_stops_the_youngest_worker_only():
    with Hearthd() as h:
        old, young = h.worker("old"), h.worker("young")
        m = meminfo()
        # red is where memory stands now: reload with thresholds above it
        with open(h.dir + "/conf") as f:
            text = f.read()
        total = m["MemTotal"] >> 20
        with open(h.dir + "/conf", "w") as f:
            f.write(text.replace("reserve_mib = 64", "reserve_mib = %d\nyellow_mib = %d\nred_mib = %d\nback_s = 3600" %
                                 (total + 3, total + 2, total + 1)))
        h.proc.send_signal(signal.SIGHUP)
        young.wait(30)
        assert young.returncode == 0, young.returncode
        assert "memory is red" in h.worker_text("old") and "memory is red" in h.text()
        time.sleep(1)
        assert old.poll() is None
        with open(h.dir + "/conf", "w") as f:
            f.write(text.replace("reserve_mib = 64", "reserve_mib = 64\ncalm_ms = 300"))
        h.proc.send_signal(signal.SIGHUP)
        wait_for(lambda: "memory is green" in h.worker_text("old"), 10)


def test_rubbish_at_the_desk_disturbs_nobody():
    import socket
    with Hearthd() as h:
        a = h.worker("a")
        for packet in (b"x", b"HB\x01\x01\xff\xff\xff\xff", b"HB\x02\x01\0\0\0\0", b"HB\x01\x10\0\0\0\0",
                       b"HB\x01\x01\x02\0\0\0\x0a\x7f", b"HB\x01\x03\0\0\0\0" + b"y" * 9, os.urandom(4000)):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
                s.connect(h.socket)
                s.send(packet)
                s.settimeout(5)
                assert s.recv(100000) == b"", packet
        many = []
        for _ in range(200):       # silent visitors
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            s.connect(h.socket)
            many.append(s)
        assert h.lease("a") and a.poll() is None
        for s in many:
            s.close()


def test_idle_visitors_keep_nobody_out():
    import socket

    def visit(h):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.connect(h.socket)
        s.settimeout(20)
        return s

    with Hearthd() as h:
        a = h.worker("a")
        many = [visit(h) for _ in range(256)]      # the worker is the 257th
        assert many[0].recv(100) == b""            # the one that has been idle for longest
        assert h.memory() and h.lease("a")
        h.worker("b")
        assert h.lease("a") and h.lease("b") and a.poll() is None
        assert many[1].recv(100) == b""
        many[255].setblocking(False)
        try:
            assert many[255].recv(100), "the one that came last has its place"
        except BlockingIOError:
            pass
        assert "is sent away for a new one" in h.text(), h.text()
        for s in many:
            s.close()


def start_beside(h, *words):
    """What a second hearthd with the same configuration says, that is wrong and must end."""
    p = subprocess.run([BUILD + "/bin/hearthd", "-c", h.dir + "/conf", *words], capture_output=True, text=True, timeout=20)
    return p.returncode, p.stderr


def test_a_second_hearthd_leaves_the_first_its_sockets():
    with Hearthd() as h:
        before = {x: os.lstat(h.dir + "/" + x).st_ino for x in ("memory", "notify")}
        for _ in range(2):
            code, said = start_beside(h)
            assert code == 1 and "another hearthd answers at " + h.socket in said, (code, said)
        assert {x: os.lstat(h.dir + "/" + x).st_ino for x in before} == before
        h.worker("w1")
        assert h.lease("w1")
        h.proc.kill()           # its socket stays, and is nobody's: taken by the next
        h.proc.wait()
        h.start()
        wait_for(lambda: h.lease("w1"))


def test_a_file_where_the_socket_should_be_is_left_alone():
    with Hearthd() as h:
        path = h.dir + "/precious"
        with open(path, "w") as f:
            f.write("mine")
        code, said = start_beside(h, "-o", "memory.socket=" + path, "-o", "box.run_dir=%s/other" % h.dir)
        assert code == 1 and path + " is there and is no socket" in said, (code, said)
        with open(path) as f:
            assert f.read() == "mine"


def test_no_hearthd_at_a_named_socket_is_an_error():
    with Hearthd() as h:
        h.proc.terminate()
        h.proc.wait()
        p = h.worker("a", wait=False)
        assert p.wait(30) == 78 and "hearthd at" in h.worker_text("a"), h.worker_text("a")
        q = h.worker("b", words=("--hearthd", "none"))
        assert "without asking" in h.worker_text("b")
        q.terminate()


def test_table_for_people():
    with Hearthd("[model tiny]\npath = %s\n" % TINY) as h:
        h.worker("a")
        p = subprocess.run([BUILD + "/bin/hearthctl", "--hearthd", h.socket, "memory"], capture_output=True, text=True)
        for part in ("WHAT", "box", "reserve", "usable", "a (%d)" % h.workers[0].pid, "granted", "tiny", "unloaded"):
            assert part in p.stdout, (part, p.stdout)
        p = subprocess.run([BUILD + "/bin/hearthctl", "--hearthd", h.dir + "/none", "memory"], capture_output=True,
                           text=True)
        assert p.returncode == 69 and "No such file" in p.stderr


class Workload:
    """A unit tts.service on a bus of the test's own: it holds memory until it is stopped."""

    def __init__(self, mib):
        from lifecycle_units import Systemd
        self.sd = Systemd()
        self.dir = tempfile.mkdtemp(prefix="hearth-tts-")
        os.mkdir(self.dir + "/worker")
        self.program = self.dir + "/tts"
        with open(self.program, "w") as f:
            f.write("#!%s\nimport os, signal, socket\nx = bytearray(b'x') * (%d << 20)\nopen(%r, 'w').close()\n"
                    "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
                    "s.connect(os.environ['NOTIFY_SOCKET'])\ns.send(b'READY=1')\nsignal.sigwait([signal.SIGTERM])\n"
                    % (sys.executable, mib, self.dir + "/filled"))
        os.chmod(self.program, 0o755)
        with open(self.dir + "/worker/.env", "w") as f:
            f.write('X="hold"\n')
        self.sd.fake = subprocess.Popen([BUILD + "/tests/tools/fake_systemd", self.program, self.dir],
                                        stdout=open(self.sd.dir + "/log", "ab"), stderr=subprocess.STDOUT)
        wait_for(lambda: os.path.exists(self.sd.dir + "/log") and "up" in self.sd.text())

    def text(self):
        return self.sd.text()

    def filled(self):
        return os.path.exists(self.dir + "/filled")

    def call(self, method, *words):
        p = subprocess.run(["busctl", "--address=" + os.environ["DBUS_SYSTEM_BUS_ADDRESS"], "call",
                            "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                            "org.freedesktop.systemd1.Manager", method, *words], capture_output=True, text=True)
        assert p.returncode == 0, p.stderr

    def __enter__(self):
        return self

    def __exit__(self, *a):
        try:
            self.call("StopUnit", "ss", "tts.service", "replace")
            time.sleep(0.3)
        finally:
            self.sd.__exit__()


CONF_TTS = "[workload tts]\nunit = tts.service\nmemory = 2G\nstop-for = big other\nrestart = yes\n"


def workload_state(h):
    return h.memory()["workloads"][0]["state"]


def test_a_workload_is_stopped_to_make_room_and_started_again():
    import shutil
    if not shutil.which("busctl"):
        raise Skip("no busctl")
    with Workload(2048) as w:
        limit = small_box(2500)
        w.call("StartUnit", "ss", "tts.service", "replace")
        wait_for(w.filled, 120)     # what is available moves by itself: others' memory is coming back
        with Hearthd(CONF_TTS, limit_mib=limit, judge="available") as h:
            wait_for(lambda: workload_state(h) == "running", 5)
            # an alias it does not stop for is refused, and names the process that holds the memory
            assert h.worker("small", kv="1400M", slots=32, wait=False).wait(60) == 75
            assert "tts" in h.worker_text("small") and "stop tts" not in w.text(), (h.worker_text("small"), w.text())
            big = h.worker("big", kv="1400M", slots=32)
            assert w.text().count("stop tts.service") == 1 and workload_state(h) == "stopped for big", h.text()
            # a hearthd that is killed does not forget what it stopped
            h.proc.kill()
            h.proc.wait()
            big.send_signal(signal.SIGSTOP)
            h.start()
            time.sleep(2.5)         # a worker that is late with its lease: nothing is started in its place
            assert not h.lease("big") and workload_state(h) == "stopped for big" and "again without" not in h.text()
            big.send_signal(signal.SIGCONT)
            wait_for(lambda: h.lease("big"), 5)
            assert workload_state(h) == "stopped for big"
            big.terminate()
            big.wait()
            # but when the one it waits for was there and is gone, there is nothing more to wait for
            wait_for(lambda: "is started again without big" in h.text(), 4)
            try:
                wait_for(lambda: workload_state(h) == "running", 120)
            except AssertionError:
                raise AssertionError(h.memory()["workloads"], w.text(), h.text()[-600:])
            assert w.text().count("start tts.service") == 2, w.text()


def test_a_unit_that_its_owner_stopped_is_not_started():
    import shutil
    if not shutil.which("busctl"):
        raise Skip("no busctl")
    with Workload(1) as w, Hearthd(CONF_TTS, limit_mib=small_box(700), judge="available",
                                   drop_caches="never") as h:
        wait_for(lambda: workload_state(h) == "not running", 5)
        assert h.worker("big", kv="1700M", slots=32, wait=False).wait(60) == 75, h.text()
        assert "stop tts" not in w.text() and "start tts" not in w.text(), w.text()


if __name__ == "__main__":
    main(dict(globals()))

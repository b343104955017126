#!/usr/bin/env python3
"""lifecycle_units.py - the life cycle again, with workers as units over sd-bus: real router, hearthd and worker, a
private dbus-daemon, and tests/tools/fake_systemd in systemd's place."""
import os
import socket
import shutil
import signal
import subprocess
import tempfile

from box import BUILD, Router, Skip, main, wait_for
from lifecycle import Box, ask, ctl, kill, model

CONF = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "">
<busconfig><type>system</type><listen>unix:path=%s/dbus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow send_type="method_call"/>
<allow eavesdrop="false"/></policy></busconfig>
"""


class Systemd:
    def __init__(self, *words):
        if not shutil.which("dbus-daemon") or not os.path.exists(BUILD + "/tests/tools/fake_systemd"):
            raise Skip("no dbus-daemon, or built without libsystemd")
        self.dir = tempfile.mkdtemp(prefix="hearth-dbus-")
        with open(self.dir + "/conf", "w") as f:
            f.write(CONF % self.dir)
        self.words = words
        self.before = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS")
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = "unix:path=%s/dbus" % self.dir
        self.bus = subprocess.Popen(["dbus-daemon", "--config-file=" + self.dir + "/conf", "--nofork", "--nopidfile"],
                                    stderr=subprocess.DEVNULL)
        wait_for(lambda: os.path.exists(self.dir + "/dbus"))
        self.fake = None

    def start(self, run_dir):
        self.log = open(self.dir + "/log", "ab")
        self.fake = subprocess.Popen([BUILD + "/tests/tools/fake_systemd", BUILD + "/bin/hearth-worker", run_dir,
                                      *self.words], stdout=self.log, stderr=self.log)
        wait_for(lambda: "up" in self.text())

    def text(self):
        with open(self.dir + "/log") as f:
            return f.read()

    def __enter__(self):
        return self

    def __exit__(self, *a):
        for p in (self.fake, self.bus):
            if p:
                p.kill()
                p.wait()
        if self.before is None:
            del os.environ["DBUS_SYSTEM_BUS_ADDRESS"]
        else:
            os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = self.before
        shutil.rmtree(self.dir, ignore_errors=True)


class UnitBox(Box):
    def __init__(self, systemd, router, conf, **keys):
        self.systemd = systemd
        super().__init__(router, conf, launcher="systemd", stop_workers="yes", **keys)

    def start(self, wait=True):
        if not self.systemd.fake:
            self.systemd.start(self.dir)
        super().start(wait)


class Notified:
    """What a hearthd that is started meanwhile tells its service manager."""

    def __init__(self, path):
        self.path, self.status = path, ""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.setblocking(False)

    def last(self):
        try:
            while True:
                for line in self.socket.recv(4096).decode().splitlines():
                    if line.startswith("STATUS="):
                        self.status = line[7:]
        except BlockingIOError:
            return self.status

    def __enter__(self):
        os.environ["NOTIFY_SOCKET"] = self.path
        return self

    def __exit__(self, *a):
        del os.environ["NOTIFY_SOCKET"]


def test_units_are_started_watched_and_stopped():
    with Systemd() as sd, Router() as r, UnitBox(sd, r, model("a", ttl_s=600) + model("b"), max_models=1) as b:
        s, h, d = ask(r, "a")
        assert s == 200 and h["x-hearth-served-by"] == "worker:b1/a", (h, d, b.text(), sd.text())
        assert ask(r, "b")[0] == 200
        assert (b.state("a"), b.state("b")) == ("unloaded", "ready")
        assert ctl(r, "unload", "b")[0] == 0
        b.wait_state("b", "unloaded")
        assert sd.text().count("start hearth-worker@b.service") == 1
        assert "stop hearth-worker@a.service" in sd.text() and "stop hearth-worker@b.service" in sd.text()


def test_progress_is_the_units_status_text():
    with Systemd() as sd, Router("[route]\nload_wait_s = 0\n") as r, UnitBox(sd, r, model("a")) as b:
        assert ask(r, "a")[0] == 503
        seen = set()
        wait_for(
            lambda: seen.add((b.state("a"), b.models()["a"].get("progress"))) or b.state("a") == "ready", 20, 0.002
        )
        assert any(s == "loading" and p is not None for s, p in seen), seen


def test_a_units_end_is_told_with_its_reason_and_quarantined():
    with Systemd() as sd, Router() as r, \
            UnitBox(sd, r, model("a") + model("bad", path="/nonexistent"), crash_limit=2, healthy_s=600) as b:
        assert ask(r, "a")[0] == 200
        for i in range(2):
            b.wait_state("a", "ready")
            kill(b.pid("a"))
            wait_for(lambda: b.models()["a"]["failures"] == i + 1)
        b.wait_state("a", "quarantined")
        assert "killed by signal 9 (Killed; signal)" in b.models()["a"]["reason"], b.models()["a"]
        s, h, d = ask(r, "bad")
        assert s == 503 and "exit status 78 (exit-code)" in d["error"]["message"], d


def test_systemds_own_restart_is_called_off():
    with Systemd("auto-restart") as sd, Router() as r, UnitBox(sd, r, model("a"), backoff_ms=3000) as b:
        assert ask(r, "a")[0] == 200
        kill(b.pid("a"))
        b.wait_state("a", "backoff")
        b.wait_state("a", "ready")
        assert "restart" not in sd.text().replace("auto-restart", ""), sd.text()
        assert sd.text().count("start hearth-worker@a") == 2


def by_hand(r, b):
    """hearthd is another one, and for it somebody else had started the unit a; its pid."""
    assert ask(r, "a")[0] == 200
    pid = b.pid("a")
    b.kill()
    os.unlink(b.dir + "/worker/a.env")
    return pid


def test_a_start_that_waits_for_systemds_restart_is_not_called_off_with_it():
    with Systemd("auto-restart") as sd, Router() as r, UnitBox(sd, r, model("a")) as b:
        pid = by_hand(r, b)
        b.start()
        assert b.state("a") == "unloaded" and ask(r, "a")[0] == 200
        kill(pid)               # a person's unit: systemd starts it again, and a request wants it before
        wait_for(lambda: not r.status()["workers"])
        s, _, d = ask(r, "a")
        assert s == 200, (d, b.text(), sd.text())
        b.wait_state("a", "ready")
        assert "restart hearth-worker@a" in sd.text() and "stop hearth-worker@a" not in sd.text(), sd.text()


def test_a_unit_that_is_not_there_is_told_in_systemds_words():
    with Systemd() as sd, Router() as r, UnitBox(sd, r, model("missing"), crash_limit=2) as b:
        s, h, d = ask(r, "missing")
        assert s == 503 and "Unit hearth-worker@missing.service not found." in d["error"]["message"], d


def test_units_outlive_a_hearthd_and_are_found_again():
    with Systemd() as sd, Router() as r, UnitBox(sd, r, model("a")) as b:
        assert ask(r, "a")[0] == 200
        pid = b.pid("a")
        b.proc.kill()
        b.proc.wait()
        b.out.close()
        assert ask(r, "a")[0] == 200
        wait_for(lambda: not r.status()["boxes"])
        b.start()
        b.wait_state("a", "ready")
        assert b.pid("a") == pid
        kill(pid)
        wait_for(lambda: b.state("a") == "ready" and b.pid("a") != pid, 20)


def test_a_unit_that_a_person_started_is_left_to_that_person():
    with Systemd() as sd, Router() as r, UnitBox(sd, r, model("a")) as b:
        assert ask(r, "a")[0] == 200
        env = b.dir + "/worker/a.env"
        with open(env) as f:
            words = f.read()
        assert "--alias a" in words and "serve" not in words
        pid = by_hand(r, b)
        with Notified(b.dir + "/notify") as status:
            b.start()
        assert b.state("a") == "unloaded" and ask(r, "a")[0] == 200
        wait_for(lambda: "0 of 1 models ready, 1 more started by hand" in status.last())
        assert b.pid("a") is None and os.path.exists("/proc/%d" % pid)
        assert ctl(r, "load", "a", "-w")[0] == 0    # now it is hearthd's
        assert b.pid("a") == pid and os.path.exists(env)
        wait_for(lambda: "1 of 1 models ready" in status.last() and "hand" not in status.last())
        assert ctl(r, "unload", "a")[0] == 0
        b.wait_state("a", "unloaded")
        assert not os.path.exists(env)


def test_a_bus_that_goes_away_loses_no_worker():
    with Systemd() as sd, Router() as r, UnitBox(sd, r, model("a")) as b:
        assert ask(r, "a")[0] == 200
        pid = b.pid("a")
        b.proc.send_signal(signal.SIGSTOP)
        b.proc.send_signal(signal.SIGCONT)
        sd.bus.send_signal(signal.SIGSTOP)          # nobody answers on the bus for a while
        assert ctl(r, "status")[0] == 0
        sd.bus.send_signal(signal.SIGCONT)
        assert ask(r, "a")[0] == 200
        assert b.state("a") == "ready" and b.pid("a") == pid


if __name__ == "__main__":
    main(dict(globals()))

#!/usr/bin/env python3
"""lifecycle.py - hearthd and a real systemd: one booted machine with the programs of this build tree, its workers as units.

    sudo top_builddir=build tests/rack/lifecycle.py

Needs what tests/rack/run.py needs (root, systemd-container, debootstrap), else exits with 77; but no packages.
"""
import json
import os
import shutil
import subprocess
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from load import Client
from machine import Absent, Machine, Net, base, need, sh

TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BUILD = os.path.abspath(os.environ.get("top_builddir", TOP + "/build"))
HEARTHD = """[memory]
drop_caches = never
judge = available
reserve_mib = 64
yellow_mib = 48
red_mib = 32
[box]
name = b1
max_models = 1
keep_s = 0
backoff_ms = 500
crash_limit = 3
healthy_s = 600
[model a]
path = /usr/share/hearth/models/tiny
context = 1024
max_streams = 4
threads = 1
[model b]
path = /usr/share/hearth/models/tiny
context = 1024
max_streams = 4
threads = 1
"""


def wait_for(what, seconds, text):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            r = what()
        except (OSError, ValueError):
            r = None
        if r:
            return r
        time.sleep(0.2)
    raise AssertionError("not within %d s: %s" % (seconds, text))


class Booted:
    def __init__(self):
        base()
        self.m = Machine(Net(), "lifebox", 9)
        m = self.m
        for p in ("hearth-router", "hearthd", "hearth-worker", "hearthctl"):
            if not os.path.exists("%s/bin/%s" % (BUILD, p)):
                raise Absent("no %s/bin/%s" % (BUILD, p))
            shutil.copy("%s/bin/%s" % (BUILD, p), m.root + "/usr/bin/" + p)
        shutil.copytree(TOP + "/models/tiny", m.root + "/usr/share/hearth/models/tiny")
        for u in ("hearth-router.service", "hearth-worker@.service", "hearthd.service", "hearth.slice",
                  "hearth-router.socket"):
            self.unit(u)
        os.makedirs(m.root + "/usr/lib/sysusers.d", exist_ok=True)
        shutil.copy(TOP + "/etc/sysusers.d/hearth.conf", m.root + "/usr/lib/sysusers.d/hearth.conf")
        m.write("/etc/hearth/hearthd.conf", HEARTHD)
        m.write("/etc/hearth/worker.conf", "[worker]\nconnect = ipc:///run/hearth/bus\n")
        m.write("/etc/hearth/keys", "rack rack-client-key-0123456789 admin\n")
        m.write("/etc/hearth/hearth.conf", "[http]\nlisten = 10.77.0.9:8080 127.0.0.1:8080\nkeys_file = /etc/hearth/keys\n")
        m.write("/etc/systemd/system/hearth-router.socket.d/listen.conf",
                "[Socket]\nListenStream=\nListenStream=10.77.0.9:8080\nListenStream=127.0.0.1:8080\nFreeBind=yes\n")
        m.boot(120)
        self.client = Client("10.77.0.9", key="rack-client-key-0123456789")
        m.run("systemd-sysusers && systemctl daemon-reload && systemctl start hearth-router.socket hearth-router hearthd")
        wait_for(self.models, 30, "the box is connected")

    def unit(self, name):
        """As `make` writes it, for /usr and /etc."""
        to = self.m.root + "/lib/systemd/system/" + name
        if os.path.exists("%s/etc/systemd/%s" % (TOP, name)):
            shutil.copy("%s/etc/systemd/%s" % (TOP, name), to)
            return
        with open("%s/etc/systemd/%s.in" % (TOP, name)) as f:
            text = f.read()
        for k, v in (("bindir", "/usr/bin"), ("sysconfdir", "/etc"), ("libexecdir", "/usr/libexec"),
                     ("router_type", "notify"), ("exec_reload_signal", "ExecReload=/bin/kill -HUP $MAINPID")):
            text = text.replace("@%s@" % k, v)
        with open(to, "w") as f:
            f.write(text)

    def models(self):
        status, data = self.client.get("/admin/status")
        for b in json.loads(data)["boxes"]:
            return {x["alias"]: x for x in b["models"]}
        return {}

    def state(self, alias):
        return self.models()[alias]["state"]

    def wait_state(self, alias, state, seconds=60):
        try:
            wait_for(lambda: self.state(alias) == state, seconds, state)
        except AssertionError:
            raise AssertionError("%s is %s, not %s" % (alias, self.models().get(alias), state))

    def ask(self, alias):
        c, r = self.client.request("POST", "/v1/chat/completions", {
            "model": alias, "max_tokens": 5, "messages": [{"role": "user", "content": "What is 2+2?"}]})
        data = r.read()
        c.close()
        return r.status, json.loads(data)


def scenario_a_request_starts_a_unit(b):
    assert b.m.show("hearth-worker@a", "ActiveState") == "inactive"
    status, d = b.ask("a")
    assert status == 200, (status, d, b.m.journal("hearthd"), b.m.journal("hearth-worker@a"))
    assert b.m.show("hearth-worker@a", "ActiveState") == "active"
    assert b.models()["a"]["pid"] == b.m.pid("hearth-worker@a")
    return b.m.show("hearthd", "StatusText")


def scenario_another_takes_its_place(b):
    assert b.ask("b")[0] == 200
    assert b.m.show("hearth-worker@a", "ActiveState") == "inactive", b.m.journal("hearthd")
    assert b.m.show("hearth-worker@b", "ActiveState") == "active"


def scenario_hearthd_is_killed_and_finds_its_units(b):
    pid = b.m.pid("hearth-worker@b")
    b.m.run("systemctl kill -s KILL hearthd")
    assert b.ask("b")[0] == 200
    wait_for(lambda: b.models().get("b", {}).get("state") == "ready", 30, "hearthd is back and knows b")
    assert b.models()["b"]["pid"] == pid == b.m.pid("hearth-worker@b")


def scenario_hearthd_is_restarted_and_its_units_go_on(b):
    pid = b.m.pid("hearth-worker@b")
    b.m.run("systemctl restart hearthd")
    wait_for(lambda: b.models().get("b", {}).get("state") == "ready", 30, "hearthd is back and knows b")
    assert pid == b.m.pid("hearth-worker@b")


def scenario_a_person_stops_the_unit(b):
    b.m.run("systemctl stop hearth-worker@b")
    b.wait_state("b", "unloaded")
    assert b.ask("b")[0] == 200


def scenario_a_crash_loop_is_hearthds_to_judge(b):
    for i in range(3):
        b.wait_state("b", "ready")
        b.m.run("systemctl kill -s KILL hearth-worker@b")
        wait_for(lambda: b.models()["b"]["failures"] == i + 1, 30, "failure %d is counted" % (i + 1))
    b.wait_state("b", "quarantined")
    time.sleep(4)                       # longer than RestartSec=: systemd's own restart was called off
    assert b.m.show("hearth-worker@b", "ActiveState") in ("failed", "inactive")
    status, d = b.ask("b")
    assert status == 503 and "quarantined" in d["error"]["message"], d
    b.m.run("hearthctl -k /dev/stdin load b -w <<E\nrack-client-key-0123456789\nE")
    assert b.ask("b")[0] == 200
    assert "MESSAGE_ID" in b.m.run("journalctl -o verbose -u hearthd MESSAGE_ID=1c7f7d5ee9fa4017aca258c3eac0d9bc").stdout


def scenario_drain_keeps_it_out(b):
    b.m.run("hearthctl drain b")
    b.wait_state("b", "unloaded")
    assert b.ask("b")[0] == 503
    b.m.run("hearthctl undrain b")
    assert b.ask("b")[0] == 200


def main():
    b, bad = None, 0
    try:
        need()
        b = Booted()
        for name, fn in list(globals().items()):
            if not name.startswith("scenario_") or (sys.argv[1:] and name[9:] not in sys.argv[1:]):
                continue
            start = time.monotonic()
            try:
                note = fn(b)
                print("ok      %s (%.1f s)%s" % (name[9:], time.monotonic() - start, ": " + note if note else ""), flush=True)
            except Exception:
                bad += 1
                print("FAILED  %s\n%s\n%s" % (name[9:], traceback.format_exc(), b.m.journal("hearthd", 40)), flush=True)
    except Absent as e:
        print("skipped: %s" % e)
        return 77
    finally:
        if b:
            b.m.stop()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""ctl_doctor.py - hearthctl doctor: each thing that can be wrong is made wrong, found, and named.

    top_builddir=build python3 tests/box/ctl_doctor.py
"""
import contextlib
import http.server
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time

from box import BUILD, Cloud, Router, main, wait_for


def run(url, *args):
    p = subprocess.run([BUILD + "/bin/hearthctl", "--url", url, *args, "doctor"],
                       capture_output=True, text=True, timeout=30)
    return p.returncode, p.stdout, p.stderr


def findings(url, *args, level="act"):
    code, out, err = run(url, "--json", *args)
    v = json.loads(out)
    assert code == (1 if any(x["level"] == "act" for x in v) else 0), (code, v)
    for x in v:
        assert x["level"] in ("ok", "note", "act") and x["text"], x
        assert x["level"] != "act" or x["do"], x    # every finding says what to do
    return [x for x in v if x["level"] == level]


def has(list, area, text):
    return any(x["area"] == area and text in x["text"] for x in list)


@contextlib.contextmanager
def tree(available=8000000, **files):
    """A /proc and /sys of our own, and an empty configuration."""
    d = tempfile.mkdtemp(prefix="hearth-doctor-")
    files = {"proc/meminfo": "MemTotal: 16000000 kB\nMemFree: 4000000 kB\nMemAvailable: %d kB\n"
             "SwapTotal: 0 kB\nSwapFree: 0 kB\n" % available,
             "proc/pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
             "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", "etc/hearth.conf": "", **files}
    for name, text in files.items():
        os.makedirs(os.path.dirname(d + "/" + name), exist_ok=True)
        with open(d + "/" + name, "w") as f:
            f.write(text)
    try:
        yield d
    finally:
        shutil.rmtree(d)


def here(d):
    return "--root", d, "--etc", d + "/etc"


def not_clock(list):
    return [x for x in list if x["area"] != "clock"]    # a container's clock is its host's matter


def test_a_healthy_one_has_nothing_to_do():
    with tree() as d, Router() as r:
        r.worker()
        assert not_clock(findings(r.url, *here(d))) == []
        ok = findings(r.url, *here(d), level="ok")
        assert {"box", "driver", "memory", "network", "configuration"} <= {x["area"] for x in ok}, ok
        assert any(x["area"] == "clock" for level in ("ok", "note", "act")
                   for x in findings(r.url, *here(d), level=level))
        code, out, err = run(r.url, *here(d))
        assert "1 workers" in out and "\x1b" not in out and ("nothing to do" in out or "clock" in out), out


def test_memory_and_driver():
    with Router() as r:
        with tree(available=500000) as d:
            assert has(findings(r.url, *here(d)), "memory", "only 488 MiB of 15.3 GiB"), findings(r.url, *here(d))
        with tree(**{"proc/pressure/memory": "some avg10=90.00 avg60=0.00 avg300=0.00 total=0\n"
                     "full avg10=40.00 avg60=0.00 avg300=0.00 total=0\n"}) as d:
            assert has(findings(r.url, *here(d)), "memory", "40 % of the last 10 s")
        pci = {"sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
               "sys/bus/pci/devices/0000:01:00.0/class": "0x030200\n"}
        with tree(**pci) as d:
            assert has(findings(r.url, *here(d)), "driver", "1 GPU of NVIDIA, and no driver")
        version = {"proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module  580.95.05  Release\n"}
        with tree(**pci, **version) as d:
            assert has(findings(r.url, *here(d)), "driver", "no /dev/nvidia0")
        with tree(**pci, **version, **{"dev/nvidia0": ""}) as d:
            assert has(findings(r.url, *here(d), level="ok"), "driver", "1 GPU, driver 580.95.05")
        with tree() as d:
            assert has(findings(r.url, *here(d), "--hearthd", d + "/none"), "memory", "hearthd at")


def test_configuration_and_secrets():
    with tempfile.TemporaryDirectory() as k:
        keys = k + "/keys"
        with open(keys, "w") as f:
            f.write("anna 12345678\n")
        os.chmod(keys, 0o640)
        with tree(**{"etc/hearthd.conf": "[box]\nmax_models = many\n", "etc/curve-secret": "x\n"}) as d, \
                Router("[http]\nkeys_file = %s\n" % keys) as r:
            os.chmod(d + "/etc/curve-secret", 0o600)
            act = findings(r.url, *here(d))
            assert has(act, "configuration", "/etc/hearthd.conf:2: "), act
            assert not has(act, "configuration", "secret")
            os.chmod(keys, 0o644)
            os.chmod(d + "/etc/curve-secret", 0o604)
            act = findings(r.url, *here(d))
            assert has(act, "configuration", keys + " holds a secret"), act
            assert has(act, "configuration", "curve-secret holds a secret"), act
            r.write_conf("[http]\nkeys_file = %s\n[route]\ngrace_ms = 1\n" % keys)
            assert has(findings(r.url, *here(d), level="note"), "configuration", "does not run with")
            r.write_conf("[route]\ngrace_ms = x\n")
            act = findings(r.url, *here(d))
            assert has(act, "configuration", r.conf + ":2: "), act


def test_network_and_models():
    with tree() as d:
        act = findings("http://127.0.0.1:9", *here(d))
        assert has(act, "network", "the router at http://127.0.0.1:9"), act
        with contextlib.closing(Cloud()) as cloud:
            cloud.mode = "500"
            conf = ("[route]\nbreaker_failures = 1\nbreaker_ms = 60000\n[alias a]\nchain = worker:gone\n"
                    "[alias b]\nchain = upstream:c\n[upstream c]\nurl = %s\n" % cloud.url)
            with Router(conf) as r:
                act = findings(r.url, *here(d))
                assert has(act, "models", "alias a") and not has(act, "models", "alias b"), act
                assert not has(act, "network", "upstream c")
                r.chat("x", model="b")
                act = findings(r.url, *here(d))
                assert has(act, "network", "upstream c") and has(act, "network", cloud.url), act


class Fake(http.server.BaseHTTPRequestHandler):
    status = {}

    def log_message(self, *a):
        pass

    def do_GET(self):
        body = json.dumps(self.status).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_clocks_boxes_and_quarantine():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fake)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = "http://127.0.0.1:%d" % server.server_port
    try:
        with tree() as d:
            Fake.status = {"time": time.time() + 3600, "boxes": [
                {"name": "b1", "heard_ms": 20000, "models": [
                    {"alias": "big", "state": "quarantined", "reason": "status 78"}]}]}
            act = findings(url, *here(d))
            assert has(act, "clock", "s ahead of this one") and any(
                " 3599." in x["text"] or " 3600." in x["text"] for x in act
            ), act
            assert has(act, "network", "box b1 has been silent for 20000 ms"), act
            assert has(act, "models", "big on box b1 is in quarantined: status 78"), act
            Fake.status = {"time": time.time()}
            assert not has(findings(url, *here(d)), "clock", "the router's clock")
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    main(dict(globals()))

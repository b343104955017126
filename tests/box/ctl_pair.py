#!/usr/bin/env python3
"""ctl_pair.py - hearthctl pair: a box joins a router with one command on each side, over real CURVE.

    top_builddir=build python3 tests/box/ctl_pair.py
"""
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time

from box import BUILD, Router, main, wait_for

QUIET = "[memory]\ndrop_caches = never\njudge = available\nreserve_mib = 64\nyellow_mib = 48\nred_mib = 32\n" \
    "yellow_pressure = 0\nred_pressure = 0\n"


def ctl(url, *args, text=None):
    p = subprocess.run([BUILD + "/bin/hearthctl", "--url", url, *args], input=text,
                       capture_output=True, text=True, timeout=30)
    return p.returncode, p.stdout, p.stderr


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Hearthd:
    def __init__(self, etc):
        self.etc = etc
        with open(etc + "/hearthd.conf", "w") as f:
            f.write("[box]\nlauncher = spawn\nrun_dir = %s\n%s" % (etc, QUIET))
        self.log = open(etc + "/log", "w")
        self.proc = subprocess.Popen([BUILD + "/bin/hearthd", "-c", etc + "/hearthd.conf"],
                                     stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def stop(self):
        self.proc.send_signal(signal.SIGTERM)
        code = self.proc.wait(20)
        self.log.close()
        assert code == 0, open(self.etc + "/log").read()


def boxes(r):
    return {b["name"] for b in r.status()["boxes"]}


def test_a_box_joins_with_one_command_on_each_side():
    d = tempfile.mkdtemp(prefix="hearth-pair-")
    bus = "tcp://127.0.0.1:%d" % free_port()
    os.makedirs(d + "/r"), os.makedirs(d + "/b"), os.makedirs(d + "/c")
    daemons = []
    try:
        # before there is a router: its keys and its drop-in are made
        code, word, err = ctl("http://127.0.0.1:9", "--etc", d + "/r", "--bus", bus, "pair", "invite", "b2")
        assert code == 0 and word.startswith("hearth1") and word.strip().isalnum(), (code, word, err)
        assert "systemctl restart hearth-router" in err
        for name in ("curve", "curve-allow"):
            assert stat.S_IMODE(os.stat(d + "/r/" + name).st_mode) == 0o640
        secret = open(d + "/r/curve").read().split()[1]
        drop_in = open(d + "/r/hearth.conf.d/pair.conf").read()
        assert "tcp://*:%s" % bus.split(":")[-1] in drop_in and secret not in drop_in, drop_in
        open(d + "/r/hearth.conf", "w").close()
        assert ctl("http://127.0.0.1:9", "--etc", d + "/r", "config", "check")[0] == 0

        conf = "".join(x + "\n" for x in drop_in.splitlines() if not x.startswith("listen"))
        with Router(conf, options=["bus.listen=" + bus]) as r:
            # a stranger with keys of his own does not come in; neither does a word that was cut
            code, out, err = ctl(r.url, "--etc", d + "/b", "pair", "join", word[:-9])
            assert code == 64 and "not whole" in err and not os.path.exists(d + "/b/curve-secret"), err
            code, out, err = ctl(r.url, "--etc", d + "/b", "pair", "join", text=word)
            assert code == 0 and "joined" in out, (code, out, err)
            assert stat.S_IMODE(os.stat(d + "/b/curve-secret").st_mode) == 0o640
            # both sides show the same two fingerprints
            code, rows, err = ctl(r.url, "--json", "pair", "list")
            rows = json.loads(rows)
            assert code == 0 and [x["name"] for x in rows] == ["b2"] and rows[0]["fingerprint"] in out, rows
            assert len(rows[0]["fingerprint"].split()) == 8
            for f in ("hearthd.conf.d", "worker.conf.d"):
                text = open(d + "/b/" + f + "/pair.conf").read()
                assert rows[0]["key"] in text and "curve-secret\n" in text
            daemons.append(Hearthd(d + "/b"))
            wait_for(lambda: boxes(r) == {"b2"})

            # another one, with the router running: no restart, the first one stays connected
            heard = r.status()["boxes"][0]["up_s"]
            code, word2, err = ctl(r.url, "--json", "--bus", bus, "pair", "invite", "b3")
            v = json.loads(word2)
            assert code == 0 and v["box"] == "b3" and "restart" not in err, (code, err)
            code, out, err = ctl(r.url, "--etc", d + "/c", "--json", "pair", "join", v["invitation"])
            assert code == 0 and json.loads(out)["box_fingerprint"] == v["box_fingerprint"], (code, out, err)
            daemons.append(Hearthd(d + "/c"))
            wait_for(lambda: boxes(r) == {"b2", "b3"})
            assert r.status()["boxes"][0]["up_s"] >= heard

            code, out, err = ctl(r.url, "--bus", bus, "pair", "invite", "b3")
            assert code == 64 and "there is a box 'b3'" in err, err
            # who was removed does not come in again
            code, out, err = ctl(r.url, "pair", "remove", "b3")
            assert code == 0 and "cut off" in out, (out, err)
            assert wait_for(lambda: boxes(r) == {"b2"}, 1)
            time.sleep(4)   # hearthd there finds the silence and tries again: in vain
            assert boxes(r) == {"b2"} and daemons[-1].proc.poll() is None
            daemons.pop().stop()
            code, out, err = ctl(r.url, "--etc", d + "/c", "pair", "join", v["invitation"])
            assert code == 69 and "did not let this box in" in err, (code, out, err)
            assert boxes(r) == {"b2"}
            assert ctl(r.url, "pair", "remove", "b3")[0] == 66
            assert secret not in r.log_text() and word.strip() not in r.log_text()
    finally:
        for x in daemons:
            x.stop()
        shutil.rmtree(d, ignore_errors=True)


def test_a_box_of_this_machine_needs_no_key_beside_one_that_does():
    d = tempfile.mkdtemp(prefix="hearth-pair-")
    bus = "tcp://127.0.0.1:%d" % free_port()
    daemons = []
    try:
        code, word, err = ctl("http://127.0.0.1:9", "--etc", d, "--bus", bus, "pair", "invite", "far")
        assert code == 0 and "needs none" in err, (code, err)
        conf = "[bus]\ncurve_file = %s/curve\ncurve_allow_file = %s/curve-allow\n" % (d, d)
        with Router(conf, options=["bus.listen=%s ipc://%s/bus" % (bus, d)]) as r:
            r.bus = "ipc://%s/bus" % d
            assert stat.S_IMODE(os.stat(d + "/bus").st_mode) == 0o660
            r.worker()                          # a mock worker has no keys
            os.makedirs(d + "/near/hearthd.conf.d"), os.makedirs(d + "/far"), os.makedirs(d + "/no/hearthd.conf.d")
            for name, at in (("near", r.bus), ("no", bus)):
                with open("%s/%s/hearthd.conf.d/box.conf" % (d, name), "w") as f:
                    f.write("[box]\nname = %s\nrouter = %s\n" % (name, at))
            assert ctl(r.url, "--etc", d + "/far", "pair", "join", text=word)[0] == 0
            daemons += [Hearthd(d + "/" + name) for name in ("near", "far", "no")]
            wait_for(lambda: boxes(r) == {"near", "far"})
            assert ctl(r.url, "pair", "remove", "far")[0] == 0
            wait_for(lambda: boxes(r) == {"near"}, 1)
            time.sleep(1)
            assert boxes(r) == {"near"} and r.chat("tokens=3")[0] == 200
    finally:
        for x in daemons:
            x.stop()
        shutil.rmtree(d, ignore_errors=True)


def test_a_wrong_line_in_the_list_is_named_and_changes_nothing():
    d = tempfile.mkdtemp(prefix="hearth-pair-")
    bus = "tcp://127.0.0.1:%d" % free_port()
    try:
        code, word, err = ctl("http://127.0.0.1:9", "--etc", d, "--bus", bus, "pair", "invite", "b2")
        conf = "[bus]\ncurve_file = %s/curve\ncurve_allow_file = %s/curve-allow\n" % (d, d)
        with Router(conf, options=["bus.listen=" + bus]) as r:
            with open(d + "/curve-allow", "a") as f:
                f.write("\n# a note of 40 characters, no key at all\n#" + "x" * 39 + " # may begin with #\nshort # oops\n")
            code, out, err = ctl(r.url, "config", "reload")
            assert code == 78 and "curve-allow:5: not a public key" in err, (code, err)
            text = open(d + "/curve-allow").read().replace("short # oops\n", "")
            with open(d + "/curve-allow", "w") as f:
                f.write(text)
            code, out, err = ctl(r.url, "config", "reload")
            assert code == 0, err
            assert json.loads(ctl(r.url, "--json", "config", "show")[1])["boxes"] == 2
    finally:
        shutil.rmtree(d, ignore_errors=True)


def test_usage():
    code, out, err = ctl("http://127.0.0.1:9", "--etc", "/nonexistent", "--bus", "ipc:///run/hearth/bus",
                         "pair", "invite", "me")
    assert code == 64 and "needs no invitation" in err, (code, err)
    for args in (["pair", "invite", "b2"], ["--bus", "http://x:1", "pair", "invite", "b2"],
                 ["--bus", "tcp://x:1", "pair", "invite", "a b"], ["pair", "join", "nonsense"]):
        code, out, err = ctl("http://127.0.0.1:9", "--etc", "/nonexistent", *args)
        assert code == 64, (args, code, err)


if __name__ == "__main__":
    main(dict(globals()))

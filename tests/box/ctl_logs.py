#!/usr/bin/env python3
"""ctl_logs.py - hearthctl logs: what was written about a request, from journals, plain files, other boxes.

    top_builddir=build python3 tests/box/ctl_logs.py

Journals are made with systemd-journal-remote; where it is not installed those parts are skipped.
"""
import json
import os
import shutil
import subprocess
import tempfile

from box import BUILD, Router, Skip, main

REMOTE = "/lib/systemd/systemd-journal-remote"
OTHER = "req-ffffffffffffffff00000001"


def ctl(r, *args, env={}):
    p = subprocess.run([BUILD + "/bin/hearthctl", "--url", r.url, *args], capture_output=True, text=True,
                       timeout=20, env={**os.environ, **env})
    return p.returncode, p.stdout, p.stderr


def write_journal(path, host, entries):
    if not os.path.exists(REMOTE):
        raise Skip("no systemd-journal-remote")
    text = ""
    for i, (t, fields) in enumerate(entries):
        text += (
            "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=%032x\n_MACHINE_ID=%032x\n_HOSTNAME=%s\n"
            % (int(t * 1e6), 1000 + i, 7, 9, host)
        )
        text += "".join("%s=%s\n" % kv for kv in fields.items()) + "\n"
    p = subprocess.run([REMOTE, "-o", path, "-"], input=text, capture_output=True, text=True, timeout=30)
    assert p.returncode == 0, p.stderr


def entries(id, began, **more):
    """Around a request that began then: its own, its worker's, its alias's, and what is no matter of it."""
    return [
        (began - 60, {"MESSAGE": "an old tale of w1", "WORKER": "w1", "PRIORITY": "4"}),
        (
            began + 0.001,
            {"MESSAGE": "model tiny was loaded", "ALIAS": "tiny", "PRIORITY": "5", "_SYSTEMD_UNIT": "hearthd.service"},
        ),
        (
            began + 0.002,
            {
                "MESSAGE": "worker w1 coughed",
                "WORKER": "w1",
                "PRIORITY": "4",
                "_SYSTEMD_UNIT": "hearth-worker@tiny.service",
            },
        ),
        (began + 0.003, {"MESSAGE": "request %s ended" % id, "REQUEST_ID": id, "ALIAS": "tiny", "PRIORITY": "5"}),
        (began + 0.004, {"MESSAGE": "request of another ended", "REQUEST_ID": OTHER, "ALIAS": "tiny", "PRIORITY": "5"}),
        (began + 0.005, {"MESSAGE": "w2 has nothing to do with it", "WORKER": "w2", "PRIORITY": "5"}),
        (began + 60, {"MESSAGE": "a later tale of w1", "WORKER": "w1", "PRIORITY": "4"}),
    ]


def asked(r):
    id = r.chat("tokens=2")[1]["x-request-id"]
    return id, json.loads(ctl(r, "--json", "explain", id)[1])["began"]


def test_a_journal_gives_what_belongs_to_the_request():
    with Router() as r, tempfile.TemporaryDirectory() as d:
        r.worker("w1")
        id, began = asked(r)
        write_journal(d + "/a.journal", "router1", entries(id, began))
        for where in (d + "/a.journal", d):
            code, out, err = ctl(r, "--json", "--log", where, "logs", id)
            got = [x["message"] for x in json.loads(out)]
            assert code == 0 and got == ["model tiny was loaded", "worker w1 coughed", "request %s ended" % id], (
                got,
                err,
            )
        code, out, err = ctl(r, "--log", d + "/a.journal", "logs", id)
        assert "router1 hearth-worker@tiny.service: worker w1 coughed" in out and "\x1b" not in out, out
        # the answer's id is the request's
        assert ctl(r, "--log", d + "/a.journal", "logs", "chatcmpl-" + id[4:])[1] == out
        # of a request that the router does not know, what names it
        code, out, err = ctl(r, "--log", d + "/a.journal", "logs", OTHER)
        assert code == 0 and out.count("\n") == 1 and "of another" in out and "nothing is known" in err, (out, err)


def test_several_boxes_by_time():
    with Router() as r, tempfile.TemporaryDirectory() as d:
        r.worker("w1")
        id, began = asked(r)
        write_journal(d + "/a.journal", "router1", [(began + 0.5, {"MESSAGE": "second", "REQUEST_ID": id})])
        write_journal(d + "/b.journal", "box1", [(began + 0.1, {"MESSAGE": "first", "WORKER": "w1"})])
        # a box over ssh: its journalctl is asked for just this
        with open(d + "/ssh", "w") as f:
            f.write("#!/bin/sh\nprintf '%%s\\n' \"$@\" >%s/asked\nshift 2\n" % d +
                    "case $1 in journalctl) ;; *) exit 9 ;; esac\n"
                    "printf '%%s\\n' '%s' 'not json' '%s'\n" % (
                        json.dumps({"__REALTIME_TIMESTAMP": str(int((began + 0.3) * 1e6)), "MESSAGE": "between",
                                    "WORKER": "w1", "_HOSTNAME": "box2", "PRIORITY": "4"}),
                        json.dumps({"__REALTIME_TIMESTAMP": str(int((began + 0.3) * 1e6)), "MESSAGE": "of another",
                                    "REQUEST_ID": OTHER, "ALIAS": "tiny"})))
        os.chmod(d + "/ssh", 0o755)
        code, out, err = ctl(r, "--json", "--log", d + "/a.journal", "--log", d + "/b.journal", "--on", "box2",
                             "logs", id, env={"PATH": d + ":" + os.environ["PATH"]})
        v = json.loads(out)
        assert code == 0 and [(x["host"], x["message"]) for x in v] == [
            ("box1", "first"), ("box2", "between"), ("router1", "second")], (v, err)
        words = open(d + "/asked").read().split("\n")
        assert "REQUEST_ID=" + id in words and "WORKER=w1" in words and "ALIAS=tiny" in words and "box2" in words
        for bad in ("-oProxyCommand=x", "a;b"):
            code, out, err = ctl(r, "--log", d + "/a.journal", "--on", bad, "logs", id)
            assert code == 64 and "not the name of a machine" in err, (code, err)
        with open(d + "/ssh", "w") as f:
            f.write("#!/bin/sh\necho no route to host >&2\nexit 255\n")
        code, out, err = ctl(r, "--on", "box2", "--log", d + "/a.journal", "logs", id,
                             env={"PATH": d + ":" + os.environ["PATH"]})
        assert code == 69 and "no route to host" in err, (code, err)


def test_a_plain_file():
    with Router() as r:
        r.worker("w1")
        id, began = asked(r)
        log = r.dir + "/router.log"
        code, out, err = ctl(r, "--log", log, "logs", id)
        assert code == 0 and "request %s peer=" % id in out and out.count("\n") == 1, (code, out, err)
        with open(r.dir + "/evil", "w") as f:
            f.write("\x1b[2Jrequest %s\n" % id)
        assert "\x1b" not in ctl(r, "--log", r.dir + "/evil", "logs", id)[1]
        code, out, err = ctl(r, "--log", log, "logs", "req-0000")
        assert code == 66 and "nothing was written" in err
        assert ctl(r, "--log", "/nonexistent", "logs", id)[0] == 69
        assert ctl(r, "logs", "a/b")[0] == 64


if __name__ == "__main__":
    main(dict(globals()))

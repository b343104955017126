#!/usr/bin/env python3
"""ctl_config.py - hearthctl config and keys, over a running router with a stream under way.

    top_builddir=build python3 tests/box/ctl_config.py
"""
import json
import os
import stat
import subprocess
import tempfile

from box import BUILD, Router, content_of, main, read_until


def ctl(r, *args):
    p = subprocess.run([BUILD + "/bin/hearthctl", "--url", r.url if r else "http://127.0.0.1:9", *args],
                       capture_output=True, text=True, timeout=20)
    return p.returncode, p.stdout, p.stderr


def alias(chain):
    return "[alias a]\nchain = %s\n[upstream c]\nurl = http://127.0.0.1:9/v1\n" % chain


def test_diff_says_what_the_file_would_change_and_reload_does_it():
    with Router(alias("worker:tiny")) as r:
        assert ctl(r, "config", "diff") == (
            0, "no difference: the router runs with what the files say\n", "")
        r.write_conf(alias("worker:tiny upstream:c") + "[route]\ngrace_ms = 5\n[bus]\nbeat_ms = 900\n")
        code, out, err = ctl(r, "config", "diff")
        assert code == 1, (code, out, err)
        rows = [line.split() for line in out.splitlines()]
        assert ["route.grace_ms", "8000", "5", "reload"] in rows, out
        assert ["bus.beat_ms", "1000", "900", "restart"] in rows, out
        assert "worker:tiny upstream:c" in out, out
        d = json.loads(ctl(r, "--json", "config", "diff")[1])
        assert {(x["section"], x["name"], x["key"]) for x in d["changes"]} == {
            ("alias", "a", "chain"), ("route", None, "grace_ms"), ("bus", None, "beat_ms")}, d
        code, out, err = ctl(r, "config", "reload")
        assert code == 0 and "configuration 2" in out and "bus.beat_ms needs a restart" in out, out
        shown = {(x["section"], x["key"]): x for x in
                 json.loads(ctl(r, "--json", "config", "show")[1])["values"]}
        assert shown["route", "grace_ms"]["value"] == "5", shown
        assert shown["route", "grace_ms"]["default"] is False
        assert shown["alias", "chain"]["value"] == "worker:tiny upstream:c"


def test_a_bad_file_names_its_line_and_changes_nothing_under_a_stream():
    with Router(alias("worker:tiny")) as r:
        r.worker()
        s = r.stream("tokens=40 delay=20")
        head = read_until(s, b"t3 ")
        r.write_conf(alias("worker:tiny") + "[route]\ngrace_ms = many\n")
        for verb in ("diff", "reload"):
            code, out, err = ctl(r, "config", verb)
            assert code == 78 and r.conf + ":6: " in err and "grace_ms" in err, (code, out, err)
        code, out, err = ctl(r, "config", "check", r.conf)
        assert code == 78 and out.startswith(r.conf + ": " + r.conf + ":6:"), (code, out, err)
        v = json.loads(ctl(r, "--json", "config", "show")[1])
        assert v["generation"] == 1
        r.write_conf(alias("worker:tiny") + "[route]\ngrace_ms = 77\n")
        assert ctl(r, "config", "check", r.conf)[0] == 0
        assert ctl(r, "config", "reload")[0] == 0
        text, done, error = content_of(head + read_until(s, b"0\r\n\r\n"))
        assert done and not error and text == "".join("t%d " % i for i in range(40)), (text, error)
        s.close()


def test_keys_come_and_go_under_a_stream():
    with tempfile.TemporaryDirectory() as d:
        path = d + "/keys"
        with open(path, "w") as f:
            f.write("# who may ask\n\nfirst 12345678\n")
        os.chmod(path, 0o640)
        with Router("[http]\nkeys_file = %s\n" % path) as r:
            kf = d + "/mine"
            with open(kf, "w") as f:
                f.write("12345678\n")
            r.worker()

            def status(key):
                return r.get("/v1/models", headers={"Authorization": "Bearer " + key})[0]

            s = r.connect()
            body = b'{"model":"tiny","stream":true,"messages":[{"role":"user","content":"tokens=60 delay=20"}]}'
            s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer 12345678\r\n"
                      b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            head = read_until(s, b"t3 ")
            code, key, err = ctl(r, "keys", "add", "anna")
            key = key.strip()
            assert code == 0 and key.startswith("hk-") and len(key) == 46, (code, key, err)
            assert status(key) == 200 and status(key[:-1] + "!") == 401
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
            text = open(path).read()
            assert text.startswith("# who may ask\n\nfirst 12345678\nanna hk-"), text
            code, out, err = ctl(r, "keys", "list")
            assert code == 0 and "anna" in out and "first" in out and key not in out and "12345678" not in out
            assert [x["name"] for x in json.loads(ctl(r, "--json", "keys", "list")[1])] == ["first", "anna"]
            assert key not in ctl(r, "--json", "keys", "list")[1]
            code, out, err = ctl(r, "keys", "add", "anna")
            assert code == 64 and "there is a key 'anna'" in err and open(path).read() == text
            assert ctl(r, "keys", "add", "a b")[0] == 64
            # the key of the running stream goes; the stream does not
            code, out, err = ctl(r, "keys", "remove", "first")
            assert code == 0, (code, out, err)
            assert status("12345678") == 401 and status(key) == 200
            code, out, err = ctl(r, "keys", "remove", "anna")
            assert code == 69 and "the last key" in err and status(key) == 200, (code, err)
            code, out, err = ctl(r, "keys", "remove", "nobody")
            assert code == 66 and "no key 'nobody'" in err
            text, done, error = content_of(head + read_until(s, b"0\r\n\r\n"))
            assert done and not error and text == "".join("t%d " % i for i in range(60)), (text, error)
            s.close()
            # changed behind hearthctl's back: diff names it, and shows no secret
            with open(path, "a") as f:
                f.write("carl abcdefgh\n")
            code, out, err = ctl(r, "config", "diff")
            assert code == 1 and "key added: carl" in out and "abcdefgh" not in out, out
            with open(path, "a") as f:
                f.write("\nshort x\n")
            code, out, err = ctl(r, "config", "reload")
            assert code == 78 and path + ":6: " in err, err
            assert key not in r.log_text()


def test_keys_without_a_router_and_without_a_file():
    with tempfile.TemporaryDirectory() as d:
        code, key, err = ctl(None, "--etc", d, "keys", "add", "anna")
        assert code == 0 and key.startswith("hk-") and "no router" in err, (code, err)
        assert stat.S_IMODE(os.stat(d + "/keys").st_mode) == 0o640
        assert open(d + "/keys").read() == "anna " + key
        # the file that another machine's router names is not this machine's
        p = subprocess.run([BUILD + "/bin/hearthctl", "--url", "http://192.0.2.1:1", "--etc", d, "keys", "add", "x"],
                           capture_output=True, text=True, timeout=5)
        assert p.returncode == 64 and "on the router's machine" in p.stderr, p.stderr
    # one that the configuration names and that is not there: the same for whoever reads it
    with tempfile.TemporaryDirectory() as d:
        path = d + "/keys"
        with open(path, "w") as f:
            f.write("first 12345678\n")
        with Router("[http]\nkeys_file = %s\n" % path) as r:
            os.unlink(path)
            for verb in (("keys", "list"), ("keys", "remove", "first"), ("config", "diff"), ("config", "reload"),
                         ("keys", "--keys-file", d + "/none/keys", "add", "x")):
                code, out, err = ctl(r, *verb)
                assert code == 78 and "/keys: No such file or directory (" in err, (verb, code, err)
            p = subprocess.run([BUILD + "/bin/hearth-router", "-c", r.conf], capture_output=True, text=True, timeout=20)
            assert p.returncode == 78 and path + ": No such file or directory (http.keys_file)" in p.stderr, p
            assert ctl(r, "keys", "add", "anna")[0] == 0 and ctl(r, "keys", "list")[0] == 0  # add begins it
    with Router() as r:
        code, out, err = ctl(r, "keys", "list")
        assert code == 78 and "keys_file" in err, (code, err)


def test_config_check_of_a_folder_asks_each_program():
    with tempfile.TemporaryDirectory() as d:
        os.makedirs(d + "/worker.d")
        for name, text in (("hearth.conf", "[route]\ngrace_ms = 10\n"),
                           ("hearthd.conf", "[box]\nmax_models = 2\n"),
                           ("worker.d/x.conf", "[worker]\nslots = 4\n")):
            with open(d + "/" + name, "w") as f:
                f.write(text)
        code, out, err = ctl(None, "--etc", d, "config", "check")
        assert code == 0 and out.count(": ok\n") == 3, (code, out, err)
        for name, text in (("hearth.conf", "[route]\n\ngrace = 10\n"),
                           ("hearthd.conf", "[box]\nmax_models = two\n"),
                           ("worker.d/x.conf", "[worker]\nslots = 0\n"),
                           # a key twice in one file: neither is what was meant for certain
                           ("hearth.conf", "[route]\ngrace_ms = 10\n[log]\n[route]\ngrace_ms = 11\n"),
                           ("hearthd.conf", "[model a]\npath = /x\npath = /y\n"),
                           ("worker.d/x.conf", "[worker]\nslots = 4\nslots = 4\n")):
            good = open(d + "/" + name).read()
            with open(d + "/" + name, "w") as f:
                f.write(text)
            code, out, err = ctl(None, "--etc", d, "--json", "config", "check")
            bad = [x for x in json.loads(out) if not x["ok"]]
            assert code == 78 and len(bad) == 1 and bad[0]["file"] == d + "/" + name, (code, out)
            assert bad[0]["problem"].startswith("%s/%s:%d: " % (d, name, text.count("\n"))), bad
            with open(d + "/" + name, "w") as f:
                f.write(good)
        # of another file it is a drop-in's business
        os.makedirs(d + "/hearth.conf.d")
        with open(d + "/hearth.conf.d/own.conf", "w") as f:
            f.write("[route]\ngrace_ms = 12\n")
        assert ctl(None, "--etc", d, "config", "check")[0] == 0
        assert ctl(None, "--etc", d + "/none", "config", "check")[0] == 66


def test_a_page_in_a_browser_gets_none_of_it():
    with Router() as r:
        for path, method in (("/admin/config", "GET"), ("/admin/config/diff", "GET"),
                             ("/admin/reload", "POST")):
            s, h, d = r.get(path, method, {"Origin": "http://evil.example"}, b"{}" if method == "POST" else None)
            assert s == 403, (path, s)


if __name__ == "__main__":
    main(dict(globals()))

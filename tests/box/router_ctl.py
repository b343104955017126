#!/usr/bin/env python3
"""router_ctl.py - hearthctl, and the router's own options, as a person calls them.

    top_builddir=build python3 tests/box/router_ctl.py
"""
import json
import os
import subprocess
import tempfile

from box import BUILD, Router, main

SRC = os.path.abspath(os.environ.get("top_srcdir", "."))


def ctl(r, *args, text=None):
    p = subprocess.run(
        [BUILD + "/bin/hearthctl", "--url", r.url, *args],
        input=text,
        capture_output=True,
        text=True,
        timeout=20,
    )
    return p.returncode, p.stdout, p.stderr


def router(*args):
    p = subprocess.run(
        [BUILD + "/bin/hearth-router", *args], capture_output=True, text=True, timeout=20
    )
    return p.returncode, p.stdout, p.stderr


def test_status_shows_who_is_there():
    with Router(
        "[upstream c]\nurl = http://127.0.0.1:9/v1\n[alias a]\nchain = worker:tiny upstream:c\n"
    ) as r:
        assert "no worker is connected" in ctl(r, "status")[1]
        r.worker("w1")
        code, out, err = ctl(r, "status")
        assert (
            code == 0
            and "w1" in out
            and "0/512" in out
            and "alias a: worker tiny, then upstream c" in out
        ), out
        assert json.loads(ctl(r, "--json", "status")[1])["workers"][0]["name"] == "w1"


def test_chat_streams_and_remembers():
    with Router() as r:
        r.worker()
        code, out, err = ctl(r, "chat", "tokens=3 reason=1 tools=1")
        assert code == 0 and out == 't0 \n\nt1 t2 \n[call] f0 {"a":0}\n', (code, out, err)
        code, out, err = ctl(r, "chat", text="tokens=1\ntokens=2\n")
        assert out == "t0 \nt0 t1 \n", out
        code, out, err = ctl(r, "--json", "chat", "tokens=3 reason=1 tools=1")
        v = json.loads(out)
        assert v["content"] == "t1 t2 ", v
        assert v["reasoning"] == "t0 " and v["tool_calls"] == [{"name": "f0", "arguments": '{"a":0}'}], v
        assert v["served_by"] == "worker:w1" and v["output_tokens"] > 0, v
        assert json.loads(ctl(r, "--json", "explain", v["request_id"])[1])["status"] == 200
        code, out, err = ctl(r, "-m", "nope", "chat", "x")
        assert code == 69 and "there is no model 'nope' here" in err, (code, err)
        code, out, err = ctl(r, "chat", "tokens=5 fault=fail at=2")
        assert code == 69 and out.startswith("t0 t1 ") and "failed" in err, (code, out, err)


def test_usage_errors_and_no_router():
    with Router() as r:
        assert ctl(r, "frobnicate")[0] == 64
        assert ctl(r)[0] == 64
    assert ctl(r, "status")[0] == 69


def test_a_script_that_asked_for_json_gets_its_error_as_json():
    with Router() as r, tempfile.TemporaryDirectory() as d:
        r.worker()

        def fails(status, said, *args):
            code, out, err = ctl(r, *args)
            v = json.loads(out)["error"]
            assert code == v["exit_status"] == status, (code, v)
            assert said in v["message"] and v["message"] in err, (v, err)

        fails(64, "no such command", "--json", "frobnicate")
        fails(64, "usage: hearthctl load ALIAS", "--json", "load")
        fails(64, "wrong usage", "--json")
        fails(64, "wrong usage", "--bogus", "status", "--json")
        fails(64, "cannot read a key", "--key-file", d + "/none", "--json", "status")
        fails(66, "nothing is known", "--json", "explain", "req-0")
        fails(66, "nothing was written", "--json", "--log", d, "logs", "req-0")
        fails(69, "no model 'nope'", "--json", "-m", "nope", "chat", "x")
        fails(69, "failed", "--json", "chat", "tokens=5 fault=fail at=2")
        fails(69, "hearthd at", "--json", "--hearthd", d + "/none", "memory")
        fails(78, "No such file", "--json", "--keys-file", d + "/none", "keys", "remove", "x")
        fails(78, "no file of keys", "--json", "keys", "add", "x")
        assert ctl(r, "explain", "req-0")[1] == ""  # a person's stdout has the answer only
        # a file of keys that this router will not take: the key is shown, and that it is not in effect
        path = d + "/keys"
        with open(path, "w") as f:
            f.write("bad x\n")
        r.write_conf("[http]\nkeys_file = %s\n" % path)
        code, out, err = ctl(r, "--json", "--keys-file", path, "keys", "add", "anna")
        v = json.loads(out)
        assert code == v["error"]["exit_status"] == 78 and v["key"] in open(path).read(), (code, v)
        assert "not in effect" in v["error"]["message"] and v["error"]["message"] in err, (v, err)
        code, out, err = ctl(r, "--json", "--keys-file", path, "keys", "remove", "anna")
        assert code == json.loads(out)["error"]["exit_status"] == 78 and "anna" not in open(path).read(), (code, out)
    fails(69, "Failed to connect", "--json", "status")


def test_check_says_file_and_line():
    path = "/tmp/hearth-check-%d.conf" % os.getpid()
    os.mkfifo(path + ".fifo")
    for text, want in (
        ("[http]\nlisten = 127.0.0.1:65535 [::1]:0 localhost:80\n", None),
        ("[http]\nlisten = 127.0.0.1:65537\n", "http.listen: '127.0.0.1:65537' is not host:port with"),
        ("[http]\nlisten = [::1]:99999\n", "port of 0..65535"),
        ("[http]\nlisten = 127.0.0.1:80x\n", "port of 0..65535"),
        ("[http]\nlisten = 127.0.0.1:-1\n", "port of 0..65535"),
        ("[http]\nlisten = 127.0.0.1:\n", "port of 0..65535"),
        ("[http]\nlisten = 127.0.0.1\n", "'127.0.0.1' is not host:port"),
        ("[http]\nlisten = 127.0.0.1:1\n", None),
        ("[http]\nport = 1\n", ":2: unknown key 'port' in [http]"),
        ("[http]\nlisten = 0.0.0.0:1\n", "is not loopback"),
        ("[alias a]\nchain = upstream:x\n", "there is no [upstream] for 'upstream:x'"),
        ("[alias my model]\nchain = worker:tiny\n", "'my model' cannot be an alias: up to 100 letters, digits"),
        ("[alias .a]\nchain = worker:tiny\n", "'.a' cannot be an alias"),
        ("[alias a]\nchain = worker:gr\u00f6\u00dfe\n", "cannot be an alias"),
        ("[alias a]\nchain = worker:\n", "'' cannot be an alias"),
        ("[alias Qwen/Qwen3.6-35B_A3B:free]\nchain = worker:tiny\n", None),
        ("[upstream my cloud]\nurl = http://127.0.0.1:9/v1\n", "'my cloud' cannot be a name"),
        ("[upstream a/b]\nurl = http://127.0.0.1:9/v1\n", "of an upstream without /"),
        ("[alias a]\nchain = worker:x\n[alias a]\nchain = worker:y\n",
         ":4: chain: again in [alias a], line 2 has it already"),
        ("[alias a]\nchain = tiny\n", "neither worker:MODEL nor upstream:NAME"),
        ("[upstream x]\nurl = ftp://a\n", "url must begin with http"),
        ("[upstream x]\nurl = http://a\nable = flying\n", "'flying' is not known"),
        ("[http]\nkeys_file = /nonexistent\n", "No such file"),
        # open() of a FIFO waited for a writer
        ("[http]\nkeys_file = %s.fifo\n" % path, ".fifo: not a regular file (http.keys_file)"),
    ):
        with open(path, "w") as f:
            f.write(text)
        code, out, err = router("--check", "-c", path)
        assert (code, want is None or want in err) == (78 if want else 0, True), (text, code, err)
    os.unlink(path)
    code, out, err = router("--check", "-c", path + ".fifo")
    assert code == 78 and ".fifo: not a regular file" in err, (code, err)
    os.unlink(path + ".fifo")
    assert router("--check", "-c", "/nonexistent.conf")[0] == 78
    assert router("--frob")[0] == 64


def test_the_sample_in_the_tree_is_what_the_program_prints():
    with open(SRC + "/etc/hearth.conf.sample") as f:
        assert f.read() == router("--print-config-sample")[1]
    assert router("--check", "-c", SRC + "/etc/hearth.conf.sample")[0] == 0
    for key in ("http.listen", "route.grace_ms", "upstream.key_file", "alias.chain"):
        assert key in router("--help")[1]
    rows = [x.split("\t") for x in router("--dump-keys")[1].splitlines()]
    assert all(len(x) == 7 for x in rows) and ["alias NAME", "chain"] in [x[:2] for x in rows]


if __name__ == "__main__":
    main(dict(globals()))

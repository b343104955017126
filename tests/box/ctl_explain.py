#!/usr/bin/env python3
"""ctl_explain.py - hearthctl explain: what became of requests that met all kinds of trouble.

    top_builddir=build python3 tests/box/ctl_explain.py
"""
import contextlib
import json
import subprocess

from box import BUILD, SANITIZED, Cloud, Router, Skip, main, read_until, wait_for


def ctl(r, *args):
    p = subprocess.run([BUILD + "/bin/hearthctl", "--url", r.url, *args],
                       capture_output=True, text=True, timeout=20)
    return p.returncode, p.stdout, p.stderr


def explain(r, id):
    code, out, err = ctl(r, "--json", "explain", id)
    assert code == 0, (code, err)
    return json.loads(out)


def test_a_request_that_fell_back_to_another_link():
    with contextlib.closing(Cloud()) as cloud:
        conf = ("[alias a]\nchain = worker:tiny upstream:c\n[upstream c]\nurl = %s\n" % cloud.url)
        with Router(conf) as r:
            r.worker("w1")
            s, h, d = r.chat("tokens=5 fault=fail at=0", model="a")
            assert s == 200 and h["x-hearth-served-by"] == "upstream:c", (s, h, d)
            v = explain(r, h["x-request-id"])
            assert v["alias"] == "a" and v["chain"] == "worker:tiny upstream:c", v
            assert v["status"] == 200 and v["over"] and v["term"] == "--", v
            assert [(t["target"], t["result"]) for t in v["tries"]] == [
                ("worker:w1", "server_error"), ("upstream:c", "ok")], v
            assert v["tries"][0]["why"] and v["tries"][0]["ended_ms"] <= v["tries"][1]["began_ms"] + 1
            assert v["tries"][1]["first_ms"] <= v["total_ms"]
            # the client knows it by the id of its answer, too
            code, out, err = ctl(r, "explain", d["id"])
            assert code == 0 and "asked     a, which means worker:tiny upstream:c" in out, out
            assert "answered  by upstream:c" in out and "so the next one was asked" in out, out
            assert "why       worker:w1: " in out and v["tries"][0]["why"] in out, out


def test_one_that_nobody_could_answer_and_one_the_client_left():
    with Router() as r:
        r.worker("w1")
        s, h, d = r.chat("tokens=5 fault=fail at=0")
        v = explain(r, h["x-request-id"])
        assert s == v["status"] and v["term"][0] == "S" and v["error"] == d["error"]["message"], (v, d)
        code, out, err = ctl(r, "explain", h["x-request-id"])
        assert "there was no other to ask" in out and "told      " + v["error"] in out, out
        s = r.stream("tokens=200 delay=20")
        head = read_until(s, b"t3 ").decode()
        id = [x.split(": ")[1] for x in head.split("\r\n") if x.lower().startswith("x-request-id")][0]
        v = explain(r, id)
        assert not v["over"] and v["tries"][0]["result"] == "" and "accepted_ms" in v["tries"][0], v
        assert "answered  not yet" in ctl(r, "explain", id)[1]
        s.close()
        v = wait_for(lambda: (lambda x: x["over"] and x)(explain(r, id)))
        assert v["status"] == 200 and v["term"] == "CD", v
        assert "the client" in ctl(r, "explain", id)[1]


def test_the_list_and_the_limit():
    with Router("[log]\nkeep_requests = 3\n") as r:
        r.worker("w1")
        ids = [r.chat("tokens=1")[1]["x-request-id"] for _ in range(5)]
        v = json.loads(ctl(r, "--json", "explain")[1])["requests"]
        assert [x["id"] for x in v] == ids[:1:-1], (v, ids)
        assert ids[4] in ctl(r, "explain")[1]
        code, out, err = ctl(r, "explain", ids[0])
        assert code == 66 and "nothing is known" in err and "3 requests" in err, (code, err)
        assert ctl(r, "explain", "../status")[0] == 64
        assert r.get("/admin/requests", headers={"Origin": "http://evil.example"})[0] == 403
        # a name from a client does nothing to the terminal
        id = r.chat("x", model="\x1b[2Jevil\x9b")[1]["x-request-id"]
        out = ctl(r, "explain", id)[1]
        assert "evil" in out and "\x1b" not in out and "\x9b" not in out, out
        assert json.loads(ctl(r, "--json", "explain", id)[1])["alias"] == "\x1b[2Jevil\x9b"
        # what was said is nowhere in it
        r.chat("tokens=1 secretword")
        for body in (b'{"messages": [{"role": "user", "content": "a" secretword}]}', b'{"messages": "a" "secretword"}'):
            assert r.get("/v1/chat/completions", "POST", {}, body)[0] == 400
        v = r.get("/admin/requests")[2].decode()
        assert "secretword" not in v and v.count("not JSON: line 1: '}' expected") == 2, v
    with Router("[log]\nkeep_requests = 0\n") as r:
        r.worker("w1")
        id = r.chat("tokens=1")[1]["x-request-id"]
        assert ctl(r, "explain", id)[0] == 66


def test_keeping_records_leaks_nothing():
    if SANITIZED:
        raise Skip("memory figures mean nothing under a sanitizer")
    with Router("[log]\nkeep_requests = 50\n") as r:
        r.worker("w1")
        for _ in range(200):
            r.chat("tokens=1")
        before = r.rss_kib()
        for _ in range(600):
            r.chat("tokens=1")
        assert r.rss_kib() - before < 1500, (before, r.rss_kib())


if __name__ == "__main__":
    main(dict(globals()))

#!/usr/bin/env python3
"""admin_keys.py - what a key of each role may ask of the router, route by route, over real HTTP.

    top_builddir=build python3 tests/box/admin_keys.py
"""
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile

from box import BUILD, Router, Skip, content_of, main, read_until, wait_for

CLIENT, ADMIN = "client-key-0001", "admin-key-00001"
GETS = ["/admin/status", "/admin/config", "/admin/config/diff", "/admin/requests", "/admin/requests/req-none"]
VERBS = ["/admin/reload", "/admin/load", "/admin/unload", "/admin/drain", "/admin/undrain", "/admin/nothing"]
ROUTES = [("GET", p) for p in GETS] + [("POST", p) for p in VERBS] + [
    ("GET", "/v1/admin/status"), ("POST", "/v1/admin/reload"), ("HEAD", "/admin/config"), ("GET", "/admin/load"),
    ("GET", "/admin/status?x=1")]


@contextlib.contextmanager
def keyed(text="boss %s admin\nanna %s\n" % (ADMIN, CLIENT), http="", listen=None):
    with tempfile.TemporaryDirectory() as d:
        path = d + "/keys"
        write(path, text)
        options = ("http.listen=" + listen,) if listen else ()
        with Router("[http]\nkeys_file = %s\n%s" % (path, http), options) as r:
            r.keys, r.folder = path, d
            yield r


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def ask(r, method, path, key=None, headers={}, host=None, port=None):
    """Status, headers and the error's object, if the body has one."""
    c = http.client.HTTPConnection(host or "127.0.0.1", port or r.port, timeout=20)
    h = dict(headers)
    if key:
        h["Authorization"] = "Bearer " + key
    c.request(method, path, b'{"alias":"none"}' if method == "POST" else None, h)
    a = c.getresponse()
    data = a.read()
    c.close()
    v = json.loads(data) if data else {}
    return a.status, {k.lower(): x for k, x in a.getheaders()}, v.get("error") if isinstance(v, dict) else None


def is_refusal(error, status):
    """The four keys of an error of the dialect, and the right ones for it."""
    assert set(error) == {"message", "type", "param", "code"} and error["param"] is None, error
    assert error["type"] == ("permission_error" if status == 403 else "authentication_error"), error
    assert error["code"] == ("insufficient_permissions" if status == 403 else "invalid_api_key"), error
    assert "'admin'" in error["message"], error


def reload(r, text=None, http=None):
    seen = r.log_text().count("reload:")
    if text is not None:
        write(r.keys, text)
    if http is not None:
        r.write_conf("[http]\nkeys_file = %s\n%s" % (r.keys, http))
    r.proc.send_signal(signal.SIGHUP)
    wait_for(lambda: r.log_text().count("reload:") > seen)


def test_the_list_of_routes_is_whole():
    with open(BUILD + "/bin/hearth-router", "rb") as f:
        there = {x.decode() for x in re.findall(rb"(?<=\0)(/admin/[a-z/]*)\0", f.read())}
    assert there == {"/admin/", "/admin/requests/"} | set(GETS[:-1]), there


def test_a_client_is_refused_on_every_admin_route():
    with keyed() as r:
        for method, path in ROUTES:
            for headers in ({"Authorization": "Bearer " + CLIENT}, {"x-api-key": CLIENT}):
                s, h, error = ask(r, method, path, None, headers)
                assert s == 403, (method, path, s)
                if method != "HEAD":
                    is_refusal(error, 403)
                    assert "'anna'" in error["message"] and "'client'" in error["message"], error
        assert r.status()["generation"] == 1            # no reload was done
        for path in ("/v1/models", "/metrics", "/health"):
            assert r.get(path, headers={"x-api-key": CLIENT})[0] == 200, path
        log = r.log_text()
        assert "key 'anna' from 127.0.0.1" in log and CLIENT not in log and ADMIN not in log, log


def beyond(method, path):
    """What such a request gets that passes the door: no box has the alias, and of req-none nothing is known."""
    if path.endswith("/reload") or method != "POST" and path not in ("/admin/load", "/admin/requests/req-none"):
        return 200
    return 405 if method == "GET" and path == "/admin/load" else 404


def test_an_admin_passes_on_every_admin_route():
    with keyed() as r:
        for method, path in ROUTES:
            for headers in ({"Authorization": "Bearer " + ADMIN}, {"x-api-key": ADMIN}):
                s = ask(r, method, path, None, headers)[0]
                assert s == beyond(method, path), (method, path, s)
        assert r.status()["generation"] == 1 + 2 * sum(p.endswith("/reload") for _, p in ROUTES)
        assert ask(r, "GET", "/v1/models", ADMIN)[0] == 200


def test_a_wrong_key_is_worse_than_none():
    with keyed() as r:
        for method, path in ROUTES:
            for headers in ({"Authorization": "Bearer " + ADMIN + "x"}, {"x-api-key": CLIENT[:-1]},
                            {"Authorization": "Basic " + ADMIN}, {"Authorization": "Bearer"}):
                s, h, error = ask(r, method, path, None, headers)
                assert s == 401 and h["www-authenticate"] == "Bearer", (method, path, headers, s)
                if method != "HEAD":
                    is_refusal(error, 401)
            # from this machine without any: as before there were roles
            assert ask(r, method, path)[0] not in (401, 403), (method, path)
        assert ask(r, "GET", "/v1/models")[0] == 401


def test_no_key_does_nothing_when_this_machine_is_not_trusted():
    with keyed(http="trust_local = no\n") as r:
        for method, path in ROUTES:
            s, h, error = ask(r, method, path)
            assert s == 401, (method, path, s)
            if method != "HEAD":
                is_refusal(error, 401)
        assert r.get("/metrics")[0] == 401
        assert r.get("/metrics", headers={"x-api-key": CLIENT})[0] == 200
        assert r.get("/health")[0] == 200
        assert ask(r, "GET", "/admin/status", ADMIN)[0] == 200
        reload(r, http="trust_local = yes\n")
        assert ask(r, "GET", "/admin/status")[0] == 200


def test_a_proxy_of_this_machine_is_not_this_machine():
    with keyed() as r:
        for name in ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"):
            assert ask(r, "GET", "/admin/status", None, {name: "198.51.100.7"})[0] == 401, name
            assert ask(r, "GET", "/admin/status", ADMIN, {name: "198.51.100.7"})[0] == 200, name
            assert r.get("/metrics", headers={name: "198.51.100.7"})[0] == 401, name


def own_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))         # nothing is sent
        except OSError:
            raise Skip("no address but loopback")
        return s.getsockname()[0]


def test_a_page_in_a_browser_opens_nothing():
    for keys in (Router, keyed):
        with keys() as r:
            for method, path in ROUTES:
                assert ask(r, method, path, None, {"Origin": "https://example.org"})[0] == 403, (keys, method, path)
            assert r.status()["generation"] == 1


def test_off_loopback_only_a_key_counts():
    host = own_address()
    with keyed(listen="%s:0 127.0.0.1:0" % host) as r:     # --print-port says the first one's
        for method, path in ROUTES:
            assert ask(r, method, path, None, {}, host)[0] == 401, (method, path)
            assert ask(r, method, path, CLIENT, {}, host)[0] == 403, (method, path)
        assert ask(r, "GET", "/admin/status", ADMIN, {}, host)[0] == 200


def test_without_keys_this_machine_may_everything():
    with Router() as r:
        for headers in ({}, {"Authorization": "Bearer none"}, {"X-Forwarded-For": "198.51.100.7"}):
            for method, path in ROUTES:
                assert ask(r, method, path, None, headers)[0] not in (401, 403), (method, path, headers)
            assert ask(r, "GET", "/v1/models", None, headers)[0] == 200
        assert "role" not in r.log_text()


def test_an_old_file_is_read_and_its_owner_is_told():
    old = "# people\nanna %s\nbob  sk-bob-00002   the laptop-secret of bob\ncarl sk-carl-0003 # admin\n" % CLIENT
    with keyed(old) as r:
        log = r.log_text()
        assert "3 keys, 0 of them admin" in log, log
        assert "no key of %s has the role admin" % r.keys in log and "keys add --role admin" in log, log
        assert "only callers of this machine" in log, log
        assert "%s:3 (bob): behind the key stands neither" % r.keys in log and "laptop" not in log, log
        for key in (CLIENT, "sk-bob-00002", "sk-carl-0003"):
            assert ask(r, "GET", "/v1/models", key)[0] == 200
            assert ask(r, "GET", "/admin/status", key)[0] == 403
        assert ask(r, "GET", "/admin/status")[0] == 200
        p = ctl(r, "doctor")
        assert "none of the router's keys has the role admin" in p.stdout, p.stdout
        reload(r, http="trust_local = no\n")
        assert "with http.trust_local = no nobody can use it" in r.log_text()
        # the way out that the line names
        p = ctl(r, "--keys-file", r.keys, "keys", "add", "--role", "admin", "boss")
        assert p.returncode == 77 and "is changed, but not in effect" in p.stderr and "'admin'" in p.stderr, p
        before = r.log_text().count("has the role admin")
        reload(r)
        assert "4 keys, 1 of them admin" in r.log_text() and r.log_text().count("has the role admin") == before
        assert ask(r, "GET", "/admin/status", p.stdout.strip())[0] == 200


def test_one_key_cannot_have_two_roles():
    with keyed() as r:
        reload(r, "boss %s admin\nanna %s\nguest %s\n" % (ADMIN, CLIENT, ADMIN))
        assert "%s:3: the key of 'boss' again, with another role" % r.keys in r.log_text()
        assert ask(r, "GET", "/admin/status", ADMIN)[0] == 200 and ask(r, "GET", "/v1/models", CLIENT)[0] == 200


def stream(r, key, n):
    body = b'{"model":"tiny","stream":true,"messages":[{"role":"user","content":"tokens=%d delay=20"}]}' % n
    s = r.connect()
    s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
              b"Content-Length: %d\r\n\r\n%s" % (key.encode(), len(body), body))
    return s, read_until(s, b"t3 ")


def test_a_role_changes_by_reload_under_streams():
    with keyed() as r:
        r.worker()
        streams = [stream(r, key, 80) for key in (CLIENT, ADMIN)]
        write(r.keys, "boss %s\nanna %s admin\n" % (ADMIN, CLIENT))
        p = ctl(r, "config", "diff")
        assert p.returncode == 1 and "key with another role: boss (was admin, now client)" in p.stdout, p
        assert "anna (was client, now admin)" in p.stdout and "key added" not in p.stdout, p.stdout
        assert ask(r, "GET", "/admin/status", ADMIN)[0] == 200       # not yet
        reload(r)
        for key, want in ((ADMIN, 403), (CLIENT, 200)):
            assert ask(r, "GET", "/admin/status", key)[0] == want
            assert ask(r, "POST", "/admin/reload", key)[0] == want
            assert ask(r, "GET", "/v1/models", key)[0] == 200
        assert len(r.status()["workers"]) == 1
        for s, head in streams:
            text, done, error = content_of(head + read_until(s, b"0\r\n\r\n"))
            assert done and not error and text == "".join("t%d " % i for i in range(80)), (text, error)
            s.close()


def ctl(r, *args):
    return subprocess.run([BUILD + "/bin/hearthctl", "--url", r.url, "--etc", r.folder, *args],
                          capture_output=True, text=True, timeout=20)


def test_hearthctl_makes_shows_and_uses_roles():
    with keyed(http="trust_local = no\n") as r:
        for name, key in (("boss", ADMIN), ("anna", CLIENT)):
            write(r.folder + "/" + name, key + "\n")
        boss, anna = ("--key-file", r.folder + "/boss"), ("--key-file", r.folder + "/anna")
        p = ctl(r, "status")
        assert p.returncode == 77 and "401" in p.stderr and "'admin'" in p.stderr, p
        p = ctl(r, *anna, "status")
        assert p.returncode == 77 and "403" in p.stderr and "'client'" in p.stderr, p
        assert ctl(r, *boss, "status").returncode == 0
        p = ctl(r, *boss, "keys", "add", "--role", "admin", "second")
        assert p.returncode == 0 and "role admin" in p.stderr, p
        second = p.stdout.strip()
        assert ask(r, "GET", "/admin/config", second)[0] == 200
        p = ctl(r, *boss, "--json", "keys", "add", "--role", "client", "third")
        v = json.loads(p.stdout)
        assert v["role"] == "client" and ask(r, "GET", "/admin/config", v["key"])[0] == 403, v
        assert "third %s\n" % v["key"] in open(r.keys).read()
        p = ctl(r, *boss, "keys", "add", "--role", "root", "fourth")
        assert p.returncode == 64 and "client or admin" in p.stderr and "fourth" not in open(r.keys).read(), p
        want = [("boss", "admin"), ("anna", "client"), ("second", "admin"), ("third", "client")]
        v = json.loads(ctl(r, *boss, "--json", "keys", "list").stdout)
        assert [(x["name"], x["role"]) for x in v] == want, v
        rows = [x.split()[:2] for x in ctl(r, *boss, "keys", "list").stdout.splitlines()]
        assert rows == [["NAME", "ROLE"]] + [list(x) for x in want], rows
        # what hearthctl shows is what the router goes by, however the line is written
        odd = ["a\tlong-key-0001\tadmin\r", "  b long-key-0002  admin # boss", "c long-key-0003 # admin",
               "d long-key-0004 Admin", "e long-key-0005 client admin", "f long-key-0006 admin#x",
               "g long-key-0007 administrator"]
        reload(r, "boss %s admin\n" % ADMIN + "\n".join(odd) + "\n")
        shown = {x["name"]: x["role"] for x in json.loads(ctl(r, *boss, "--json", "keys", "list").stdout)}
        for line in odd:
            name, key = line.split()[:2]
            s = ask(r, "GET", "/admin/config", key)[0]
            assert s == (200 if shown[name] == "admin" else 403), (line, s, shown)
        assert [n for n in "abcdefg" if shown[n] == "admin"] == ["a", "b", "f"], shown
        assert os.stat(r.keys).st_mode & 0o007 == 0o004     # as it was made above: replacing keeps the mode


if __name__ == "__main__":
    main(dict(globals()))

#!/usr/bin/env python3
"""router_http.py - clients that misbehave, against the real router and a mock worker.

    top_builddir=build python3 tests/box/router_http.py [test_name...]

HEARTH_LONG=1: the full figures (10,000 idle connections, 100 kills, 200 MB); else smaller ones.
"""
import gzip
import json
import resource
import socket
import threading
import time

from box import (LONG, SANITIZED, Router, content_of, main, percentile, post, read_all, read_until,
                 wait_for)


def test_client_gone_before_first_byte_reaches_the_worker_within_100_ms():
    n = 200 if LONG else 40
    late = []
    with Router() as r:
        w = r.worker()
        for i in range(n):
            s = r.connect()
            s.sendall(post("first=60000 tokens=1", stream=bool(i % 2)))
            wait_for(lambda: len(w.seen("generate")) == i + 1, 5, 0.001)
            t = time.monotonic_ns()
            s.close()
            wait_for(lambda: len(w.seen("cancel")) == i + 1, 5, 0.001)
            late.append((int(w.seen("cancel")[i][2]) - t) / 1e6)
    p99 = percentile(late, 0.99)
    assert p99 <= (100 if LONG else 1000), late
    return "p50 %.2f ms, p99 %.2f ms of %d" % (percentile(late, 0.5), p99, n)


def test_client_gone_during_a_stream_cancels_it():
    with Router() as r:
        w = r.worker()
        s = r.stream("tokens=100000 delay=5")
        read_until(s, b"t3 ")
        s.close()
        wait_for(lambda: w.seen("cancel"), 2)


def test_pipelined_requests_are_answered_in_order():
    with Router() as r:
        r.worker()
        s = r.connect()
        one = post("tokens=2 delay=20")
        s.sendall(one + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" + post("tokens=3", stream=True) +
                  b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        raw = read_all(s)
        assert raw.count(b"HTTP/1.1 200") == 4, raw
        order = [
            raw.index(x)
            for x in (b"chat.completion\"", b'"status":"ok"', b"[DONE]", b'"object":"list"')
        ]
        assert order == sorted(order), order


def test_200_mb_pushed_during_a_stream_cost_no_memory():
    mb = 200 if LONG else 40
    with Router() as r:
        r.worker()
        for _ in range(3):      # warm up
            read_until(r.stream("tokens=20"), b"[DONE]")
        before = r.rss_kib()
        s = r.stream("tokens=100000 delay=50")
        read_until(s, b"t1 ")
        junk = b"x" * (1 << 20)
        peak = before
        s.settimeout(20)
        stop = threading.Event()

        def drain():
            while not stop.is_set():
                try:
                    if not s.recv(65536):
                        return
                except OSError:
                    return
        t = threading.Thread(target=drain)
        t.start()
        for _ in range(mb):
            s.sendall(junk)
            peak = max(peak, r.rss_kib())
        stop.set()
        assert r.proc.poll() is None
        s.close()
        t.join()
        assert r.chat("tokens=1")[0] == 200
        assert SANITIZED or peak - before <= 1024, "%d KiB more" % (peak - before)
    return "%d MB, %d KiB more" % (mb, peak - before)


def test_a_dripped_header_is_cut():
    limit = 10 if LONG else 2
    with Router(options=["http.header_s=%d" % limit]) as r:
        s = r.connect()
        t = time.monotonic()
        text = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Drip: " + b"a" * 100
        s.settimeout(0.01)
        got = b""
        step = 1.0 if LONG else 0.1
        for i in range(len(text)):
            try:
                s.send(text[i:i + 1])
            except OSError:
                break
            time.sleep(step)
            try:
                got += s.recv(4096)
                if got:
                    break
            except TimeoutError:
                pass
            except OSError:
                break
        took = time.monotonic() - t
        assert limit - 0.5 <= took <= limit + 1.5, took
        assert b"408" in got, got
    return "cut after %.1f s of %d" % (took, limit)


def test_idle_connections_and_a_stalled_reader_do_not_slow_others():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    n = min(10000, hard - 300) if LONG else 1000

    def probe(r, count=400):
        took = []
        for _ in range(count):
            t = time.monotonic()
            assert r.chat("tokens=4")[0] == 200
            took.append(time.monotonic() - t)
        return percentile(took, 0.5) * 1e3, percentile(took, 0.99) * 1e3

    with Router() as r:
        w = r.worker()
        probe(r, 50)
        quiet = probe(r)
        rss = r.rss_kib()
        idle = [r.connect() for _ in range(n)]
        wait_for(lambda: r.status()["connections"] >= n, 20)
        per = (r.rss_kib() - rss) * 1024 / n
        stalled = r.connect()
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.sendall(post("tokens=1000000 size=2000", stream=True))
        time.sleep(1)
        made = len(w.seen("generate"))
        busy = probe(r)
        # the stalled reader was not fed into memory
        grown = r.rss_kib() - rss
        for s in idle:
            s.close()
        stalled.close()
        assert busy[1] < (quiet[1] * 2 + 5 if LONG else 1000), (quiet, busy)
        assert SANITIZED or grown < n * 4 + 8192, grown
    return "%d idle (%.0f bytes each): p50 %.2f -> %.2f ms, p99 %.2f -> %.2f ms" % (
        n, per, quiet[0], busy[0], quiet[1], busy[1])


def test_a_slow_reader_still_gets_every_token():
    with Router() as r:
        r.worker()
        s = r.stream("tokens=3000 size=5000")
        time.sleep(1)           # 15 MB: more than the sockets' buffers take
        raw = read_until(s, b"[DONE]")
        text, done, error = content_of(raw)
        assert done and not error
        words = [w.lstrip("x") for w in text.split()]
        assert [w for w in words if w.startswith("t")] == ["t%d" % i for i in range(3000)]


def test_a_reader_that_takes_nothing_is_cut():
    with Router(options=["http.stall_s=1"]) as r:
        w = r.worker()
        s = r.connect()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.sendall(post("tokens=1000000 size=20000", stream=True))
        wait_for(lambda: w.seen("cancel"), 20)


def raw(r, data, timeout=5):
    s = r.connect()
    s.sendall(data)
    return read_all(s, timeout)


def status_of(answer):
    return int(answer.split(b" ", 2)[1])


def check_error(answer, status):
    assert status_of(answer) == status, answer
    e = json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]
    assert sorted(e) == ["code", "message", "param", "type"] and isinstance(e["message"], str), e


def test_requests_that_could_be_smuggled_are_refused():
    with Router() as r:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
        check_error(
            raw(r, head + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400
        )
        check_error(raw(r, head + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 501)
        check_error(raw(r, head + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), 501)
        check_error(raw(r, head + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"), 400)
        check_error(raw(r, head + b"Content-Length: -3\r\n\r\n"), 400)
        check_error(raw(r, b"GET / HTTP/1.1\r\n\r\n"), 400)
        check_error(raw(r, head + b"Content-Length : 3\r\n\r\nabc"), 400)
        check_error(raw(r, head + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"), 400)
        check_error(raw(r, b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n"), 400)
        check_error(raw(r, b"\x16\x03\x01\x02\x00\x01\x00"), 400)
        check_error(raw(r, b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 200000 + b"\r\n\r\n"), 431)
        many = b"".join(b"A%d: b\r\n" % i for i in range(200))
        check_error(raw(r, b"GET / HTTP/1.1\r\nHost: x\r\n" + many + b"\r\n"), 431)


def test_chunks_end_where_they_say_and_what_follows_them_is_no_header():
    with Router() as r:
        r.worker()
        body = post("tokens=2").split(b"\r\n\r\n", 1)[1]
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        two = b"7\r\n%s\r\n%x;a=b\r\n%s%%s0\r\n%%s\r\n" % (body[:7], len(body) - 7, body[7:].replace(b"%", b"%%"))
        for end in (b"XX", b"\rX", b"X\n", b"\n\r"):
            check_error(raw(r, head + two % (end, b"")), 400)
            s = r.connect()      # in pieces, cut at every place of the chunk's end
            try:
                for i in range(len(head + two % (end, b""))):
                    s.sendall((head + two % (end, b""))[i:i + 1])
            except OSError:
                pass
            assert read_all(s).startswith(b"HTTP/1.1 400 "), end
        assert status_of(raw(r, head + two % (b"\r\n", b""))) == 200
        s = r.connect()
        for i in range(len(head + two % (b"\r\n", b"A: b\r\n"))):
            s.sendall((head + two % (b"\r\n", b"A: b\r\n"))[i:i + 1])
        assert read_all(s).startswith(b"HTTP/1.1 200 ")
        check_error(raw(r, head + two % (b"\r\n", b"A: " + b"b" * 100000 + b"\r\n")), 431)
        # who asks stands in front of the body
        with open(r.dir + "/keys", "w") as f:
            f.write("alice sk-alice-0001\n")
        r.write_conf("[http]\nkeys_file = %s/keys\n" % r.dir)
        r.proc.send_signal(1)
        wait_for(lambda: "reload" in r.log_text())
        key = b"Authorization: Bearer sk-alice-0001\r\n"
        assert status_of(raw(r, head.replace(b"Host", key + b"Host") + two % (b"\r\n", b""))) == 200
        check_error(raw(r, head + two % (b"\r\n", key)), 401)


def test_large_bodies_are_refused_before_they_are_sent():
    with Router(options=["http.max_body_mib=1"]) as r:
        before = r.rss_kib()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
        check_error(raw(r, head + b"Content-Length: 99999999999\r\n\r\n"), 413)
        check_error(raw(r, head + b"Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n"), 413)
        chunk = b"80000\r\n" + b"x" * 0x80000 + b"\r\n"
        check_error(raw(r, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 3), 413)
        s = [r.connect() for _ in range(50)]    # announced, never sent: not allocated
        for x in s:
            x.sendall(head + b"Content-Length: 1000000\r\n\r\n{")
        time.sleep(0.2)
        assert SANITIZED or r.rss_kib() - before < 8000


def test_expect_chunked_head_options_and_http_1_0():
    with Router() as r:
        r.worker()
        body = post("tokens=2").split(b"\r\n\r\n", 1)[1]
        head = b"POST /chat/completions HTTP/1.1\r\nHost: x\r\n"
        s = r.connect()
        s.sendall(head + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert read_until(s, b"\r\n\r\n").startswith(b"HTTP/1.1 100 Continue")
        s.sendall(body)
        assert b"t1 " in read_until(s, b'"hearth"')
        s = r.connect()
        s.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for i in range(0, len(body), 7):
            s.sendall(b"%x\r\n%s\r\n" % (len(body[i:i + 7]), body[i:i + 7]))
        s.sendall(b"0\r\n\r\n")
        assert b"t1 " in read_until(s, b'"hearth"')
        a = raw(r, b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert status_of(a) == 200 and a.endswith(b"\r\n\r\n"), a
        a = raw(
            r,
            b"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: x\r\nOrigin: http://a\r\nConnection: close\r\n\r\n",
        )
        assert status_of(a) == 204 and b"Access-Control-Allow-Methods" in a
        a = raw(
            r,
            b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
        )
        assert status_of(a) == 200 and b"t1 " in a
        s = r.connect()          # 1.0 knows no 100
        s.sendall(b"POST /v1/chat/completions HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        time.sleep(0.1)
        s.sendall(body)
        assert read_all(s).startswith(b"HTTP/1.1 200 ")
        # a refused HEAD has no body either
        a = raw(r, b"HEAD / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 200000 + b"\r\n\r\n")
        assert status_of(a) == 431 and a.endswith(b"\r\n\r\n"), a
        zipped = gzip.compress(body)
        a = raw(r, head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(zipped) + zipped)
        check_error(a, 415)
        assert b"Content-Encoding" in a
        check_error(raw(r, b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), 404)
        check_error(
            raw(r, b"GET /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
            405,
        )


def test_bytes_in_any_pieces_make_the_same_request():
    with Router() as r:
        r.worker()
        data = post("tokens=2 h\u00e9", stream=True)
        s = r.connect()
        for i in range(len(data)):
            s.sendall(data[i:i + 1])
        assert b"t1 " in read_until(s, b"[DONE]")


def test_keys_are_asked_for():
    with Router() as r:
        keys = r.dir + "/keys"
        with open(keys, "w") as f:
            f.write("# people\nalice sk-alice-0001\nbob sk-bob-00002\n")
        r.write_conf("[http]\nkeys_file = %s\n" % keys)
        r.proc.send_signal(1)
        wait_for(lambda: "reload" in r.log_text())
        r.worker()
        assert r.get("/v1/models")[0] == 401
        assert r.get("/v1/models", headers={"Authorization": "Bearer sk-alice-0002"})[0] == 401
        assert r.get("/v1/models", headers={"Authorization": "Bearer sk-alice-0001"})[0] == 200
        assert r.get("/v1/models", headers={"x-api-key": "sk-bob-00002"})[0] == 200
        assert r.get("/health")[0] == 200
        assert "sk-" not in r.log_text()


def test_a_bad_reload_changes_nothing():
    with Router("[alias a]\nchain = worker:tiny\n") as r:
        r.worker()
        r.write_conf("[alias a]\nchian = worker:tiny\n")
        r.proc.send_signal(1)
        wait_for(lambda: "hearth.conf:2: unknown key 'chian'" in r.log_text())
        assert r.chat("tokens=1", model="a")[0] == 200
        r.write_conf("[alias b]\nchain = worker:tiny\n")
        r.proc.send_signal(1)
        wait_for(lambda: "1 aliases" in r.log_text().split("unknown key")[1])
        assert r.chat("tokens=1", model="b")[0] == 200
        assert r.chat("tokens=1", model="a")[0] == 404


def test_stop_waits_for_requests_under_way():
    with Router() as r:
        r.worker()
        s = r.stream("tokens=20 delay=20")
        read_until(s, b"t1 ")
        r.proc.send_signal(15)
        assert b"[DONE]" in read_all(s)
        assert r.proc.wait(5) == 0


if __name__ == "__main__":
    main(dict(globals()))

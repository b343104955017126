#!/usr/bin/env python3
"""metrics.py - what router and hearthd say to Prometheus: well formed, true, and enough for the sample dashboard.

    top_builddir=build top_srcdir=. python3 tests/box/metrics.py [TEST]...

A strict parser stands in for promtool and Prometheus; both are used as well where they are installed (Debian: prometheus) or
where HEARTH_PROMETHEUS names their folder.
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request

from box import BUILD, Router, Skip, main, read_all, wait_for

SRC = os.path.abspath(os.environ.get("top_srcdir", "."))
TINY = SRC + "/models/tiny"
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"'
SAMPLE = re.compile(r"(%s)(?:\{(%s(?:,%s)*)?\})? (-?[0-9.e+-]+|\+Inf|NaN)" % (NAME, LABEL, LABEL))
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "info": ("_info",),
            "histogram": ("_bucket", "_sum", "_count")}


def parse(text, open_):
    """{(name, labels): value}, and {family: type}; fails at the first thing that is not as the format has it."""
    samples, families, family, helped = {}, {}, None, None
    lines = text.split("\n")
    assert lines.pop() == "", "the last line does not end"
    if open_:
        assert lines.pop() == "# EOF"
    for line in lines:
        head = re.fullmatch(r"# (HELP|TYPE) (%s) (.+)" % NAME, line)
        if head and head.group(1) == "HELP":
            helped = head.group(2)
        elif head:
            family, kind = head.group(2), head.group(3)
            assert family == helped and family not in families and kind in SUFFIXES, line
            assert open_ or kind != "info"
            families[family] = kind
        else:
            one = SAMPLE.fullmatch(line)
            assert one and family, line
            name, labels, value = one.groups()
            assert any(name == family + x for x in SUFFIXES[families[family]]) or \
                (not open_ and name == family), (family, line)
            names = re.findall(r"([a-zA-Z_][a-zA-Z0-9_]*)=\"", labels or "")
            assert len(names) == len(set(names)) and (name, labels) not in samples, line
            samples[name, labels] = float(value)
            assert families[family] != "counter" or float(value) >= 0, line
    for (name, labels), value in samples.items():   # histograms: cumulative, with their sums
        if name.endswith("_bucket") and 'le="+Inf"' in labels:
            bare = labels.replace('le="+Inf"', "").rstrip(",")
            count = samples.get((name[:-7] + "_count", bare or None), samples.get((name[:-7] + "_count", bare)))
            assert count == value, (name, labels)
            rows = [v for (n, l), v in samples.items() if n == name and l.startswith(bare)]
            assert rows == sorted(rows), name
    return samples, families


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Box:
    def __init__(self, *options, bus="ipc:///nowhere"):
        if not os.path.exists(TINY + "/config.json"):
            raise Skip("no tiny model")
        self.dir = tempfile.mkdtemp(prefix="hearth-metrics-")
        self.port = free_port()
        self.conf = self.dir + "/conf"
        with open(self.conf, "w") as f:
            f.write(
                "[box]\nname = b1\nlauncher = spawn\nbackoff_ms = 100\nrun_dir = %s\nrouter = %s\nmetrics = 127.0.0.1:%d\n"
                "[memory]\nreserve_mib = 64\njudge = available\ndrop_socket = %s/nobody\n[model tiny]\npath = %s\n"
                "pin = yes\nmax_streams = 2\nthreads = 1\nkv_mib = 16\n" % (self.dir, bus, self.port, self.dir, TINY)
            )
        args = [BUILD + "/bin/hearthd", "-c", self.conf]
        for o in options:
            args += ["-o", o]
        self.log = open(self.dir + "/log", "ab")
        self.proc = subprocess.Popen(args, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)

    def text(self):
        return open(self.dir + "/log").read()

    def get(self, path="/metrics", method="GET", port=None, **headers):
        c = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=20)
        c.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        r = c.getresponse()
        return r.status, r.getheader("Content-Type"), r.read().decode()

    def value(self, name, labels=""):
        samples = parse(self.get()[2], False)[0]
        return samples.get((name, 'box="b1"' + labels))

    def up(self):
        def look():
            assert self.proc.poll() is None, self.text()
            try:
                return self.value("hearth_model_state", ',alias="tiny",state="ready"')
            except ConnectionError:
                return None
        wait_for(look, 60)

    def __enter__(self):
        return self

    def __exit__(self, *a):
        if self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(20)
            except subprocess.TimeoutExpired:
                self.proc.kill()
        self.proc.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def program(name):
    path = os.environ.get("HEARTH_PROMETHEUS", "") + "/" + name
    return path if os.access(path, os.X_OK) else shutil.which(name)


def table():
    rows = subprocess.run([BUILD + "/bin/hearthd", "--dump-metrics"], capture_output=True, text=True, check=True).stdout
    return {r.split("\t")[0]: r.split("\t")[1] for r in rows.splitlines()}


def test_hearthd_says_every_metric_of_its_table_in_both_forms():
    with Box() as b:
        b.up()
        s, kind, text = b.get()
        assert s == 200 and kind.startswith("text/plain; version=0.0.4"), (s, kind)
        plain, families = parse(text, False)
        assert set(families) == set(table())
        s, kind, text = b.get(Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
        assert s == 200 and kind.startswith("application/openmetrics-text"), (s, kind)
        opened, families = parse(text, True)
        assert set(opened) == set(plain)
        assert {n + {"counter": "_total", "info": "_info"}.get(k, "") for n, k in families.items()} == set(table())


def test_promtool_has_no_word():
    tool = program("promtool")
    if not tool:
        raise Skip("no promtool")
    with Box() as b:
        b.up()
        p = subprocess.run([tool, "check", "metrics"], input=b.get()[2], capture_output=True, text=True)
        assert p.returncode == 0 and not p.stdout and not p.stderr, (p.stdout, p.stderr)


def test_what_it_says_of_memory_is_what_the_kernel_and_the_worker_say():
    with Box() as b:
        b.up()
        total = int(re.search(r"MemTotal: +(\d+)", open("/proc/meminfo").read()).group(1)) << 10
        assert b.value("hearth_box_memory_total_bytes") == total
        assert 0 < b.value("hearth_box_memory_available_bytes") <= total
        assert b.value("hearth_box_memory_reserve_bytes") == 64 << 20
        assert b.value("hearth_grants", ',state="granted"') == 1
        said = re.search(r"memory: (\d+) bytes = weights (\d+) \+ kv (\d+)", b.text())
        classes = ["weights", "kv", "states", "workspace", "graphs", "pinned"]
        got = [b.value("hearth_grant_bytes", ',alias="tiny",class="%s"' % c) for c in classes]
        assert sum(got) == int(said.group(1)) and got[:2] == [int(said.group(2)), int(said.group(3))], (
            got,
            said.group(0),
        )
        first = b.value("hearth_box_watchdog_looks_total")
        time.sleep(1)
        looks = b.value("hearth_box_watchdog_looks_total") - first
        assert 2 <= looks <= 30, looks
        assert b.value("hearth_box_watchdog_gap_seconds") > 0.15
        assert b.value("hearth_box_memory_level", ',level="green"') == 1


def test_a_killed_worker_is_counted_and_its_successor_too():
    with Box() as b:
        b.up()
        assert b.value("hearth_worker_starts_total", ',alias="tiny"') == 1
        assert b.value("hearth_worker_failures_total", ',alias="tiny"') == 0
        os.kill(int(re.search(r"started as pid (\d+)", b.text()).group(1)), signal.SIGKILL)
        wait_for(lambda: b.value("hearth_worker_starts_total", ',alias="tiny"') == 2, 30)
        assert b.value("hearth_worker_failures_total", ',alias="tiny"') == 1
        b.up()
        assert b.value("hearth_memory_granted_total") == 2


def test_a_refused_budget_is_counted():
    with Box("memory.reserve_mib=100000000", "memory.back_s=0", "memory.drop_caches=never") as b:
        wait_for(lambda: b.proc.poll() is not None or "metrics" in b.text() or b.text(), 20)
        p = subprocess.run(
            [
                BUILD + "/bin/hearth-worker",
                "serve",
                TINY,
                "--connect",
                "ipc://%s/bus" % b.dir,
                "--alias",
                "x",
                "--hearthd",
                b.dir + "/memory",
                "--kv-bytes",
                "8M",
            ],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert p.returncode == 75, p.stderr
        assert b.value("hearth_memory_refused_total") >= 1
        assert b.value("hearth_grants", ',state="granted"') == 0


def test_only_get_metrics_is_answered_and_bad_visitors_change_nothing():
    with Box() as b:
        b.up()
        assert b.get("/")[0] == 404 and b.get("/metricsx")[0] == 404 and b.get("/metrics?x=1")[0] == 200
        assert b.get(method="POST")[0] == 405
        assert head_of(b, "/metrics").startswith(b"HTTP/1.1 200 OK\r\n")
        assert head_of(b, "/x").startswith(b"HTTP/1.1 404 ")
        raw = [
            b"\r\n\r\n",
            b"GET /metrics\r\n\r\n",
            b"\0" * 64 + b"\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nA: " + b"x" * 9000,
            b"GET /metrics HTTP/1.1\r\nAccept:\r\n\r\n",
        ]
        for request in raw:
            with socket.create_connection(("127.0.0.1", b.port)) as s:
                try:
                    s.sendall(request)
                    s.shutdown(socket.SHUT_WR)
                except OSError:     # it answered and left before all was sent
                    pass
                answer = read_all(s, 10)
                assert not answer or answer.startswith(b"HTTP/1.1 "), (request, answer)
        # visitors that say nothing hold their places for 5 s, one that comes after them waits for none of them
        idle = [socket.create_connection(("127.0.0.1", b.port)) for _ in range(16)]
        time.sleep(0.2)
        try:
            assert b.get()[0] is None
        except (ConnectionError, http.client.HTTPException):
            pass
        wait_for(lambda: quietly(b), 15)
        for s in idle:
            s.close()
        fds = len(os.listdir("/proc/%d/fd" % b.proc.pid))
        for _ in range(50):
            assert b.get()[0] == 200
        assert len(os.listdir("/proc/%d/fd" % b.proc.pid)) <= fds + 1


def head_of(b, path):
    """All that HEAD is answered with: a head whose length is that of a body that does not come."""
    with socket.create_connection(("127.0.0.1", b.port)) as s:
        s.sendall(b"HEAD %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
        answer = read_all(s, 10)
    length = [x for x in answer.split(b"\r\n") if x.startswith(b"Content-Length: ")]
    assert int(length[0][16:]) > 0 and answer.endswith(b"\r\n\r\n"), answer
    return answer


def quietly(b):
    try:
        return b.get()[0] == 200
    except (ConnectionError, http.client.HTTPException):
        return False


def test_off_loopback_a_key_is_needed():
    hearthd = BUILD + "/bin/hearthd"
    with tempfile.TemporaryDirectory() as d:
        conf = d + "/conf"
        open(conf, "w").write("[box]\nmetrics = 0.0.0.0:9465\n")
        p = subprocess.run([hearthd, "-c", conf, "--check"], capture_output=True, text=True)
        assert p.returncode == 78 and "metrics_key_file" in p.stderr, p.stderr
        open(conf, "w").write("[box]\nmetrics = nowhere\n")
        assert subprocess.run([hearthd, "-c", conf, "--check"], capture_output=True).returncode == 78
        open(d + "/key", "w").write("a-key-of-enough-letters\n")
        port = free_port()
        with Box("box.metrics=0.0.0.0:%d" % port, "box.metrics_key_file=%s/key" % d) as b:
            b.port = port
            wait_for(lambda: answers(b), 20)
            assert b.get()[0] == 401 and b.get(Authorization="Bearer a-key-of-enough-letterz")[0] == 401
            assert b.get(Authorization="Bearer a-key-of-enough-letters")[0] == 200
            assert b.get(Authorization="Bearer ")[0] == 401


def answers(b):
    try:
        return b.get()[0]
    except ConnectionError:
        return None


def test_the_router_says_every_metric_with_its_help():
    with Router() as r:
        r.worker()
        r.chat("tokens=3")
        samples, families = parse(r.get("/metrics")[2].decode(), True)
        assert samples["hearth_requests_total", 'alias="tiny",code="200"'] == 1
        # what the source counts is what it shows
        counted = set()
        for name in os.listdir(SRC + "/router"):
            if name.endswith(".c"):
                counted |= {m[1] + ("_seconds" if m[0] == "time" else "") for m in re.findall(
                    r'metrics_(add|time)\([^,]+, "(\w+)"', open(SRC + "/router/" + name).read())}
        assert counted and counted <= set(families), counted - set(families)


def dashboard():
    with open(SRC + "/etc/grafana/hearth.json") as f:
        panels = json.load(f)["panels"]
    return [(p["title"], t["expr"]) for p in panels for t in p.get("targets", [])]


def test_every_query_of_the_dashboard_names_metrics_that_exist():
    with Router() as r:
        families = parse(r.get("/metrics")[2].decode(), True)[1]
    known = set(table())
    for name, kind in families.items():
        known |= {name + x for x in SUFFIXES[kind]}
    queries = dashboard()
    assert len(queries) > 30
    for title, query in queries:
        names = re.findall(r"\bhearth_\w+", query)
        assert names and not set(names) - known, (title, query, set(names) - known)


def test_prometheus_reads_both_and_answers_the_dashboard():
    prometheus = program("prometheus")
    if not prometheus:
        raise Skip("no prometheus")
    with Router("[alias tiny]\nchain = worker:tiny\n") as r, Box(bus=r.bus) as b, tempfile.TemporaryDirectory() as d:
        b.up()
        wait_for(lambda: r.status()["workers"], 20)
        assert r.chat("What is 2 plus 2?", max_tokens=8)[0] == 200
        port = free_port()
        open(d + "/p.yml", "w").write(
            "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: hearth\n  static_configs:\n"
            "  - targets: ['127.0.0.1:%d', '127.0.0.1:%d']\n" % (r.port, b.port))
        p = subprocess.Popen([prometheus, "--config.file=" + d + "/p.yml", "--storage.tsdb.path=" + d + "/data",
                              "--web.listen-address=127.0.0.1:%d" % port], stdout=subprocess.DEVNULL,
                             stderr=open(d + "/log", "w"))
        try:
            def ask(query):
                url = "http://127.0.0.1:%d/api/v1/query?query=%s" % (port, urllib.parse.quote(query))
                try:
                    with urllib.request.urlopen(url, timeout=10) as f:
                        return json.load(f)["data"]["result"]
                except urllib.error.HTTPError as e:
                    if e.code == 503:       # it still starts
                        return []
                    raise AssertionError("%s: %s" % (query, e.read()))
                except OSError:
                    return []
            wait_for(lambda: len([x for x in ask("up") if x["value"][1] == "1"]) == 2, 60, 0.2)
            time.sleep(2.5)
            empty = [q for _, q in dashboard() if not ask(q)]
            # nothing failed, fell back or was cut here, and no workload is configured: these have no series yet
            may = (
                "hearth_attempts_total{",
                "hearth_fallback",
                "hearth_stream_cut",
                "hearth_client_gone",
                "hearth_attempt_t",
                "hearth_load_waits",
                "hearth_load_refused",
                "hearth_workload",
            )
            assert all(any(m in q for m in may) for q in empty), empty
        finally:
            p.terminate()
            p.wait()


if __name__ == "__main__":
    main(dict(globals()))

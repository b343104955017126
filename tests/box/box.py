"""box.py - starts the real router, mock workers and a mock cloud on loopback; what every script
here uses.

A script is a list of functions test_*; main() runs them, prints one line each and at the end
"N passed, N failed, N skipped", and exits 0, 1 or 77 (all skipped).
"""
import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

BUILD = os.path.abspath(os.environ.get("top_builddir", "build"))
with open(BUILD + "/bin/hearth-router", "rb") as f_:
    THREAD_SANITIZED = b"__tsan_init" in (b_ := f_.read())  # ten times slower
    SANITIZED = THREAD_SANITIZED or b"__asan_init" in b_    # memory figures mean nothing then
LONG = os.environ.get("HEARTH_LONG") == "1"


TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
os.environ.setdefault("TSAN_OPTIONS", "suppressions=%s/tsan.supp" % TESTS)


class Skip(Exception):
    pass


def wait_for(what, seconds=10.0, step=0.01):
    """Polls what() until it is true; fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        r = what()
        if r:
            return r
        time.sleep(step)
    raise AssertionError("not within %.1f s: %s" % (seconds, what))


class Router:
    def __init__(self, conf="", options=()):
        self.dir = tempfile.mkdtemp(prefix="hearth-box-")
        self.bus = "ipc://%s/bus" % self.dir
        self.conf = os.path.join(self.dir, "hearth.conf")
        self.write_conf(conf)
        self.log = open(os.path.join(self.dir, "router.log"), "w+")
        args = [BUILD + "/bin/hearth-router", "-c", self.conf, "--print-port",
                "-o", "http.listen=127.0.0.1:0", "-o", "bus.listen=" + self.bus]
        for o in options:
            args += ["-o", o]
        self.proc = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.proc.stdout.readline()
        if not line:
            raise AssertionError("router did not start: " + self.log_text())
        self.port = int(line)
        self.workers = []
        self.url = "http://127.0.0.1:%d" % self.port

    def write_conf(self, text):
        with open(self.conf, "w") as f:
            f.write(text)

    def log_text(self):
        with open(os.path.join(self.dir, "router.log")) as f:
            return f.read()

    def worker(self, name="w1", model="tiny", cls="class-1", wait=True):
        w = Worker(self, name, model, cls)
        self.workers.append(w)
        if wait:
            wait_for(lambda: any(x["name"] == name and x["pid"] == w.proc.pid
                                 for x in self.status()["workers"]))
        return w

    def status(self):
        return json.loads(self.get("/admin/status")[2])

    def get(self, path, method="GET", headers={}, body=None, timeout=20):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        c.request(method, path, body, headers)
        r = c.getresponse()
        data = r.read()
        c.close()
        return r.status, {k.lower(): v for k, v in r.getheaders()}, data

    def chat(self, text, timeout=20, **more):
        body = {"model": "tiny", "messages": [{"role": "user", "content": text}], **more}
        s, h, d = self.get("/v1/chat/completions", "POST", {"Content-Type": "application/json"},
                           json.dumps(body), timeout)
        return s, h, json.loads(d)

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.port))
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def stream(self, text, **more):
        """Opens a stream; answers the socket, the request is sent."""
        s = self.connect()
        s.sendall(post(text, stream=True, **more))
        return s

    def rss_kib(self):
        with open("/proc/%d/status" % self.proc.pid) as f:
            for line in f:
                if line.startswith("VmRSS"):
                    return int(line.split()[1])

    def fds(self):
        return len(os.listdir("/proc/%d/fd" % self.proc.pid))

    def stop(self):
        for w in self.workers:
            w.kill()
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
            time.sleep(0.02)
            try:
                self.proc.send_signal(signal.SIGTERM)
            except ProcessLookupError:
                pass
        code = self.proc.wait(20)
        self.proc.stdout.close()
        self.log.close()
        text = self.log_text()
        shutil.rmtree(self.dir, ignore_errors=True)
        if code != 0:
            raise AssertionError("router ended with %d:\n%s" % (code, text[-4000:]))

    def __enter__(self):
        return self

    def __exit__(self, *a):
        self.stop()


class Worker:
    def __init__(self, router, name, model, cls):
        self.lines = []
        self.proc = subprocess.Popen(
            [BUILD + "/tests/box/mock_worker", router.bus, name, model, cls],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.proc.stdout:
            self.lines.append(line.split())

    def seen(self, word):
        return [x for x in self.lines if x and x[0] == word]

    def kill(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        self.thread.join(5)
        self.proc.stdout.close()


def post(text, path="/v1/chat/completions", **more):
    body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": text}], **more})
    return (
        "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (path, len(body), body)
    ).encode()


def read_all(s, timeout=20):
    s.settimeout(timeout)
    out = b""
    while True:
        try:
            d = s.recv(65536)
        except ConnectionResetError:
            break
        if not d:
            break
        out += d
    return out


def read_until(s, mark, timeout=20):
    s.settimeout(timeout)
    out = bytearray()
    seen = 0
    while out.find(mark, seen) < 0:
        seen = max(0, len(out) - len(mark))
        d = s.recv(65536)
        if not d:
            raise AssertionError("closed before %r: %r" % (mark, bytes(out[-500:])))
        out += d
    return bytes(out)


def content_of(raw):
    """The content of choice 0 in the raw bytes of a chunked stream, and whether it has [DONE] and
    an error."""
    parts, error, done = [], None, False
    at = raw.index(b"\r\n\r\n") + 4
    data = bytearray()
    while at < len(raw):
        end = raw.index(b"\r\n", at)
        n = int(raw[at:end], 16)
        data += raw[end + 2:end + 2 + n]
        at = end + 4 + n
        if n == 0:
            break
    for line in data.decode().split("\n"):
        if not line.startswith("data: "):
            continue
        if line == "data: [DONE]":
            done = True
            continue
        v = json.loads(line[6:])
        if "error" in v:
            error = v["error"]
            continue
        for c in v["choices"]:
            if c["index"] == 0:
                parts.append(c["delta"].get("content") or "")
    return "".join(parts), done, error


class Cloud:
    """A server of the dialect whose behaviour is set by `mode`."""

    def __init__(self):
        cloud = self
        self.mode = "ok"
        self.retry_after = "1"
        self.requests = []
        self.hold = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *a):
                pass

            def do_GET(self):
                mode = cloud.mode
                if mode == "hang":
                    cloud.hold.wait(5)
                self.answer(500 if mode == "500" else 200, b'{"object":"list","data":[]}')

            def answer(self, status, body, headers={}):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                for k, v in headers.items():
                    self.send_header(k, v)
                self.end_headers()
                self.wfile.write(body)

            def event(self, v):
                self.wfile.write(
                    b"data: " + (v if isinstance(v, bytes) else json.dumps(v).encode()) + b"\n\n"
                )
                self.wfile.flush()

            def chunk(self, delta, finish=None, **more):
                self.event(
                    {
                        "id": "c",
                        "object": "chat.completion.chunk",
                        "created": 1,
                        "model": "m",
                        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
                        **more,
                    }
                )

            def do_POST(self):
                n = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(n))
                cloud.requests.append((body, dict(self.headers)))
                mode = cloud.mode
                self.close_connection = True
                if mode == "500":
                    return self.answer(500, b'{"error":{"message":"cloud is ill"}}')
                if mode == "401":
                    return self.answer(401, b'{"error":{"message":"wrong key"}}')
                if mode == "400":
                    return self.answer(
                        400, b'{"error":{"message":"no such thing","param":"tools","code":null}}'
                    )
                if mode == "429":
                    return self.answer(
                        429, b'{"error":{"message":"slow down"}}', {"Retry-After": cloud.retry_after}
                    )
                if mode == "html":
                    return self.answer(200, b"<html>hello</html>")
                if mode == "redirect":
                    return self.answer(302, b"", {"Location": "http://127.0.0.1:1/"})
                if mode == "hang":
                    cloud.hold.wait(30)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                if mode == "cut":       # before the first token
                    return
                if mode == "silent":    # headers, then nothing
                    cloud.hold.wait(30)
                    return
                if mode == "garbage":
                    return self.event(b"{not json")
                if mode == "error":
                    return self.event({"error": {"message": "inside"}})
                self.chunk({"role": "assistant", "content": ""})
                if mode == "midcut":
                    self.chunk({"content": "half"})
                    return
                if mode == "tools0":    # all with index 0, the id and name again and again
                    for i in range(2):
                        for piece in ('{"a"', ":%d}" % i):
                            self.chunk(
                                {
                                    "tool_calls": [
                                        {
                                            "index": 0,
                                            "id": "id%d" % i,
                                            "type": "function",
                                            "function": {"name": "f%d" % i, "arguments": piece},
                                        }
                                    ]
                                }
                            )
                    self.chunk({}, "stop")
                elif mode == "noindex":
                    self.chunk(
                        {"tool_calls": [{"id": "x", "function": {"name": "f", "arguments": "{"}}]}
                    )
                    self.chunk({"tool_calls": [{"function": {"arguments": "}"}}]})
                    self.chunk(
                        {"tool_calls": [{"id": "y", "function": {"name": "g", "arguments": "{}"}}]}
                    )
                    self.chunk({}, "tool_calls")
                else:
                    self.chunk({"reasoning": "hm "})
                    for w in ("cloud ", "says ", "h\u00e9llo"):
                        self.chunk({"content": w})
                    self.chunk({}, "stop")
                self.event(
                    {
                        "choices": [],
                        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
                    }
                )
                self.event(b"[DONE]")

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = "http://127.0.0.1:%d/v1" % self.port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()


def percentile(xs, p):
    xs = sorted(xs)
    return xs[min(len(xs) - 1, int(len(xs) * p))]


def main(tests):
    passed = failed = skipped = 0
    names = sys.argv[1:]
    for name, fn in tests.items():
        if not name.startswith("test_") or (names and name not in names):
            continue
        start = time.monotonic()
        try:
            note = fn()
            passed += 1
            print(
                "ok      %s (%.1f s)%s"
                % (name, time.monotonic() - start, ": " + note if note else ""),
                flush=True,
            )
        except Skip as e:
            skipped += 1
            print("skipped %s: %s" % (name, e), flush=True)
        except Exception:
            failed += 1
            print("FAILED  %s\n%s" % (name, traceback.format_exc()), flush=True)
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    sys.exit(1 if failed else 0 if passed else 77)

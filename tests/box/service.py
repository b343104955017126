"""service.py - what the programs tell a service manager, and what they take from it: NOTIFY_SOCKET, WATCHDOG_USEC,
LISTEN_FDS, CREDENTIALS_DIRECTORY, SIGHUP and SIGTERM, with this script in systemd's place."""
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

from box import BUILD, Skip, main, wait_for

SRC = os.path.abspath(os.environ.get("top_srcdir", "."))
TINY = SRC + "/models/tiny"


class Manager:
    """Starts a program as systemd would and hears what it says of itself."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="hearth-svc-")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.dir + "/notify")
        self.sock.setblocking(False)
        self.said = []
        self.proc = None

    def start(self, args, env=None, fd=None):
        e = {**os.environ, "NOTIFY_SOCKET": self.dir + "/notify", **(env or {})}
        words = ["sh", "-c", 'export LISTEN_PID=$$; exec "$@"', "sh", *args]
        if fd is not None:
            e["LISTEN_FDS"] = "1"
        self.log = open(self.dir + "/log", "a+")

        def inherit():
            if fd is not None:
                os.dup2(fd, 3)
        self.proc = subprocess.Popen(words, env=e, stdout=self.log, stderr=self.log, preexec_fn=inherit,
                                     pass_fds=(3, fd) if fd is not None else ())
        return self

    def hear(self):
        while True:
            try:
                self.said += self.sock.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.said

    def wait(self, prefix, seconds=20):
        def found():
            if self.proc.poll() is not None and not any(x.startswith(prefix) for x in self.hear()):
                raise AssertionError("it ended with %s: %s" % (self.proc.returncode, self.text()))
            return [x for x in self.hear() if x.startswith(prefix)]
        return wait_for(found, seconds)

    def text(self):
        with open(self.dir + "/log") as f:
            return f.read()

    def status(self):
        return [x[7:] for x in self.hear() if x.startswith("STATUS=")]

    def stop(self):
        if self.proc and self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()


def listener(address="127.0.0.1"):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, 0))
    s.listen(64)
    return s


def router(m, conf="", args=(), **more):
    path = m.dir + "/hearth.conf"
    with open(path, "w") as f:
        f.write("[bus]\nlisten = ipc://%s/bus\n[http]\nlisten = 127.0.0.1:0\n%s" % (m.dir, conf))
    return m.start([BUILD + "/bin/hearth-router", "-c", path, *args], **more)


def get(port, path, headers=""):
    s = socket.create_connection(("127.0.0.1", port), timeout=10)
    s.sendall(("GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n" % (path, headers)).encode())
    data = b""
    while True:
        more = s.recv(65536)
        if not more:
            return data
        data += more


def test_router_says_ready_a_status_and_feeds_the_watchdog():
    m = router(Manager(), env={"WATCHDOG_USEC": "400000"})
    try:
        m.wait("READY=1")
        assert "0 of 0 workers ready" in m.status()[-1], m.status()
        wait_for(lambda: sum(x == "WATCHDOG=1" for x in m.hear()) >= 3, 5)
        m.proc.send_signal(signal.SIGSTOP)      # a loop that stands still must fall silent
        time.sleep(0.3)
        n = len(m.hear())
        time.sleep(0.8)
        assert len(m.hear()) == n
        m.proc.send_signal(signal.SIGCONT)
        m.proc.send_signal(signal.SIGTERM)
        m.wait("STOPPING=1")
        assert m.proc.wait(10) == 0
    finally:
        m.stop()


def test_reload_is_announced_and_a_bad_file_changes_nothing():
    m = router(Manager())
    try:
        m.wait("READY=1")
        with open(m.dir + "/hearth.conf", "a") as f:
            f.write("[route]\ngrace_ms = 77\n")
        m.proc.send_signal(signal.SIGHUP)
        m.wait("RELOADING=1")
        said = m.hear()
        at = said.index("RELOADING=1")
        assert said[at + 1].startswith("MONOTONIC_USEC="), said
        wait_for(lambda: "READY=1" in m.hear()[at:], 5)
        wait_for(lambda: "configuration 2" in m.status()[-1], 5)
        with open(m.dir + "/hearth.conf", "a") as f:
            f.write("grace_ms = soon\n")
        m.proc.send_signal(signal.SIGHUP)
        wait_for(lambda: "last reload refused" in m.status()[-1], 5)
        assert "hearth.conf:7" in m.status()[-1] and "configuration 2" in m.status()[-1], m.status()
    finally:
        m.stop()


def test_reload_waits_for_the_running_router_s_word():
    m = Manager()
    router(m, env={"RUNTIME_DIRECTORY": m.dir})

    def ask():
        return subprocess.run(
            [BUILD + "/bin/hearth-router", "--reload"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "RUNTIME_DIRECTORY": m.dir, "MAINPID": str(m.proc.pid)},
        )
    try:
        m.wait("READY=1")
        for _ in range(2):
            r = ask()
            assert (r.returncode, r.stdout) == (0, ""), r.stdout
        with open(m.dir + "/hearth.conf", "a") as f:
            f.write("[route]\ngrace_ms = soon\n")
        for _ in range(2):
            r = ask()
            assert r.returncode == 1 and "hearth.conf:6" in r.stdout, r.stdout
        m.stop()
        r = ask()
        assert r.returncode == 1 and "No such process" in r.stdout, r.stdout
    finally:
        m.stop()


def test_clients_wait_behind_the_socket_until_the_alias_has_a_worker_or_a_moment():
    with listener() as s:
        m = Manager()
        port = s.getsockname()[1]
        router(m, conf="[alias tiny]\nchain = worker:tiny\n[route]\nsettle_ms = 800\n", fd=s.fileno())
        try:
            m.wait("READY=1")
            t0 = time.monotonic()
            assert get(port, "/health").startswith(b"HTTP/1.1 200")
            assert 0.4 < time.monotonic() - t0 < 5, time.monotonic() - t0
            t0 = time.monotonic()
            assert get(port, "/health").startswith(b"HTTP/1.1 200")
            assert time.monotonic() - t0 < 0.4
        finally:
            m.stop()


def test_an_inherited_socket_takes_the_place_of_http_listen():
    with listener() as s:
        port = s.getsockname()[1]
        waiting = socket.create_connection(("127.0.0.1", port))     # before anybody serves
        waiting.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        m = router(Manager(), fd=s.fileno())
        try:
            m.wait("READY=1")
            waiting.settimeout(10)
            assert waiting.recv(1000).startswith(b"HTTP/1.1 200")
            assert "http.listen = 127.0.0.1:0 has no effect" in m.text(), m.text()
            # the next process gets what comes in between
            m.proc.send_signal(signal.SIGTERM)
            m.proc.wait(10)
            between = socket.create_connection(("127.0.0.1", port))
            between.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            router(m, fd=s.fileno())
            between.settimeout(10)
            assert between.recv(1000).startswith(b"HTTP/1.1 200")
        finally:
            m.stop()


def test_a_socket_off_loopback_needs_keys_at_start_and_at_reload():
    with listener("0.0.0.0") as s:
        m = router(Manager(), fd=s.fileno())
        try:
            assert m.proc.wait(10) == 1
            assert "not loopback" in m.text(), m.text()
            with open(m.dir + "/keys", "w") as f:
                f.write("me 0123456789abcdef\n")
            router(m, conf="keys_file = %s/keys\n" % m.dir, fd=s.fileno())
            m.wait("READY=1")
            with open(m.dir + "/hearth.conf", "w") as f:
                f.write("[bus]\nlisten = ipc://%s/bus\n" % m.dir)
            m.proc.send_signal(signal.SIGHUP)
            wait_for(lambda: "last reload refused" in m.status()[-1], 5)
            assert get(s.getsockname()[1], "/v1/models").startswith(b"HTTP/1.1 401")
        finally:
            m.stop()


def test_keys_come_as_a_credential():
    m = Manager()
    with open(m.dir + "/hearth.client-keys", "w") as f:
        f.write("me 0123456789abcdef\n")
    open(m.dir + "/hearth.empty", "w").close()
    with listener() as s:
        router(
            m, conf="keys_file = credential:hearth.client-keys\n", fd=s.fileno(), env={"CREDENTIALS_DIRECTORY": m.dir}
        )
        try:
            m.wait("READY=1")
            port = s.getsockname()[1]
            assert get(port, "/v1/models").startswith(b"HTTP/1.1 401")
            assert get(port, "/v1/models", "Authorization: Bearer 0123456789abcdef\r\n").startswith(b"HTTP/1.1 200")
        finally:
            m.stop()
    for name, env, word in (("hearth.none", m.dir, "no such credential"), ("hearth.empty", m.dir, "empty"),
                            ("../passwd", m.dir, "not the name"), ("hearth.client-keys", "", "no such")):
        router(m, conf="keys_file = credential:%s\n" % name, env={"CREDENTIALS_DIRECTORY": env})
        assert m.proc.wait(10) == 78, name
        assert word in m.text().splitlines()[-1], m.text()


def test_a_fresh_connection_is_answered_by_a_router_that_stops():
    with listener() as s:
        m = router(Manager(), fd=s.fileno())
        try:
            m.wait("READY=1")
            fresh = socket.create_connection(("127.0.0.1", s.getsockname()[1]))
            wait_for(lambda: " 1 connections" in " ".join(m.status()), 5)
            m.proc.send_signal(signal.SIGTERM)
            m.wait("STOPPING=1")
            time.sleep(0.2)
            fresh.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
            fresh.settimeout(5)
            assert fresh.recv(1000).startswith(b"HTTP/1.1 200")
            t0 = time.monotonic()
            assert m.proc.wait(10) == 0
            assert time.monotonic() - t0 < 5
        finally:
            m.stop()


def test_a_reply_that_a_slow_reader_has_not_taken_is_not_cut_by_the_stop():
    aliases = "".join("[alias %s-%d]\nchain = worker:x\n" % ("long" * 9, i) for i in range(8000))
    m = router(Manager(), conf=aliases, args=["--print-port"])      # a list of megabytes, far more than sockets hold
    try:
        port = int(wait_for(lambda: [x for x in m.text().split("\n") if x.isdigit()], 30)[0])
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        s.connect(("127.0.0.1", port))
        s.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.3)
        m.proc.send_signal(signal.SIGTERM)
        m.wait("STOPPING=1")
        time.sleep(0.3)
        s.settimeout(5)
        data = b""
        while True:
            more = s.recv(65536)
            if not more:
                break
            data += more
        head, body = data.split(b"\r\n\r\n", 1)
        n = int([x for x in head.split(b"\r\n") if x.lower().startswith(b"content-length:")][0].split(b":")[1])
        assert n > 1 << 19, n
        assert len(body) == n, "%d of %d bytes" % (len(body), n)
    finally:
        m.stop()


def worker(m, *more, **kw):
    if not os.path.exists(TINY + "/model-00001-of-00003.safetensors"):
        raise Skip("models/tiny has no weights")
    conf = m.dir + "/worker.conf"
    with open(conf, "w") as f:
        f.write("[worker]\nmodel = %s\nconnect = ipc://%s/bus\nslots = 4\nthreads = 1\n" % (TINY, m.dir))
    return m.start([BUILD + "/bin/hearth-worker", "serve", "--config", conf, "--alias", "tiny", *more], **kw)


def test_worker_is_ready_after_its_self_test_and_without_a_router():
    m = worker(Manager(), env={"WATCHDOG_USEC": "2000000"})
    try:
        m.wait("READY=1", 60)
        said = m.hear()
        before = said[:said.index("READY=1")]
        assert "STATUS=self-test" in before, before
        assert any(x.startswith("EXTEND_TIMEOUT_USEC=") for x in before), before
        assert "self-test:" in m.text()
        wait_for(lambda: "no router at ipc://" in m.status()[-1], 10)
        wait_for(lambda: m.hear().count("WATCHDOG=1") >= 3, 10)
        r = router(Manager())
        r.stop()
        m.proc.send_signal(signal.SIGTERM)
        m.wait("STOPPING=1")
        assert m.proc.wait(10) == 0
    finally:
        m.stop()


def test_a_broken_model_is_a_status_and_78():
    m = Manager()
    m.start([BUILD + "/bin/hearth-worker", "serve", m.dir, "--connect", "ipc://x", "--alias", "a"])
    assert m.proc.wait(20) == 78
    assert m.status()[-1] and "READY=1" not in m.hear(), m.hear()


if __name__ == "__main__":
    main(dict(globals()))

"""A router and workers as real processes on loopback, for tests.

    with Rack(build, config=..., workers=[...]) as rack:
        rack.url, rack.chat({...}), rack.stream({...})

Standard library only.  Every process is ended on the way out; logs lie in rack.dir.
"""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Rack:
    def __init__(self, build, model_dir, alias="tiny", n_workers=1, config="", worker_args=(), router_args=()):
        self.build, self.model_dir, self.alias = build, model_dir, alias
        self.dir = tempfile.mkdtemp(prefix="hearth-rack-")
        self.port = free_port()
        self.bus = f"ipc://{self.dir}/bus"
        self.config, self.n_workers = config, n_workers
        self.worker_args, self.router_args = list(worker_args), list(router_args)
        self.processes = {}

    def _start(self, name, args):
        log = open(f"{self.dir}/{name}.log", "ab")
        self.processes[name] = subprocess.Popen(args, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def start_router(self):
        path = f"{self.dir}/hearth.conf"
        with open(path, "w") as f:
            f.write(f"[http]\nlisten = 127.0.0.1:{self.port}\n[bus]\nlisten = {self.bus}\n{self.config}\n")
        self._start("router", [f"{self.build}/bin/hearth-router", "-c", path, *self.router_args])

    def start_worker(self, i):
        self._start(f"worker{i}", [f"{self.build}/bin/hearth-worker", "serve", self.model_dir, "--connect", self.bus,
                                   "--alias", self.alias, "--name", f"w{i}", *self.worker_args])

    def kill(self, name, sig=signal.SIGKILL):
        p = self.processes.pop(name)
        p.send_signal(sig)
        p.wait(30)

    def __enter__(self):
        try:
            self.start_router()
            for i in range(self.n_workers):
                self.start_worker(i)
            self.wait_model()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_):
        for p in self.processes.values():
            p.terminate()
        for p in self.processes.values():
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        if os.environ.get("HEARTH_KEEP"):
            print("kept", self.dir)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def log(self, name):
        with open(f"{self.dir}/{name}.log") as f:
            return f.read()

    def connect(self, timeout=120):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def get(self, path):
        c = self.connect(10)
        c.request("GET", path)
        r = c.getresponse()
        return r.status, r.read()

    def wait_model(self, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, p in self.processes.items():
                if p.poll() is not None:
                    raise RuntimeError(f"{name} ended with {p.returncode}:\n{self.log(name)}")
            try:
                status, body = self.get("/v1/models")
                if status == 200 and any(m["id"] == self.alias for m in json.loads(body)["data"]):
                    c = self.post("/v1/chat/completions", {"model": self.alias, "max_tokens": 1, "messages": [
                        {"role": "user", "content": "hi"}]})
                    if c[0] == 200:
                        return
            except OSError:
                pass
            time.sleep(0.05)
        raise TimeoutError("no model after %d s\n%s" % (seconds, "\n".join(self.log(n) for n in self.processes)))

    def post(self, path, body, headers=None):
        c = self.connect()
        c.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **(headers or {})})
        r = c.getresponse()
        return r.status, json.loads(r.read() or b"{}"), dict(r.getheaders())

    def stream(self, body):
        """Yields the JSON of each event; ends at [DONE], raises EOFError when it never came."""
        c = self.connect()
        c.request("POST", "/v1/chat/completions", json.dumps({**body, "stream": True}),
                  {"Content-Type": "application/json"})
        r = c.getresponse()
        if r.status != 200:
            raise RuntimeError(f"{r.status}: {r.read()!r}")
        for line in r:
            if line.startswith(b"data: "):
                data = line[6:].strip()
                if data == b"[DONE]":
                    c.close()
                    return
                yield json.loads(data)
        raise EOFError("stream ended without [DONE]")

    def text(self, body):
        """reasoning, content and calls of a streamed reply, joined."""
        out = {"reasoning": "", "content": "", "calls": {}, "finish": None}
        for event in self.stream(body):
            if "error" in event:
                raise RuntimeError(event["error"]["message"])
            for choice in event.get("choices", []):
                d = choice.get("delta", {})
                out["reasoning"] += d.get("reasoning_content") or ""
                out["content"] += d.get("content") or ""
                for call in d.get("tool_calls") or []:
                    have = out["calls"].setdefault(call["index"], ["", ""])
                    have[0] += call["function"].get("name") or ""
                    have[1] += call["function"].get("arguments") or ""
                out["finish"] = choice.get("finish_reason") or out["finish"]
        return out

"""load.py - clients that know what they must hear.

A client asks one of a few questions, streams the answer, and compares it with what the same question gave while nothing
was wrong.  Each attempt ends in exactly one of

    ok       the same bytes as the undisturbed answer, to the end
    wrong    an ending that says all is well, and other bytes: never allowed
    silent   a whole HTTP reply without [DONE] and without an error: never allowed
    told     an error in the dialect's shape: an event, or a status that says what is the matter and when to come again
    rude     an error in any other shape: never allowed
    cut      the connection broke; the client can tell (the reply is incomplete)
    refused  no connection at all
"""
import collections
import http.client
import json
import threading
import time

KINDS = ("ok", "wrong", "silent", "told", "rude", "cut", "refused")
QUESTIONS = [
    "What is 17 plus 25?", "Tell me a short story.", "Remember the word amber. What is the word?",
    "Give me JSON with a name and an age.", "What is 9 times 8?", "Describe a river in two sentences.",
    "Count from one to twenty.", "Write about the sea.",
]


def chunked_lines(f):
    """Lines of a chunked body.  http.client takes an end between two chunks for the end of the body; we do not."""
    def broken(line):
        if not line.endswith(b"\n"):
            raise http.client.IncompleteRead(line)
        return line.strip()
    rest = b""
    while True:
        n = int(broken(f.readline()).split(b";")[0], 16)
        if n == 0:
            while broken(f.readline()):
                pass
            if rest:
                yield rest
            return
        data = f.read(n)
        if len(data) < n:
            raise http.client.IncompleteRead(data)
        broken(f.readline())
        *whole, rest = (rest + data).split(b"\n")
        yield from whole


def told_or_rude(error, status=None, headers=()):
    """docs/dialect.md: every error has a message, a type and a code; 429 and 503 say when to come again, or that it is no use."""
    error = error if isinstance(error, dict) else {}
    if not isinstance(error.get("message"), str) or not error["message"] or not isinstance(error.get("type"), str) \
            or "code" not in error:
        return "rude"
    if status in (429, 503) and "retry-after" not in headers and "x-should-retry" not in headers:
        return "rude"
    return "told"


class Client:
    def __init__(self, address, port=8080, key=None, timeout=120):
        self.address, self.port, self.key, self.timeout = address, port, key, timeout

    def request(self, method, path, body=None):
        c = http.client.HTTPConnection(self.address, self.port, timeout=self.timeout)
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = "Bearer " + self.key
        c.request(method, path, json.dumps(body) if body is not None else None, headers)
        return c, c.getresponse()

    def get(self, path):
        c, r = self.request("GET", path)
        data = r.read()
        c.close()
        return r.status, data

    def stream(self, model, question, max_tokens, seed):
        """(kind, text, why)"""
        body = {"model": model, "stream": True, "max_tokens": max_tokens, "temperature": 0.8, "seed": seed,
                "messages": [{"role": "user", "content": question}]}
        text = []
        try:
            c, r = self.request("POST", "/v1/chat/completions", body)
        except (ConnectionRefusedError, TimeoutError) as e:
            return "refused", "", repr(e)
        except (OSError, http.client.HTTPException) as e:
            return "cut", "", repr(e)
        try:
            if r.status != 200:
                data = r.read()
                try:
                    error = json.loads(data).get("error")
                except (ValueError, AttributeError):
                    error = None
                kind = told_or_rude(error, r.status, {k.lower() for k, _ in r.getheaders()})
                return kind, "", "%d %s" % (r.status, data[:200])
            return self.read(r, text)
        except (OSError, http.client.HTTPException) as e:
            return "cut", "".join(text), repr(e)
        finally:
            c.close()

    @staticmethod
    def read(r, text):
        finish = None
        for line in chunked_lines(r.fp) if r.chunked else r:
            if not line.startswith(b"data: "):
                continue
            data = line[6:].strip()
            if data == b"[DONE]":
                return ("ok" if finish else "silent"), "".join(text) + "|" + str(finish), ""
            event = json.loads(data)
            if "error" in event:
                return told_or_rude(event["error"]), "".join(text), str(event["error"])[:200]
            for choice in event.get("choices", ()):
                d = choice.get("delta", {})
                text.append(d.get("reasoning_content") or "")
                text.append(d.get("content") or "")
                for call in d.get("tool_calls") or ():
                    text.append(json.dumps(call["function"], sort_keys=True))
                finish = choice.get("finish_reason") or finish
        return "silent", "".join(text), "the reply ended without [DONE]"


class Load:
    """`n` clients at it all the time, between start() and stop()."""

    def __init__(self, client, n=32, model="tiny", max_tokens=160):
        self.client, self.n, self.model, self.max_tokens = client, n, model, max_tokens
        self.right = {}
        self.lock = threading.Lock()
        self.results = collections.Counter()
        self.reasons = collections.Counter()
        self.bad = []
        self.failed = []        # (begun, ended, kind, why) of each attempt that did not get its answer
        self.over = threading.Event()
        self.threads = []

    def learn(self):
        """The undisturbed answers, each asked twice."""
        for i, q in enumerate(QUESTIONS):
            kind, text, why = self.client.stream(self.model, q, self.max_tokens, i)
            again = self.client.stream(self.model, q, self.max_tokens, i)
            assert kind == "ok", "undisturbed, and yet: %s %s" % (kind, why)
            assert again[1] == text, "undisturbed, and yet two answers:\n%r\n%r" % (text, again[1])
            self.right[i] = text

    def one(self, i):
        begun = time.monotonic()
        kind, text, why = self.client.stream(self.model, QUESTIONS[i], self.max_tokens, i)
        right = self.right[i]
        if kind == "ok" and text != right:
            kind, why = "wrong", "expected %r, got %r" % (right, text)
        elif kind in ("told", "rude", "cut") and not right.startswith(text):
            kind, why = "wrong", "%s, and before it %r instead of %r" % (kind, text, right)
        with self.lock:
            self.results[kind] += 1
            if kind != "ok":
                self.failed.append((begun, time.monotonic(), kind, why))
                self.reasons[kind + ": " + why[:160]] += 1
            if kind in ("wrong", "silent", "rude"):
                self.bad.append(why)
        return kind

    def _run(self, k):
        i = k
        while not self.over.is_set():
            if self.one(i % len(QUESTIONS)) != "ok":
                time.sleep(0.1)
            i += 7

    def start(self):
        self.over.clear()
        self.threads = [threading.Thread(target=self._run, args=(k,), daemon=True) for k in range(self.n)]
        for t in self.threads:
            t.start()

    def stop(self):
        self.over.set()
        for t in self.threads:
            t.join(180)
            assert not t.is_alive(), "a client hangs"

    def mark(self):
        """Counts since the last mark."""
        with self.lock:
            r, self.results = self.results, collections.Counter()
            why, self.reasons = self.reasons, collections.Counter()
        return r, why

#!/usr/bin/env python3
"""ctl_completion.py - the shells' completion of hearthctl, as bash and zsh read it.

    top_builddir=build python3 tests/box/ctl_completion.py
"""
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time

from box import BUILD, Router, Skip, main

DUMP = [line.split("\t") for line in subprocess.run(
    [BUILD + "/bin/hearthctl", "--dump-options"], capture_output=True, text=True, check=True).stdout.splitlines()]
COMMANDS = [x for x in DUMP if not x[0].startswith("-")]
OPTIONS = [x for x in DUMP if x[0].startswith("-")]
HELP = subprocess.run([BUILD + "/bin/hearthctl", "--help"], capture_output=True, text=True, check=True).stdout


def complete(line, url=None):
    """What bash offers for the last word of `line`, with the installed file sourced."""
    words = [w for x in line.split(" ") for w in ([y for y in re.split("([:=]+)", x) if y] or [x])]  # as readline does
    script = """set -u
hearthctl() { %s/bin/hearthctl %s "$@"; }
source %s/ctl/completion/hearthctl
COMP_WORDS=(%s) COMP_CWORD=%d COMP_LINE='%s' COMP_POINT=%d
$(complete -p hearthctl | sed 's/.*-F \\([^ ]*\\).*/\\1/') hearthctl
printf '%%s\\n' "${COMPREPLY[@]-}"
""" % (BUILD, "--url " + url if url else "", BUILD, " ".join("'%s'" % w for w in words), len(words) - 1, line, len(line))
    p = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, timeout=20)
    assert p.returncode == 0 and not p.stderr, p.stderr
    return {x for x in p.stdout.split("\n") if x}


def test_the_dump_is_what_help_says():
    assert all(len(x) == 3 and x[2] for x in DUMP), DUMP
    assert len(COMMANDS) > 10 and len({x[0] for x in DUMP}) == len(DUMP)
    for name, arg, text in DUMP:
        assert text in HELP and " ".join(x for x in (name, arg) if x) in HELP, name


def test_bash_offers_every_command_and_option():
    assert complete("hearthctl ") == {x[0].split()[0] for x in COMMANDS}
    for noun in {x[0].split()[0] for x in COMMANDS if " " in x[0]}:
        assert complete("hearthctl %s " % noun) == {x[0].split()[1] for x in COMMANDS if x[0].startswith(noun + " ")}
    assert complete("hearthctl -") == {w for x in OPTIONS for w in x[0].split(", ")}
    assert complete("hearthctl st") == {"status"}
    # options and their words are jumped over
    assert complete("hearthctl --url http://x --json config d") == {"diff"}
    assert complete("hearthctl nonsense ") == set()


def test_bash_offers_files_and_names():
    assert BUILD + "/Makefile" in complete("hearthctl --key-file %s/Makef" % BUILD)
    assert complete("hearthctl keys add --role ") == {"client", "admin"}
    assert complete("hearthctl --role admin keys a") == {"add"}
    with Router("[alias fast]\nchain = worker:tiny\n") as r:
        r.worker()
        r.worker("w2", model="slow$(id)")
        assert complete("hearthctl load ", r.url) == {"fast", "tiny"}
        assert complete("hearthctl -m f", r.url) == {"fast"}
    assert complete("hearthctl load ", "http://127.0.0.1:9") == set()


def typed(shell, text, until, **env):
    """What an interactive shell shows when `text` is typed; ends when `until` matches, or after ten seconds."""
    pid, fd = pty.fork()
    if not pid:
        os.environ.update(env, PATH=os.path.abspath(BUILD) + "/bin:" + os.environ["PATH"], TERM="dumb")
        os.execvp(shell[0], shell)
    out = b""
    os.write(fd, text.encode())
    end = time.monotonic() + 10
    while not re.search(until, out.decode(errors="replace")) and time.monotonic() < end:
        if select.select([fd], [], [], 0.2)[0]:
            try:
                out += os.read(fd, 65536)
            except OSError:
                break
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(fd)
    return out.decode(errors="replace")


def test_the_router_that_the_line_names_is_asked():
    with Router("[alias far]\nchain = worker:tiny\n[alias Qwen/q:free]\nchain = worker:tiny\n", ["http.trust_local=no"]) as r, \
            tempfile.TemporaryDirectory() as d:
        r.worker()
        for ask in ("-u " + r.url, "--url " + r.url, "--url=" + r.url, "-u" + r.url):
            assert complete("hearthctl %s load " % ask) == {"far", "tiny", "Qwen/q:free"}, ask
            assert complete("hearthctl load %s --json f" % ask) == {"far"}, ask
            assert complete("hearthctl %s -m f" % ask) == {"far"}, ask
        # readline replaces what stands behind the colon
        assert complete("hearthctl -u %s load Qwen/q:" % r.url) == {"free"}
        # a router that wants a key
        with open(d + "/keys", "w") as f:
            f.write("a 12345678 admin\n")
        with open(d + "/mine", "w") as f:
            f.write("12345678\n")
        r.write_conf("[http]\nkeys_file = %s/keys\n[alias far]\nchain = worker:tiny\n" % d)
        assert subprocess.run([BUILD + "/bin/hearthctl", "-u", r.url, "config", "reload"]).returncode == 0
        assert complete("hearthctl -u %s load " % r.url) == set()
        assert complete("hearthctl -k %s/mine -u %s load f" % (d, r.url)) == {"far"}
        # as the shells themselves do it, with a person's keys
        line = "hearthctl --key-file ~/mine -u %s load \t\t" % r.url
        with open(d + "/rc", "w") as f:
            f.write("bind 'set show-all-if-ambiguous on'\nsource %s/ctl/completion/hearthctl\n" % os.path.abspath(BUILD))
        out = typed(["bash", "--noprofile", "--rcfile", d + "/rc", "-i"], line, r"far\s+tiny", HOME=d)
        assert re.search(r"far\s+tiny", out), out
        if not shutil.which("zsh"):
            return "no zsh"
        with open(d + "/.zshrc", "w") as f:
            f.write("autoload -Uz compinit; compinit -D -u; source %s/ctl/completion/_hearthctl\n" % os.path.abspath(BUILD))
        out = typed(["zsh", "-i"], line, r"far\s+tiny", HOME=d, ZDOTDIR=d)
        assert re.search(r"far\s+tiny", out), out


def test_zsh_loads_it_and_knows_every_command():
    if not shutil.which("zsh"):
        raise Skip("no zsh")
    path = BUILD + "/ctl/completion/_hearthctl"
    p = subprocess.run(["zsh", "-fn", path], capture_output=True, text=True, timeout=20)
    assert p.returncode == 0 and not p.stderr, p.stderr
    p = subprocess.run(["zsh", "-fc", "autoload -Uz compinit; compinit -D -u; source %s; "
                        "whence -w _hearthctl; print -r -- $_comps[hearthctl]" % path],
                       capture_output=True, text=True, timeout=30)
    assert p.stdout.split("\n")[:2] == ["_hearthctl: function", "_hearthctl"], (p.stdout, p.stderr)
    assert "'--role[" in open(path).read() and ":ROLE:(client admin)'" in open(path).read()
    # what it would offer, with zsh's own functions replaced by ones that print
    stub = ("compdef() { }; _describe() { print -rl -- ${(P)2} }; source %s; " % path)
    p = subprocess.run(["zsh", "-fc", stub + "words=(''); CURRENT=1; _hearthctl_rest; print -r -- '=='; "
                        "words=(keys ''); CURRENT=2; _hearthctl_rest"], capture_output=True, text=True, timeout=20)
    first, second = p.stdout.split("==\n")
    assert {x.split(":")[0] for x in first.splitlines()} == {x[0].split()[0] for x in COMMANDS}, (first, p.stderr)
    assert {x.split(":")[0] for x in second.splitlines()} == {"list", "add", "remove"}, second


def test_other_shells_are_refused():
    p = subprocess.run([BUILD + "/bin/hearthctl", "--completion", "fish"], capture_output=True, text=True)
    assert p.returncode == 64 and "bash and zsh" in p.stderr


if __name__ == "__main__":
    main(dict(globals()))

#!/usr/bin/env python3
"""man_examples.py - runs every example of every manual page, and compares what the page shows with what comes.

    top_builddir=build top_srcdir=. python3 tests/box/man_examples.py [PAGE]...

An example is a literal display after a comment  .\\" example [setup rack] [needs systemd|gpu] . In it,
"$ " and "# " begin a command, "> " continues it, and other lines are what it prints, where "..." stands for any
text of a line and a line of nothing else for any lines; one that begins like a command has a \\& before it.

They run as they stand (/etc/hearth, /run/hearth, 127.0.0.1:8080) and touch nothing of this machine: each page has namespaces
of its own for mounts, network and processes, with a copy-on-write /etc, an empty /run and the tiny model in its place.
"setup rack" starts a router and a hearthd with the tiny model first.

HEARTH_EXAMPLES_NEED=gpu: only those.  HEARTH_EXAMPLES_BARE=1: where no such namespaces may be had, on the machine itself, in its
own /etc/hearth, /run/hearth and /usr/share/hearth, which must not exist yet and are removed: for a machine that is thrown away
(tests/gpu/serve.sh), as root.

Examples that need a GPU run where there is one, those that need systemd on a machine with the packages, where
HEARTH_EXAMPLES_SYSTEMD=1 asks for them and for no others (tests/rack/examples.py); elsewhere they are skipped, each with a
line.
"""
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import time

BUILD = os.path.abspath(os.environ.get("top_builddir", "build"))
SRC = os.path.abspath(os.environ.get("top_srcdir", "."))
TINY = SRC + "/models/tiny"
SYSTEMD = os.environ.get("HEARTH_EXAMPLES_SYSTEMD") == "1"
NEED = os.environ.get("HEARTH_EXAMPLES_NEED")
BARE = os.environ.get("HEARTH_EXAMPLES_BARE") == "1"
OURS = ["/etc/hearth", "/run/hearth", "/run/hearthd", "/usr/share/hearth"]     # of a machine without namespaces
END_OF_ALL = 60      # seconds an example may take
END_OF_GPU = 240     # tens of gigabytes are made up and measured
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child"]


def examples(path):
    """[(line, needs, setup, [(command, [expected line])])] of a page's source."""
    found, state, at = [], None, 0
    for number, line in enumerate(open(path), 1):
        line = line.rstrip("\n")
        if line.startswith('.\\" example'):
            words = line.split()[2:]
            pick = lambda w: words[words.index(w) + 1] if w in words else None
            found.append((number, pick("needs"), pick("setup"), []))
            state = "head"
        elif line.startswith(".Bd -literal"):
            if state != "head":
                raise SystemExit("%s:%d: a display without '.\\\" example'" % (path, number))
            state = "in"
        elif line.startswith(".Ed"):
            state = None
        elif line.startswith(".Dl") and at:
            raise SystemExit("%s:%d: examples are displays, so that they are run" % (path, number))
        elif state == "in":
            text = line.replace("\\e", "\\").replace("\\&", "")
            steps = found[-1][3]
            if line[:2] in ("$ ", "# "):
                steps.append([text[2:], []])
            elif line[:2] == "> ":
                steps[-1][0] += "\n" + text[2:]
            else:
                steps[-1][1].append(text)
        elif line.startswith(".Sh"):
            at = line.startswith(".Sh EXAMPLES")
    return found


def pattern(lines):
    out = ""
    for line in lines:
        if line == "...":
            out += r"(?:.*\n)*?"
        else:
            out += ".*?".join(re.escape(x) for x in line.split("...")) + r"\s*\n"
    return re.compile(out)


# ---- inside the namespaces ---------------------------------------------------------------------------------------


def sh(command):
    subprocess.run(command, shell=True, check=True)


def world():
    """The machine that the pages speak of."""
    sh("ip link set lo up")
    sh("mount -t tmpfs none /mnt && mkdir /mnt/up /mnt/work /mnt/share /mnt/share-work /mnt/tmp")
    sh("mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/up,workdir=/mnt/work /etc")
    sh("mount -t overlay overlay -o lowerdir=/usr/share,upperdir=/mnt/share,workdir=/mnt/share-work /usr/share")
    sh("mkdir -p /usr/share/hearth/models/tiny && mount --bind '%s' /usr/share/hearth/models/tiny" % TINY)
    sh("mount -t tmpfs none /run && mount -t proc proc /proc")


def settings():
    """/etc/hearth as the packages leave it: each page begins so."""
    sh("rm -rf /etc/hearth && mkdir -p /etc/hearth/worker.d /etc/hearth/hearth.conf.d /etc/hearth/hearthd.conf.d")
    sh("hearth-router --print-config-sample >/etc/hearth/hearth.conf")
    sh("hearthd --print-config-sample >/etc/hearth/hearthd.conf")
    sh("cp '%s/etc/worker.conf' /etc/hearth/" % SRC)


def sweep():
    """Nothing of the last example is left: workers outlive their hearthd on purpose.  We are the first process of our
    namespace, so these are all of ours and nobody else's."""
    if BARE:
        sh("rm -rf /run/hearth /run/hearthd /run/router.log /run/worker.log")     # run_steps() ended its session
        return
    assert os.getpid() == 1
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        while os.waitpid(-1, 0)[0]:
            pass
    except ChildProcessError:
        pass
    sh("rm -rf /run/* /mnt/tmp/*")


RACK = """
mkdir -p /run/hearth /run/hearthd
hearth-router 2>/run/router.log &
cat >/run/box.conf <<EOF
[box]
launcher = spawn
[memory]
reserve_mib = 256
judge = available
[model tiny]
path = /usr/share/hearth/models/tiny
pin = yes
EOF
hearthd -c /run/box.conf 2>/run/hearthd.log &
n=0
until hearthctl --json status 2>/dev/null | grep -q '"model":"tiny","state":"up".*"alias":"tiny","state":"ready"'; do
    sleep 0.2; n=$((n + 1)); [ $n -lt 200 ] || { cat /run/*.log; exit 9; }
done
"""


def run_steps(steps, setup, seconds=END_OF_ALL):
    """None, or what went wrong."""
    script = RACK if setup == "rack" else ""
    for i, (command, _) in enumerate(steps):
        # commands share one shell; what is printed is told apart by lines between
        script += "printf '\\n@@%d\\n'\n%s\n" % (i, command)
    script += "printf '\\n@@%d\\n'\n" % len(steps)
    p = subprocess.Popen(["bash", "-c", "exec 2>&1\n" + script], stdout=subprocess.PIPE,
                         start_new_session=True, cwd="/mnt/tmp" if os.path.isdir("/mnt/tmp") else "/")
    raw = b""
    end = time.monotonic() + seconds
    os.set_blocking(p.stdout.fileno(), False)
    # not to the end of the pipe: what runs in the background holds it
    while b"@@%d\n" % len(steps) not in raw and p.poll() is None and time.monotonic() < end:
        raw += p.stdout.read() or b""
        time.sleep(0.02)
    raw += p.stdout.read() or b""
    out = raw.decode(errors="replace")
    try:
        os.killpg(p.pid, signal.SIGTERM)
        time.sleep(0.2)
        os.killpg(p.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    p.wait()
    for i, (command, expected) in enumerate(steps):
        got = re.search(r"^@@%d\n(.*?)^@@%d\n" % (i, i + 1), out, re.S | re.M)
        if not got:
            logs = subprocess.run("tail -n 20 /run/*log", shell=True, capture_output=True, text=True).stdout
            return "'%s' did not end; all output:\n%s\n%s" % (command, out[-3000:], logs[-3000:])
        printed = got.group(1).rstrip("\n") + "\n" if got.group(1).strip() else ""
        if not pattern(expected).fullmatch(printed):
            return "'%s' is shown with\n%s\nand printed\n%s" % (command, "\n".join(expected), printed)
    return None


def run_page(path):
    failed = 0
    for line, needs, setup, steps in examples(path):
        name = "%s:%d" % (os.path.basename(path), line)
        inside = os.environ.get("HEARTH_IN_WORLD") == "1"
        if SYSTEMD != (needs == "systemd") and (SYSTEMD or not inside):
            continue
        if NEED and needs != NEED:
            continue
        why = lacks(needs)
        if why:
            print("SKIP %s: needs %s: %s" % (name, needs, why))
            continue
        began = time.monotonic()
        if needs != "systemd":
            sweep()
        problem = run_steps(steps, setup, END_OF_GPU if needs == "gpu" else END_OF_ALL)
        print("%s %s (%d commands, %.1f s)" % ("FAIL" if problem else "ok  ", name, len(steps),
                                               time.monotonic() - began), flush=True)
        if problem:
            print(problem, flush=True)
            failed += 1
    return failed


# ---- outside -------------------------------------------------------------------------------------------------------


def lacks(needs):
    if needs == "systemd":
        if not SYSTEMD or not os.path.isdir("/run/systemd/system"):
            return "not a machine with the packages, or HEARTH_EXAMPLES_SYSTEMD=1 is not set"
    elif needs == "gpu":
        if not os.path.exists("/dev/nvidia0"):
            return "there is none"
    elif needs:
        raise SystemExit("unknown need '%s'" % needs)
    return None


def run_bare(script, env):
    there = [x for x in OURS if os.path.lexists(x)]
    if there:
        raise SystemExit("HEARTH_EXAMPLES_BARE=1 is for a machine without Hearth, and here is " + " ".join(there))
    try:
        return subprocess.run(script, env=env).returncode
    finally:
        for x in OURS:
            shutil.rmtree(x, ignore_errors=True)


def main(names):
    os.environ["PATH"] = BUILD + "/bin:" + os.environ["PATH"]
    pages = sorted(glob.glob(SRC + "/man/*.in"))
    if names:
        pages = [p for p in pages if os.path.basename(p).split(".")[0] in names]
    if os.environ.get("HEARTH_IN_WORLD") == "1":
        if BARE:
            sh("mkdir -p /usr/share/hearth/models && ln -s '%s' /usr/share/hearth/models/tiny" % TINY)
        else:
            world()
        failed = 0
        for p in pages:
            settings()
            failed += run_page(p)
        return failed
    failed = 0
    for page in pages:
        if not examples(page):
            print("FAIL %s: no example" % page)
            failed += 1
    if SYSTEMD:
        return min(failed + sum(run_page(p) for p in pages), 1)
    if not os.path.exists(TINY + "/config.json"):
        print("SKIP: no tiny model")
        return 77
    env = dict(os.environ, HEARTH_IN_WORLD="1", top_builddir=BUILD, top_srcdir=SRC)
    script = [sys.executable, os.path.abspath(__file__), *names]
    if BARE:
        return min(failed + run_bare(script, env), 1)
    if not shutil.which("unshare") or subprocess.run([*UNSHARE, "sh", "-c", "mount -t tmpfs none /mnt && mkdir /mnt/a "
                                                      "/mnt/b && mount -t overlay o -o lowerdir=/etc,upperdir=/mnt/a,"
                                                      "workdir=/mnt/b /etc && ip link set lo up"],
                                                     capture_output=True).returncode:
        print("SKIP: no namespaces for a user, or no overlayfs, here")
        return 77
    failed += subprocess.run([*UNSHARE, *script], env=env).returncode
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

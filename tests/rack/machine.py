"""machine.py - booted machines on a bridge of their own: systemd-nspawn over an overlay of one cached Debian 12.

    net = Net()                       # this process moves into a network namespace with a bridge
    m = Machine(net, "box1", 3)       # 10.77.0.3
    m.boot(); m.run("systemctl is-active x"); m.stop()

No systemd on the host is needed: each machine gets a cgroup of its own by hand, and commands enter its namespaces.
Nothing outlives the process but the cached base; what lies under /var/cache/hearth-rack may be deleted at any time.
"""
import ctypes
import glob
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

CACHE = "/var/cache/hearth-rack"
MIRROR = os.environ.get("HEARTH_MIRROR", "http://deb.debian.org/debian")
# What the packages depend on is in the base, so that installing them needs no network; the rest boots and is looked at.
BASE_PACKAGES = (
    "systemd,systemd-sysv,dbus,iproute2,procps,ca-certificates,adduser,libfaketime,libzmq5,libprotobuf-c1,"
    "libevent-core-2.1-7,libevent-extra-2.1-7,libhttp-parser2.9,libjansson4,libinih1,libcurl4,libsmartcols1,"
    "libsystemd0,libxxhash0,libncursesw6,liburing2,libsqlite3-0,libpcre2-8-0,libutf8proc2"
)
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


class Absent(Exception):
    """Something this machine lacks: the test is skipped."""


def sh(*args, check=True, **more):
    r = subprocess.run(
        args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more
    )
    if check and r.returncode:
        raise RuntimeError("%s: %d\n%s" % (" ".join(args), r.returncode, r.stdout[-3000:]))
    return r


def need():
    if os.geteuid() != 0:
        raise Absent("not root")
    for tool in ("systemd-nspawn", "debootstrap", "ip", "nsenter", "dpkg-deb"):
        if not shutil.which(tool):
            raise Absent("no " + tool)


def cgroup_roots():
    """Mount points of the hierarchies that systemd uses: the unified one, and systemd's own where v1 is mounted."""
    roots = []
    with open("/proc/mounts") as f:
        for line in f:
            _, at, kind, options = line.split()[:4]
            if kind == "cgroup2" or kind == "cgroup" and "name=systemd" in options:
                roots.append(at)
    if not roots:
        raise Absent("no cgroup hierarchy is mounted")
    return roots


def base(packages=BASE_PACKAGES):
    """The cached root folder; made once (a minute and 300 MB of packages)."""
    digest = format(sum((i + 1) * b for i, b in enumerate(packages.encode())), "08x")
    at = "%s/bookworm-%s" % (CACHE, digest)
    if os.path.isdir(at):
        return at
    os.makedirs(CACHE, exist_ok=True)
    new = tempfile.mkdtemp(prefix="new-", dir=CACHE)
    os.chmod(new, 0o755)
    try:
        r = sh("debootstrap", "--variant=minbase", "--include=" + packages, "bookworm", new, MIRROR, check=False)
        if r.returncode:
            raise Absent("debootstrap cannot make a Debian 12 here:\n" + r.stdout[-1500:])
        os.rename(new, at)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return at


class Net:
    """A network namespace for this process and its children, with a bridge; addresses 10.77.0.x."""

    def __init__(self):
        if libc.unshare(CLONE_NEWNET) < 0:
            raise Absent("no network namespace: %s" % os.strerror(ctypes.get_errno()))
        sh("ip", "link", "set", "lo", "up")
        sh("ip", "link", "add", "rack0", "type", "bridge")
        sh("ip", "addr", "add", "10.77.0.1/24", "dev", "rack0")
        sh("ip", "link", "set", "rack0", "up")


class Machine:
    def __init__(self, net, name, number, disk_mib=600, packages=BASE_PACKAGES):
        """net None: it is on the host's network, with the host's resolver, and has no cable."""
        self.name, self.address, self.net, self.packages = name, "10.77.0.%d" % number, net, packages
        self.dir = tempfile.mkdtemp(prefix="hearth-%s-" % name)
        self.upper, self.root = self.dir + "/disk", self.dir + "/root"
        self.disk_mib = disk_mib
        self.proc = self.leader = None
        self.cgroups = []
        self.mounted = []
        self._mount()
        self.write("/etc/hostname", name + "\n")
        if net:
            self.write("/etc/systemd/network/10-host0.network",
                       "[Match]\nName=host0\n[Network]\nAddress=%s/24\nLinkLocalAddressing=no\n" % self.address)
            self.link("/lib/systemd/system/systemd-networkd.service",
                      "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service")
            self.link("/lib/systemd/system/systemd-networkd-wait-online.service",
                      "/etc/systemd/system/network-online.target.wants/systemd-networkd-wait-online.service")
        self.write("/etc/systemd/journald.conf.d/rack.conf", "[Journal]\nStorage=volatile\nRateLimitBurst=0\n")
        self.write("/etc/apt/apt.conf.d/00rack", 'APT::Get::Assume-Yes "true";\nAcquire::Retries "0";\n')

    def _mount(self):
        """The machine's disk is a tmpfs of a fixed size, so that it can be full without filling the host's."""
        for d in (self.upper, self.root):
            os.mkdir(d)
        sh("mount", "-t", "tmpfs", "-o", "size=%dm,mode=755" % self.disk_mib, "tmpfs", self.upper)
        self.mounted.append(self.upper)
        for d in ("up", "work"):
            os.mkdir(self.upper + "/" + d)
        sh("mount", "-t", "overlay", "overlay", "-o", "lowerdir=%s,upperdir=%s/up,workdir=%s/work" % (
            base(self.packages), self.upper, self.upper), self.root)
        self.mounted.append(self.root)

    def write(self, path, text, mode=0o644):
        """Only while the machine is off, or for paths that no mount of it covers."""
        at = self.root + path
        os.makedirs(os.path.dirname(at), exist_ok=True)
        with open(at, "w") as f:
            f.write(text)
        os.chmod(at, mode)

    def link(self, to, path):
        at = self.root + path
        os.makedirs(os.path.dirname(at), exist_ok=True)
        os.symlink(to, at)

    def boot(self, seconds=60):
        self.cgroups = []
        for r in cgroup_roots():
            at = "%s/hearth-rack-%d-%s" % (r, os.getpid(), self.name)
            os.makedirs(at, exist_ok=True)
            self.cgroups.append(at)

        def enter():
            os.setsid()
            for c in self.cgroups:
                with open(c + "/cgroup.procs", "w") as f:
                    f.write("0")
        self.log = open(self.dir + "/console", "ab")
        network = ["--network-bridge=rack0", "--resolv-conf=off"] if self.net else ["--resolv-conf=replace-host"]
        self.proc = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--keep-unit", "--register=no", "--boot", "--directory", self.root,
             "--machine", self.name, "--console=pipe", "--timezone=off", "--link-journal=no"] + network,
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, preexec_fn=enter)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.proc.poll() is not None:
                raise Absent("systemd-nspawn does not boot here:\n" + self.console())
            kids = sh("pgrep", "-P", str(self.proc.pid), check=False).stdout.split()
            if kids:
                self.leader = int(kids[0])
                state = self.run("systemctl is-system-running", check=False).stdout.strip()
                if state in ("running", "degraded"):
                    return
            time.sleep(0.2)
        raise Absent("%s did not boot in %d s:\n%s" % (self.name, seconds, self.console()))

    def console(self):
        with open(self.dir + "/console", errors="replace") as f:
            return f.read()[-2000:]

    def run(self, command, check=True, timeout=180):
        """A shell line inside; answers the CompletedProcess (stdout and stderr together)."""
        r = subprocess.run(
            ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--", "sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        )
        if check and r.returncode:
            said = re.search(r'"journalctl -xeu (\S+)"', r.stdout)        # systemctl names the unit that failed
            raise RuntimeError("%s: %s: %d\n%s%s" % (self.name, command, r.returncode, r.stdout[-3000:],
                                                    self.journal(said.group(1)) if said else ""))
        return r

    def put(self, path, text, mode=0o644):
        """A file inside the running machine."""
        r = subprocess.run(["nsenter", "-t", str(self.leader), "-m", "-r", "--", "sh", "-c",
                            "mkdir -p \"$(dirname '%s')\" && cat >'%s' && chmod %o '%s'" % (path, path, mode, path)],
                           input=text, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if r.returncode:
            raise RuntimeError("%s: %s: %s" % (self.name, path, r.stdout))

    def show(self, unit, prop):
        return self.run("systemctl show --value -p %s '%s'" % (prop, unit)).stdout.strip()

    def pid(self, unit):
        return int(self.show(unit, "MainPID"))

    def journal(self, unit, n=30):
        return self.run("journalctl --no-pager -o cat -n %d -u '%s'" % (n, unit), check=False).stdout

    def freeze(self, on):
        """Every process of the machine, its service manager too, stands still."""
        for c in self.cgroups:
            if os.path.exists(c + "/cgroup.freeze"):
                with open(c + "/cgroup.freeze", "w") as f:
                    f.write("1" if on else "0")
                return
        raise Absent("no cgroup v2 to freeze with")

    def cable(self, on):
        """The bridge's end of its only link."""
        sh("ip", "link", "set", "vb-" + self.name, "up" if on else "down")

    def stop(self):
        if self.proc and self.proc.poll() is None:
            try:
                self.freeze(False)
            except (Absent, OSError):
                pass
            os.kill(self.leader or self.proc.pid, signal.SIGKILL)
            try:
                self.proc.wait(20)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        for at in reversed(self.mounted):
            sh("umount", "-R", "-l", at, check=False)
        for c in self.cgroups:
            for d in sorted(glob.glob(c + "/**/", recursive=True), key=len, reverse=True):
                try:
                    os.rmdir(d)
                except OSError:
                    pass
        shutil.rmtree(self.dir, ignore_errors=True)

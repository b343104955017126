#!/usr/bin/env python3
"""Loading a model leaves the page cache as it was, however it is read; and a disk that fails is one line and status 74.

A checkpoint of some 600 MB is written below /var/tmp (HEARTH_READ_DIR), which should be a disk.  hearth-bench load says
what the kernel holds of its files before and after.  Failures are injected by strace, where there is one.
Exit 77: no disk there whose pages can be dropped.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

TOP = os.environ.get("top_srcdir", ".")
BUILD = os.environ.get("top_builddir", ".")
sys.path.insert(0, os.path.join(TOP, "tests", "tools"))
import synthetic_checkpoint  # noqa: E402

MIB = 1 << 20


def bench(model, how):
    p = subprocess.run([f"{BUILD}/bin/hearth-bench", "load", "--runs", "2", "--read", how, "--format", "json", model],
                       stdout=subprocess.PIPE, check=False)
    if p.returncode:
        sys.exit(f"hearth-bench load --read {how}: {p.returncode}")
    return json.loads(p.stdout)


def check_cache(model):
    for how in ("auto", "io_uring", "threads"):
        p = subprocess.run([f"{BUILD}/bin/hearth-worker", "serve", model, "--connect", "ipc:///nowhere", "--alias", "x",
                            "--hearthd", "none", "--read", how], stderr=subprocess.PIPE, text=True, check=False)
        if "--read io_uring: io_uring" in p.stderr:
            print(f"{how}: not permitted here: {p.stderr.strip()}")
            continue
        b = bench(model, how)
        for run in b["runs"]:
            if run["files_buffered"]:
                print(f"{how}: no O_DIRECT in {model}")
            assert run["files_cached_after"] == 0, (how, run)
            assert how == "auto" or run["read"] == how, run
        # the whole box's cache: other programs write meanwhile, so the better of two counts
        grown = min(abs(r["cached_after_load"] - r["cached_after_raw"]) for r in b["runs"])
        assert grown < 64 * MIB, (how, grown)
        print(f"{how}: {b['load_gb_s']:.2f} GB/s, raw {b['raw_gb_s']:.2f}; Cached changed by {grown / MIB:.1f} MiB")
    b = bench(model, "mapped")["runs"][-1]
    assert b["files_cached_after"] > 0.9 * 200e6, b
    print(f"mapped: {b['files_cached_after'] / MIB:.0f} MiB of its files stay")


def drop(folder):
    for name in os.listdir(folder):
        fd = os.open(os.path.join(folder, name), os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def worker(model, inject):
    args = [
        f"{BUILD}/bin/hearth-worker",
        "serve",
        model,
        "--connect",
        "ipc:///nowhere",
        "--alias",
        "x",
        "--hearthd",
        "none",
        "--read",
        "threads",
    ]
    # counted for each thread; the first one opens the files, and reads the header of each once or more
    return subprocess.run(
        [
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-P",
            os.path.join(model, "model-00002-of-00003.safetensors"),
            "-e",
            "trace=pread64",
            "-e",
            f"inject=pread64:{inject}",
        ]
        + args,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"},
    )  # it cannot be looked for under a tracer


def check_failures():
    probe = (
        subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
        if shutil.which("strace")
        else None
    )
    if not probe or probe.returncode:
        print("no strace here: failures are not injected")
        return
    tiny = os.path.realpath(os.path.join(TOP, "models", "tiny"))
    for inject, status, words in (
        ("error=EIO:when=4+", 74, "Input/output error"),
        ("retval=0:when=4+", 78, "became shorter"),
        ("error=EIO:when=1+", 74, "Input/output error"),
    ):
        p = worker(tiny, inject)
        lines = [x for x in p.stderr.splitlines() if "safetensors" in x]
        assert p.returncode == status, (inject, p.returncode, p.stderr)
        assert len(lines) == 1 and words in lines[0], (inject, p.stderr)
        print(f"{inject}: {status}: {lines[0]}")


def main():
    root = tempfile.mkdtemp(prefix="hearth-read-", dir=os.environ.get("HEARTH_READ_DIR", "/var/tmp"))
    try:
        model = os.path.join(root, "model")
        synthetic_checkpoint.build(
            "bf16-35b", model, {"layers": 4, "experts": 8, "vocab": 1024, "vision": False}, 3, True
        )
        drop(model)
        check_failures()
        if bench(model, "threads")["runs"][0]["files_cached_before"]:
            print(f"{root}: what was read cannot be dropped there")
            return 77
        check_cache(model)
    finally:
        shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())

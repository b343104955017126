#!/usr/bin/env python3
"""page_facts.py - the pages name every key, option, metric and message type there is, and none that is not.

What man/page.awk generates cannot fall behind; what people must place by hand (which key stands in which section, the
table of message types) can, and is held here against the parsers' own tables.
"""
import os
import re
import subprocess
import sys

BUILD = os.path.abspath(os.environ.get("top_builddir", "build"))
SRC = os.path.abspath(os.environ.get("top_srcdir", "."))
problems = []


def read(path):
    with open(path) as f:
        return f.read()


def said(program, option):
    return [x.split("\t") for x in
            subprocess.run(["%s/bin/%s" % (BUILD, program.split()[0]), *program.split()[1:], option],
                           capture_output=True, text=True, check=True).stdout.splitlines()]


def page(name):
    return read("%s/man/%s" % (BUILD, name))


def keys():
    source = read(SRC + "/man/hearth.conf.5.in")
    text = page("hearth.conf.5")
    for program in ("hearth-router", "hearthd", "hearth-worker serve"):
        rows = said(program, "--dump-keys")
        for section, key, kind, limits, default, when, help_ in rows:
            one = '.\\" @key %s: %s.%s\n' % (program, section, key)
            whole = '.\\" @keys %s: %s\n' % (program, section)
            if source.count(one) + source.count(whole) != 1:
                problems.append("hearth.conf(5): %s's %s.%s stands in it %d times" % (
                    program, section, key, source.count(one) + source.count(whole)))
            item = re.search(r"^\.It Ic %s\n\(([^)]*(?:\n[^)]*)*)\)" % re.escape(key), text, re.M)
            if not item or not help_:
                problems.append("hearth.conf(5): nothing about %s.%s" % (section, key))
    n = len(re.findall(r"^\.It Ic ", text, re.M))
    total = sum(len(said(p, "--dump-keys")) for p in ("hearth-router", "hearthd", "hearth-worker serve"))
    if n != total:
        problems.append("hearth.conf(5) has %d keys, the programs %d" % (n, total))
    return total


def options():
    n = 0
    for program, name in (("hearth-router", "hearth-router.8"), ("hearthd", "hearthd.8"),
                          ("hearth-worker serve", "hearth-worker.8"), ("hearth-worker check", "hearth-worker.8"),
                          ("hearthctl", "hearthctl.1"), ("hearth-bench step", "hearth-bench.1"), ("hearth-bench load", "hearth-bench.1"),
                          ("hearth-bench router", "hearth-bench.1"), ("hearth-bench compare", "hearth-bench.1"),
                          ("hearth-bench exact", "hearth-bench.1"), ("hearth-bench soak", "hearth-bench.1")):
        text = page(name)
        help_ = subprocess.run(["%s/bin/%s" % (BUILD, program.split()[0]), *program.split()[1:], "--help"],
                               capture_output=True, text=True)
        if help_.returncode:
            problems.append("%s --help exits with %d" % (program, help_.returncode))
        for names, arg, about in said(program, "--dump-options"):
            flags = names.split(", ")
            it = ".It " + (" , ".join("Fl " + x[1:] for x in flags) if names.startswith("-") else "Cm " + names)
            if it not in text:
                problems.append("%s: no '%s'" % (name, names))
            if flags[-1] not in help_.stdout:
                problems.append("%s --help: no '%s'" % (program, names))
            n += 1
        known = {x for row in said(program, "--dump-options") for x in row[0].split(", ")}
        for word in re.findall(r"--([a-z][a-z0-9-]+)", help_.stdout):
            if "--" + word not in known and "(" not in word and word not in ("connect",):
                problems.append("%s --help names --%s, its table does not" % (program, word))
    # each subcommand of hearth-bench is in its page
    for word in re.findall(r"hearth-bench (\w+)", subprocess.run([BUILD + "/bin/hearth-bench"], capture_output=True,
                                                                 text=True).stderr):
        if ".Ss Options of %s\n" % word not in page("hearth-bench.1"):
            problems.append("hearth-bench(1): nothing about '%s'" % word)
    return n


def types(header, prefix, source, names, section):
    """(name of the type, number, side, limit) in the C tables, and in a table of hearth-protocol(7)."""
    numbers, at = {}, 0
    body = re.search(r"enum %s_type \{(.*?)\};" % prefix.lower(), read(SRC + header), re.S).group(1)
    for word, _, value in re.findall(r"%s_(\w+)(\s*=\s*(\d+))?" % prefix, body):
        at = int(value) if value else at + 1
        numbers[word] = at
    numbers.pop("N_TYPES")
    limits = {}
    for word, sides, limit, desc in re.findall(
            r"\[%s_(\w+)\] = \{ \"[^\"]*\",\s*([A-Z_ |]+),\s*(.*?),\s*&h[wb]__(\w+?)__descriptor" % prefix,
            read(SRC + source), re.S):
        side = "both" if "|" in sides else names[sides.split("_FROM_")[1]]
        limit = re.sub(r"([KM])IB\((\d+)\)", r"\2 \1iB", limit)
        limit = limit + " bytes" if limit.isdigit() else "96 KiB with its header" if "MAX_PACKET" in limit else limit
        limits[word] = (desc.title().replace("_", ""), side, limit)
    text = page("hearth-protocol.7").split(section)[1].split(".El")[0]
    table = {a: (int(b), c, d) for a, b, c, d in re.findall(r"^\.It (\w+) Ta (\d+) Ta (\w+) Ta (.*)$", text, re.M)}
    for word, number in numbers.items():
        name, side, limit = limits[word]
        if table.pop(name, None) != (number, side, limit):
            problems.append("hearth-protocol(7): %s is %d from %s, %s at most" % (name, number, side, limit))
    for name in table:
        problems.append("hearth-protocol(7): there is no %s" % name)
    return len(numbers)


def messages():
    """Every message and enum of both files is in the page, by its fields."""
    source = read(SRC + "/man/hearth-protocol.7.in")
    n = 0
    for file in ("hearth.proto", "box.proto"):
        for kind, name in re.findall(r"^(message|enum) (\w+) \{", read("%s/proto/%s" % (SRC, file)), re.M):
            n += 1
            if "@%s %s %s\n" % ("message" if kind == "message" else "values", file, name) not in source:
                problems.append("hearth-protocol(7): %s of %s is not in it" % (name, file))
    return n


n_types = types("/proto/wire.h", "WIRE", "/proto/wire.c", {"WORKER": "worker", "ROUTER": "router"}, ".Ss Types\n")
n_types += types("/proto/box_wire.h", "BOX", "/proto/box_wire.c", {"CLIENT": "client", "DAEMON": "hearthd"},
                 ".Ss Types of the memory socket\n")
counts = (keys(), options(), n_types, messages())
for p in problems:
    print(p)
print("%d keys, %d options, %d types, %d messages: %d problems" % (*counts, len(problems)))
sys.exit(bool(problems))

#!/usr/bin/env python3
"""Makes the figures of docs/performance.md.

    bench/performance.py tables bench.json     the tables of a run (lagoon bench --json bench.json), into the page
    bench/performance.py profile tcp.push.64MiB [--rows 5]
                                               where the time of a figure goes, per process and thread (perf, as root)
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGE = os.path.join(ROOT, "docs/performance.md")
LAGOON = os.path.join(ROOT, "build/release/bin/lagoon")
SIZES = ["4KiB", "16KiB", "64KiB", "256KiB", "1MiB", "4MiB", "16MiB", "64MiB", "256MiB"]
TRANSPORTS = ["tcp", "ipc", "shm"]


def table(heads, rows):
    """Rows of cells as Markdown; the first column to the left, the others to the right."""
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def median(figures, name, digits=2):
    return "%.*f" % (digits, figures[name]["median"]) if name in figures else ""


def ratios(document):
    rows = []
    for name, ratio in document["ratios"].items():
        if ratio["value"] is None:
            continue
        bar = "%s %.2f" % ("≤" if ratio["sense"] == "at most" else "≥", ratio["bar"]) if ratio["bar"] else ""
        met = {True: "met", False: "**missed**", None: ""}[ratio["met"]]
        rows.append([name, "%.2f" % ratio["value"], "%.2f to %.2f" % (ratio["low"], ratio["high"]), bar, met])
    return table(["ratio", "median", "quartiles", "bar", ""], rows)


def limits(document):
    figures = document["figures"]
    rows = [[name, median(figures, name), "%.2f to %.2f" % (figure["low"], figure["high"]), figure["unit"]]
            for name, figure in figures.items()
            if name.startswith("limit.") and (name.count(".") < 3 or "64MiB" in name) and "4KiB" not in name]
    return table(["limit", "median", "quartiles", "unit"], rows)


def sizes(document):
    figures, rows = document["figures"], []
    for ending in ("", ".2workers", ".2shards", ".2shards.2workers"):
        for size in SIZES:
            cells = [median(figures, "%s.%s.%s%s" % (transport, what, size, ending))
                     for transport in TRANSPORTS for what in ("push", "pull", "pushpull")]
            if any(cells):
                rows.append([size + ending.replace(".2", ", 2 ")] + cells)
    return table(["GB/s"] + [transport + " " + what for transport in TRANSPORTS for what in ("push", "pull", "both")], rows)


def costs(document):
    figures = document["figures"]
    names = ["limit.zmq.push.64MiB", "limit.zmq.pushpull.64MiB"] + [
        "%s.%s.64MiB" % (transport, what) for transport in TRANSPORTS for what in ("push", "pull", "pushpull")]
    rows = [[name, median(figures, name), median(figures, name + ".cpu", 3), median(figures, name + ".faults", 0)]
            for name in names if name in figures]
    return table(["64 MiB", "GB/s", "server CPU s/GB", "page faults/GB"], rows)


def small(document):
    figures = document["figures"]
    rows = [[name, median(figures, name + ".roundtrip.p50", 1), median(figures, name + ".roundtrip.p99", 1)]
            for name in ["limit.zmq"] + TRANSPORTS if name + ".roundtrip.p50" in figures]
    return table(["64 bytes, µs", "p50", "p99"], rows)


def kernels(document):
    figures = document["figures"]
    rows = [[name, median(figures, "limit.kernel." + name), median(figures, "shard." + name),
             median(figures, "shard.%s.validated" % name)]
            for name in ("sgd", "momentum", "adam") if "shard." + name in figures]
    return table(["billions of parameters/s", "loop alone", "in a shard", "looking for NaN and infinity too"], rows)


def codecs(document):
    figures = document["figures"]
    names = [name.split(".")[1] for name in figures if re.match(r"codec\.\w+\.encode$", name)]
    rows = [[name, median(figures, "codec.%s.encode" % name, 1), median(figures, "codec.%s.decode" % name, 1),
             median(figures, "tcp.push.64MiB." + name)] for name in names]
    return table(["codec, GB/s of f32", "encode", "decode", "push of 64 MiB on tcp"], rows)


def training(document):
    figures = document["figures"]
    rows = []
    for transport in ("shm", "tcp"):
        for depth in (1, 2):
            name = "training.%s.pipeline%d" % (transport, depth)
            if name + ".share" in figures:
                rows.append(["%s, train.pipeline %d" % (transport, depth), "%.1f %%" % (
                    100 * figures[name + ".share"]["median"]), median(figures, name + ".rate", 0)])
    return table(["2 workers, 10 M parameters, batch 32", "communication share", "samples/s"], rows)


def write_tables(arguments):
    with open(arguments.document, encoding="utf-8") as file:
        document = json.load(file)
    with open(PAGE, encoding="utf-8") as file:
        page = file.read()
    for make in (ratios, limits, sizes, costs, small, kernels, codecs, training):
        mark = r"(<!-- %s -->\n).*?(<!-- end -->)" % make.__name__
        page, found = re.subn(mark, lambda match: match[1] + make(document) + "\n" + match[2], page, flags=re.S)
        if found != 1:
            sys.exit("docs/performance.md has no place for \"%s\"" % make.__name__)
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(page)


def samples(path):
    """(process, thread's name, symbol) of every sample in a perf file."""
    text = subprocess.run(["perf", "script", "-i", path, "-F", "pid,tid,comm,ip,sym"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, check=True).stdout
    for line in text.splitlines():
        match = re.match(r"\s*(.+?)\s+(\d+)/(\d+)\s+[0-9a-f]+\s+(.*)", line)
        if match:
            yield match[2], match[1], match[4], match[2] == match[3]


def profile(arguments):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "perf.data")
        subprocess.run(["perf", "record", "-q", "-a", "-F", "999", "-o", path, "--", LAGOON, "bench", "--quick",
                        "--filter", arguments.figure, "--seconds", "0.4"], stdout=subprocess.DEVNULL, check=True)
        rows = list(samples(path))
    names = {pid: thread for pid, thread, _, main in rows if main}
    counts = collections.defaultdict(collections.Counter)
    for pid, thread, symbol, _ in rows:
        process = names.get(pid, thread)
        if process.startswith(("bench-", "limit-")):
            counts[process + (", ZeroMQ's I/O thread" if thread.startswith("ZMQ") else "")][symbol] += 1
    for name, symbols in sorted(counts.items(), key=lambda item: -item[1].total()):
        top = ", ".join("%s %.0f %%" % (symbol, 100 * count / symbols.total())
                        for symbol, count in symbols.most_common(arguments.rows))
        print("%-34s %6d samples: %s" % (name, symbols.total(), top))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("tables")
    command.add_argument("document")
    command.set_defaults(run=write_tables)
    command = commands.add_parser("profile")
    command.add_argument("figure")
    command.add_argument("--rows", type=int, default=5)
    command.set_defaults(run=profile)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""coverage.py BUILD: lines covered per source file of a gcov build, least covered first, and the total.

Reads gcov's JSON; a line counts as covered when any object made from it ran it (updaters are compiled once per ISA)."""

import collections
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDERS = ("common/", "proto/", "client/", "gpu/", "server/", "worker/", "cli/")


def note_files(build):
    """The objects' notes, so that what never ran counts too."""
    for folder, _, files in os.walk(build):
        for file in files:
            if file.endswith(".gcno"):
                yield os.path.join(os.path.abspath(folder), file)


def read_counts(build):
    """Returns {source: {line: times run}}."""
    lines = collections.defaultdict(lambda: collections.defaultdict(int))
    for path in note_files(build):
        done = subprocess.run(["gcov", "--json-format", "--stdout", path], cwd=ROOT, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, check=True)
        for text in done.stdout.decode().splitlines():
            for file in json.loads(text)["files"]:
                name = os.path.relpath(os.path.join(ROOT, file["file"]), ROOT)
                for line in file["lines"]:
                    lines[name][line["line_number"]] += line["count"]
    return lines


def main():
    rows = []
    for name, lines in read_counts(sys.argv[1]).items():
        if name.startswith(FOLDERS) and lines:
            rows.append((sum(1 for count in lines.values() if count), len(lines), name))
    if not rows:
        print("coverage: no data below %s" % sys.argv[1], file=sys.stderr)
        return 1
    for covered, total, name in sorted(rows, key=lambda row: row[0] / row[1]):
        print("%5.1f %%  %5d of %5d  %s" % (100 * covered / total, covered, total, name))
    covered, total = sum(row[0] for row in rows), sum(row[1] for row in rows)
    print("%5.1f %%  %5d of %5d  lines of %d files" % (100 * covered / total, covered, total, len(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Checks which folders include which: the table below is docs/architecture.md's picture, made binding."""

import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EVERYTHING = {"common", "proto", "client", "gpu", "server", "worker", "sim", "cli", "bench", "tests"}
ALLOWED = {
    "common": {"common"},
    "proto": {"proto", "common"},
    "client": {"client", "proto", "common"},
    "gpu": {"gpu", "common"},
    "server": {"server", "client", "proto", "common"},
    "worker": {"worker", "client", "gpu", "proto", "common"},
    "sim": {"sim", "worker", "server", "client", "gpu", "proto", "common"},
    "cli": EVERYTHING - {"tests"},
    "bench": EVERYTHING - {"tests"},
    "tests": EVERYTHING,
}
GENERATED = "proto/lagoon.pb-c.h"
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def sources():
    for top in sorted(ALLOWED):
        for folder, folders, files in os.walk(os.path.join(ROOT, top)):
            folders.sort()
            for file in sorted(files):
                if file.endswith((".c", ".h", ".def", ".cu", ".cuh")):
                    yield os.path.relpath(os.path.join(folder, file), ROOT)


def check_include(path, quote, name):
    """Returns what is wrong with the file `path` including `name`, or None."""
    layer = path.split("/")[0]
    if name == GENERATED:
        return None if layer == "proto" else "generated protobuf code stays behind proto/wire.h"
    if quote == "<":
        return None
    if "/" not in name:
        return 'write the path from the top of the tree: "%s/%s"' % (os.path.dirname(path), name)
    target = name.split("/")[0]
    if target not in EVERYTHING or ".." in name.split("/"):
        return "it is not below one of %s" % ", ".join(sorted(EVERYTHING))
    if target not in ALLOWED[layer]:
        return "%s/ may include %s only" % (layer, ", ".join(sorted(ALLOWED[layer])))
    if not os.path.exists(os.path.join(ROOT, name)):
        return "there is no such file"
    return None


def main():
    count = bad = 0
    generated = []
    for path in sources():
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                count += 1
                if match.group(2) == GENERATED:
                    generated.append(path)
                problem = check_include(path, match.group(1), match.group(2))
                if problem:
                    print("%s:%d: includes %s: %s" % (path, number, match.group(2), problem))
                    bad += 1
    if len(generated) > 1:
        print("%s is included by %s; one file may touch generated code" % (GENERATED, " and ".join(generated)))
        bad += 1
    print("layers: %d includes looked at, %d wrong" % (count, bad))
    return 1 if bad or not count else 0


if __name__ == "__main__":
    sys.exit(main())

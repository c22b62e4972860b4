#!/bin/sh
# need.sh TOOL PACKAGE [TOOL PACKAGE ...]: fails, naming the Debian packages, when a tool is missing.
missing=
while [ $# -ge 2 ]; do
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
    shift 2
done
if [ -n "$missing" ]; then
    echo "a tool is missing; install it with: apt-get install$missing" >&2
    exit 1
fi

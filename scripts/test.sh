#!/bin/sh
# test.sh [MAKE ARGUMENTS]: installs what is missing, builds, and runs every test. `scripts/test.sh SAN=thread` does so
# under a sanitizer. The last line is "N passed, N failed, N skipped".
set -eu
cd "$(dirname "$0")/.."
scripts/install.sh build test
exec make --no-print-directory -j"$(nproc)" test "$@"

#!/bin/sh
# quickstart.sh [DEMO FLAGS]: installs what is missing (Debian packages), builds, and runs the demo: two shards and
# three workers train a model on this machine, one worker is killed on the way. See `lagoon demo --help`.
set -eu
cd "$(dirname "$0")/.."
scripts/install.sh build
make --no-print-directory -j"$(nproc)"
exec build/release/bin/lagoon demo "$@"

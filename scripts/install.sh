#!/bin/sh
# install.sh PART...: installs the packages of packages.sh that are missing, with apt-get, through sudo where not root.
# Does nothing, and asks for nothing, when all are there.
set -eu
cd "$(dirname "$0")/.."

missing=
for package in $(scripts/packages.sh "$@"); do
    state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
    case $state in ii*) ;; *) missing="$missing $package" ;; esac
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "apt-get is not here; install by hand what corresponds to these Debian packages:$missing" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "packages are missing, and this is neither root nor has sudo; as root: apt-get install$missing" >&2
        exit 1
    fi
    as_root=sudo
fi
echo "installing:$missing"
# shellcheck disable=SC2086 # lists of words
$as_root apt-get update -q
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing

#!/bin/sh
# bundle-deps.sh [FOLDER]: downloads the Debian packages of the libraries that building and testing need, with all they
# depend on, into FOLDER (default build/deps), for a machine that reaches no package registry. There,
# scripts/gpu-check.sh --deps=FOLDER unpacks them beside everything (no root, nothing of the system is replaced), so it
# may be another distribution with a C library as new; compilers, make, Python and CUDA have to be there.
# Nothing is installed here.
set -eu
cd "$(dirname "$0")/.."
folder=${1:-build/deps}
mkdir -p "$folder"

# shellcheck disable=SC2046 # a list of words
wanted=$(scripts/packages.sh build test | grep -v -x -E 'make|gcc|g\+\+|libc6-dev|python3')
# shellcheck disable=SC2086
all=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
    $wanted | grep '^[a-z0-9]' | sort -u)
for package in $all; do
    case $package in # the system's own, and what only matters to who installs
    libc6* | libc-* | linux-libc-* | gcc-* | libgcc* | libstdc++* | cpp* | binutils* | perl* | python* | debconf* | dpkg* | libopenblas*-serial* | libopenblas*-openmp* | icu-devtools | libicu-dev) continue ;;
    esac
    case $(dpkg-query -W -f '${Priority} ${Essential}' "$package" 2>/dev/null || true) in
    required* | *yes) continue ;;
    esac
    apt-cache show "$package" >/dev/null 2>&1 && echo "$package"
done >"$folder/packages.txt"
# shellcheck disable=SC2046
(cd "$folder" && apt-get download -q $(cat packages.txt))
# shellcheck disable=SC1091 # there on every Debian
. /etc/os-release
echo "$ID ${VERSION_ID:-} $(dpkg --print-architecture)" >"$folder/release.txt"
echo "$(find "$folder" -name '*.deb' | wc -l) packages, $(du -sh "$folder" | cut -f1), for $(cat "$folder/release.txt"), in $folder"

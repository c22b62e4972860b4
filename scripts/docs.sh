#!/bin/sh
# docs.sh write|check|man LAGOON FOLDER: the reference pages that `lagoon docs all` makes from the tables in the programs.
# write: puts the Markdown pages into FOLDER (docs/). check: fails where FOLDER's differ. man: installs the man pages
# below FOLDER (share/man), each into its section.
set -eu
mode=$1 lagoon=$2 folder=$3
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
"$lagoon" docs all "$fresh"
status=0
case $mode in
write) cp "$fresh"/*.md "$folder" ;;
check)
    for page in "$fresh"/*.md; do
        diff -u "$folder/$(basename "$page")" "$page" || status=1
    done
    [ $status -eq 0 ] || echo "docs: the pages above are older than the tables: run make docs" >&2
    ;;
man)
    for page in "$fresh"/man/*; do
        install -D -m 644 "$page" "$folder/man${page##*.}/$(basename "$page")"
    done
    ;;
esac
exit $status

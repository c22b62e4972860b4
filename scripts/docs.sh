#!/bin/sh
# docs.sh [--check|--man] LAGOON DOCS MAN PAGE...: writes what the tables in the programs document: DOCS/configuration.md
# and DOCS/metrics.md by `lagoon docs configuration|metrics`, and MAN/PAGE.1 by `lagoon docs man PAGE`.
# --check writes nothing and fails where a document in DOCS differs; --man writes the man pages only.
mode='write'
case $1 in
--check | --man)
    mode=${1#--}
    shift
    ;;
esac
lagoon=$1 docs=$2 man=$3
shift 3
if ! "$lagoon" docs --help >/dev/null 2>&1; then
    echo "docs: \"$lagoon docs\" does not work; nothing was written" >&2
    [ "$mode" = man ] && exit 0
    exit 1
fi
fresh=$(mktemp -d) || exit 1
trap 'rm -rf "$fresh"' EXIT
status=0
if [ "$mode" != man ]; then
    for page in configuration metrics; do
        "$lagoon" docs $page >"$fresh/$page.md" || exit 1
        if [ "$mode" = check ]; then
            diff -u "$docs/$page.md" "$fresh/$page.md" || status=1
        else
            cp "$fresh/$page.md" "$docs/$page.md" || exit 1
        fi
    done
fi
if [ "$mode" != check ]; then
    mkdir -p "$man"
    for page in "$@"; do
        "$lagoon" docs man "$page" >"$fresh/$page.1" || exit 1
        cp "$fresh/$page.1" "$man/$page.1" || exit 1
    done
fi
[ $status -eq 0 ] || echo "docs: the files above are older than the tables: run make docs" >&2
exit $status

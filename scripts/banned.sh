#!/bin/sh
# banned.sh FILE...: fails where a source calls a function that cannot be used safely, or that hides errors.
found=0
ban() { # NAMES INSTEAD FILE...
    names=$1 instead=$2
    shift 2
    if grep -nE "(^|[^A-Za-z0-9_>.\"])($names) ?\\(" "$@" /dev/null | grep -vE '^[^:]*:[0-9]+: *(/?\*|//)'; then
        echo "banned: $names; use $instead" >&2
        found=1
    fi
}
ban 'strcpy|strcat|stpcpy' 'snprintf or memcpy with a checked length' "$@"
ban 'sprintf|vsprintf' 'snprintf' "$@"
ban 'gets' 'fgets or getline' "$@"
ban 'strtok' 'strtok_r' "$@"
ban 'tmpnam|mktemp' 'mkstemp' "$@"
ban 'alloca' 'an array of fixed size, or malloc' "$@"
ban 'system|popen' 'uv_spawn or fork and execv, with an argument vector' "$@"

for file in "$@"; do # what people type is read with care; a test's or benchmark's own numbers need not be
    case $file in
    tests/* | bench/*) ;;
    *) ban 'atoi|atol|atoll|atof' 'strtoll or strtod, and look at the end pointer' "$file" ;;
    esac
done
exit $found

#!/bin/bash
# fuzz.sh [SECONDS]: builds tests/fuzz/*_fuzz.c with libFuzzer, ASan and UBSan, and runs each for SECONDS (60).
#
# Inputs start from tests/fuzz/corpus/NAME/, new ones are kept in build/fuzz/corpus/NAME/, failing ones in
# build/fuzz/failures/. canary_fuzz has a planted bug: a run that does not find it says that the fuzzing itself is
# broken. The last line is "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")/.." || exit 1
seconds=${1:-60}
build=build/fuzz
jobs=$(nproc)

if ! command -v clang >/dev/null || ! echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' |
    clang -x c -fsanitize=fuzzer,address -o /dev/null - 2>/dev/null; then
    echo 'SKIP: no clang with libFuzzer: apt-get install clang libclang-rt-14-dev'
    echo '0 passed, 0 failed, 1 skipped'
    exit 0
fi
make --no-print-directory -j"$jobs" FUZZ=1 CC=clang fuzzers || exit 1
mkdir -p "$build/corpus" "$build/failures" "$build/logs"

run_one() { # NAME: writes build/fuzz/logs/NAME.status
    local name=$1 log="$build/logs/$1.log" status=0 runs
    local folders=("$build/corpus/$name")
    mkdir -p "$build/corpus/$name"
    [ -d "tests/fuzz/corpus/$name" ] && folders+=("tests/fuzz/corpus/$name")
    "$build/tests/fuzz/${name}_fuzz" -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix="$build/failures/$name-" "${folders[@]}" >"$log" 2>&1 || status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [ "$name" = canary ]; then
        if [ $status -ne 0 ] && grep -q 'the canary is found' "$log"; then status=0; else status=1; fi
    fi
    if [ $status -eq 0 ]; then
        echo "ok   fuzz/$name  ${runs:-?} runs"
    else
        echo "FAIL fuzz/$name  $log"
        tail -n 40 "$log" | sed 's/^/    /'
    fi
    echo $status >"$build/logs/$name.status"
}
export -f run_one
export build seconds

rm -f "$build"/logs/*.status
names=$(for file in tests/fuzz/*_fuzz.c; do basename "$file" _fuzz.c; done)
# shellcheck disable=SC2016 # $0 is the name that xargs hands to the inner shell
echo "$names" | xargs -P "$jobs" -I{} bash -c 'run_one "$0"' {}
passed=$(cat "$build"/logs/*.status 2>/dev/null | grep -cx 0)
failed=$(($(echo "$names" | wc -l) - passed))
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]

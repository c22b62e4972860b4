#!/bin/bash
# gpu-check.sh [--deps=FOLDER] [--quick] [--out=FOLDER]: builds Lagoon on a machine with an NVIDIA GPU, tests every op and model on it, looks
# at a part of that with compute-sanitizer where that is, and times everything. A few minutes. --quick: no sanitizer, no GPT.
#
# FOLDER is of scripts/bundle-deps.sh, for machines without a package registry; it is unpacked to build/deps-root. The
# report goes to OUT (default build/gpu-check): report.md is written to be copied into docs/results-gpu.md.
set -u
cd "$(dirname "$0")/.." || exit 1
deps='' quick='' out=build/gpu-check
for argument; do
    case $argument in
    --deps=*) deps=${argument#*=} ;;
    --out=*) out=${argument#*=} ;;
    --quick) quick=yes ;;
    *)
        echo "gpu-check.sh: unknown argument \"$argument\"; there are --deps=FOLDER, --out=FOLDER and --quick" >&2
        exit 2
        ;;
    esac
done
mkdir -p "$out"
report=$out/report.md
failed=0

# stage NAME SECONDS COMMAND...: runs it for at most so long, its output to $out/NAME.log, one line to the report.
stage() {
    local name=$1 limit=$2 started=$SECONDS status
    shift 2
    echo "=== $name: $*"
    timeout "$limit" "$@" >"$out/$name.log" 2>&1
    status=$?
    tail -n 5 "$out/$name.log"
    if [ "$status" -eq 0 ]; then
        echo "| $name | passed | $((SECONDS - started)) s | \`$*\` |" >>"$report"
    else
        failed=$((failed + 1))
        echo "| $name | **failed** ($status) | $((SECONDS - started)) s | \`$*\` |" >>"$report"
    fi
    return "$status"
}

skipped() {
    echo "=== $1: skipped: $2"
    echo "| $1 | not run | | $2 |" >>"$report"
}

# Unpacks the packages in folder $1 and makes this script's commands find them.
unpack() {
    for package in "$1"/*.deb; do
        dpkg-deb -x "$package" build/deps-root || return 1
    done
}
use_root() {
    local root=$PWD/build/deps-root kind lib libraries
    kind=$(uname -m)-linux-gnu
    lib=$root/usr/lib/$kind
    libraries=$lib:$lib/openblas-pthread:$root/lib/$kind
    export PKG_CONFIG_SYSROOT_DIR=$root PKG_CONFIG_PATH=$lib/pkgconfig:$lib/openblas-pthread/pkgconfig:$root/usr/share/pkgconfig
    export PATH=$root/usr/bin:$PATH LIBRARY_PATH=$libraries CPATH=$root/usr/include:$root/usr/include/$kind
    export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} LDFLAGS="-Wl,-rpath-link,$libraries"
}

{
    echo "## $(date -u +%Y-%m-%d), $(git rev-parse --short HEAD 2>/dev/null || cat VERSION)"
    echo
    nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null || echo 'nvidia-smi is not here'
    echo
    echo '| what | outcome | time | command |'
    echo '|---|---|---|---|'
} >"$report"

if [ -n "$deps" ]; then
    unpack "$deps" || exit 1
    use_root
fi
# One architecture, the one that is here: nvcc takes most of the time.
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .)
export NVCC_ARCH="-gencode arch=compute_${capability:-90},code=sm_${capability:-90}"
programs=(build/release/tests/conformance/device_{ops,codecs}_test build/release/tests/gpu/loss_curves_test
    build/release/tests/unit/device_test build/release/bench/device build/release/bench/device_path)
stage build 420 make --no-print-directory -j"$(nproc)" all "${programs[@]}" || exit 1

stage device 60 build/release/tests/unit/device_test
stage ops 300 build/release/tests/conformance/device_ops_test
grep -q '^SKIP: device "cuda:0"' "$out/ops.log" && echo "**No GPU was opened**: $(grep -m1 '^SKIP' "$out/ops.log")" >>"$report"
stage codecs 120 build/release/tests/conformance/device_codecs_test
stage curves 300 build/release/tests/gpu/loss_curves_test
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
if [ -n "$quick" ] || [ -z "$sanitizer" ]; then
    skipped sanitizer "$([ -n "$quick" ] && echo "--quick" || echo 'compute-sanitizer is not here')"
else
    for tool in memcheck racecheck initcheck; do
        stage "$tool" 240 env CK_RUN_CASE='every device' "$sanitizer" --tool "$tool" --target-processes all \
            --error-exitcode 9 build/release/tests/conformance/device_ops_test
    done
fi
stage path 120 build/release/bench/device_path --device cuda:0 # shards' memory and the device: fails where the bar is missed
gpt=$([ -n "$quick" ] && echo no || echo yes)
for math in f32 tf32 bf16; do
    stage "speed-$math" 120 build/release/bench/device --device "cuda:0/$math" --gpt "$gpt"
done
stage train 180 make --no-print-directory integration FILTER=test_train # agents list the GPU, so these train on it

for math in f32 tf32 bf16; do
    printf '\n### cuda:0/%s\n\n```\n' "$math"
    cat "$out/speed-$math.log"
    echo '```'
done >>"$report"
echo "report: $report; $failed stages failed"
[ "$failed" -eq 0 ]

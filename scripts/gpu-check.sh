#!/bin/bash
# gpu-check.sh [--part=NAME]... [--deps=FOLDER] [--quick] [--out=FOLDER]: everything there is to do on a machine with an
# NVIDIA GPU, in parts of less than ten minutes each; without --part all of them, one after the other:
#
#   build     programs, benches and the tests below, for the GPU that is here
#   tests     every test that has a device in it, and jobs through real daemons on the GPU
#   sanitize  the device tests under compute-sanitizer, where that is
#   times     the way between shards' memory and the GPU, ops, copies, codecs and models in f32, TF32 and bf16
#   compare   GPT-2 small, MLP and CNN beside PyTorch, where that is
#   server    GPT-2 small through a server on this machine, beside its own figure without one
#
# --quick: fewer sanitizer tools, no GPT. FOLDER of --deps is of scripts/bundle-deps.sh, for machines without a package
# registry; it is unpacked to build/deps-root by `build`, and found there by the other parts. What each part did is in
# OUT/PART.md (default build/gpu-check); OUT/report.md holds all of them, to be copied into docs/results-gpu.md.
set -u
cd "$(dirname "$0")/.." || exit 1
all=(build tests sanitize times compare server)
parts=() deps='' quick='' out=build/gpu-check
for argument; do
    case $argument in
    --part=*) parts+=("${argument#*=}") ;;
    --deps=*) deps=${argument#*=} ;;
    --out=*) out=${argument#*=} ;;
    --quick) quick=yes ;;
    *)
        echo "gpu-check.sh: unknown argument \"$argument\"; there are --part=NAME, --deps=FOLDER, --out=FOLDER and --quick" >&2
        exit 2
        ;;
    esac
done
[ ${#parts[@]} -gt 0 ] || parts=("${all[@]}")
for part in "${parts[@]}"; do
    case " ${all[*]} " in
    *" $part "*) ;;
    *)
        echo "gpu-check.sh: unknown part \"$part\"; there are ${all[*]}" >&2
        exit 2
        ;;
    esac
done
mkdir -p "$out"
bin=build/release failed=0

# stage NAME SECONDS COMMAND...: runs it for at most so long and to the end of its part, its output to OUT/NAME.log, one
# line to the part's report.
stage() {
    local name=$1 limit=$2 started=$SECONDS left=$((deadline - SECONDS)) status outcome
    shift 2
    [ "$left" -lt "$limit" ] && limit=$left
    if [ "$limit" -lt 5 ]; then
        skipped "$name" 'no time was left in this part'
        failed=$((failed + 1))
        return 1
    fi
    echo "=== $name: $*"
    timeout -k 10 "$limit" "$@" >"$out/$name.log" 2>&1
    status=$?
    tail -n 5 "$out/$name.log"
    case $status in
    0) outcome=passed ;;
    1) outcome=${on_1:-**failed**} ;;
    2) outcome=${on_2:-**failed** (2)} ;;
    124 | 137) outcome="**not finished** in $limit s" ;;
    *) outcome="**failed** ($status)" ;;
    esac
    [ "$status" -eq 0 ] || failed=$((failed + 1))
    [ "$status" -ne 0 ] || outcome+=$(counted "$out/$name.log")
    echo "| $name | $outcome | $((SECONDS - started)) s | \`$*\` |" >>"$report"
    return "$status"
}

# What the log of a Check program or of tests/run.py counts: ": 312 checks, 2 skipped".
counted() {
    local checks skips
    checks=$(sed -n 's/^100%: Checks: \([0-9]*\),.*/\1/p; s/^\([0-9]*\) passed, 0 failed.*/\1/p' "$1" | tail -n 1)
    skips=$(grep -c '^SKIP:\|^skipped in' "$1")
    [ -n "$checks" ] && echo -n ": $checks checks"
    [ "$skips" -gt 0 ] && echo -n ", $skips skipped"
}

skipped() {
    echo "=== $1: skipped: $2"
    echo "| $1 | not run | | $2 |" >>"$report"
}

# ---- what was bundled

# Makes commands find what is unpacked in build/deps-root. The programs know where their libraries are, so that nothing
# else on the machine, Python say, gets the bundled ones; only the bundled tools have to be told.
use_root() {
    local root=$PWD/build/deps-root kind lib libraries tool
    kind=$(uname -m)-linux-gnu
    lib=$root/usr/lib/$kind
    libraries=$lib:$lib/openblas-pthread:$root/lib/$kind
    mkdir -p build/deps-root/tools
    for tool in protoc-c protoc-gen-c pkg-config pkgconf; do
        [ -e "$root/usr/bin/$tool" ] || continue
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$libraries" "$root/usr/bin/$tool" >"$root/tools/$tool"
        chmod +x "$root/tools/$tool"
    done
    export PKG_CONFIG_SYSROOT_DIR=$root PKG_CONFIG_PATH=$lib/pkgconfig:$lib/openblas-pthread/pkgconfig:$root/usr/share/pkgconfig
    export PATH=$root/tools:$PATH LIBRARY_PATH=$libraries CPATH=$root/usr/include:$root/usr/include/$kind
    export LDFLAGS="-Wl,--disable-new-dtags,-rpath,$libraries"
}

unpack() {
    local package
    rm -rf build/deps-root
    for package in "$1"/*.deb; do
        dpkg-deb -x "$package" build/deps-root || return 1
    done
}

# ---- the parts

# Tests that walk the devices of this machine, and those of what trains on them; without those on emulated GPUs.
device_tests() {
    local source
    grep -l 'test_device_is_there(&' tests/*/*_test.c | grep -v '/emulated_'
    for source in tests/unit/device_test.c tests/unit/trainer_{buffers,encoder,pull,micro}_test.c; do
        [ -e "$source" ] && echo "$source"
    done
}

part_build() {
    local programs
    if [ -n "$deps" ]; then
        if ! unpack "$deps"; then
            failed=$((failed + 1))
            return
        fi
        use_root
    fi
    mapfile -t programs < <(device_tests | sed "s|\(.*\)\.c|$bin/\1|")
    stage build 570 make --no-print-directory -j"$(nproc)" all benches "${programs[@]}"
}

part_tests() {
    local source name absent=''
    for source in $(device_tests); do
        name=$(basename "$source" .c)
        stage "$name" 300 "$bin/${source%.c}"
        absent=${absent:-$(grep -m1 '^SKIP: device "cuda:0"' "$out/$name.log")}
    done
    for name in test_gpus test_train; do # workers list the GPU, so these train on it
        stage "$name" 240 env BUILD=$bin python3 tests/run.py --only integration --filter "$name" --timeout 230
    done
    [ -n "$absent" ] && printf '\n**No GPU was opened**: %s\n' "$absent" >>"$report"
}

part_sanitize() {
    local sanitizer source tool tools='memcheck racecheck initcheck'
    sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
    if [ -z "$sanitizer" ]; then
        skipped sanitize 'compute-sanitizer is not here'
        return
    fi
    [ -n "$quick" ] && tools=memcheck
    for tool in $tools; do
        for source in $(device_tests | grep /conformance/); do
            stage "$tool-$(basename "$source" _test.c)" 180 "$sanitizer" --tool "$tool" --target-processes all \
                --error-exitcode 9 "$bin/${source%.c}"
        done
    done
}

part_times() {
    local math gpt name
    gpt=$([ -n "$quick" ] && echo no || echo yes)
    on_2='**a bar is missed**' stage path 120 $bin/bench/device_path --device cuda:0
    for math in f32 tf32 bf16; do
        stage "speed-$math" 150 $bin/bench/device --device "cuda:0/$math" --gpt "$gpt"
    done
    for name in path speed-f32 speed-tf32 speed-bf16; do
        [ -e "$out/$name.log" ] || continue
        printf '\n%s:\n\n```\n' "$name"
        cat "$out/$name.log"
        echo '```'
    done >>"$report"
}

# compare_with NAME ARGUMENTS...: bench/torch_compare.py, which exits with 1 for a bar that is missed and with 2 for what
# is missing.
compare_with() {
    local name=$1 on_1='**a bar is missed**' on_2='**not run**: something is missing'
    shift
    stage "$name" 560 python3 bench/torch_compare.py --json "$out/$name.json" "$@"
    if grep -q '; PyTorch' "$out/$name.log"; then
        { echo && sed -n '/; PyTorch/,$p' "$out/$name.log"; } >>"$report"
    else # as far as it came
        { echo && tail -n 30 "$out/$name.log" | sed 's/^/    /'; } >>"$report"
    fi
}

part_compare() {
    local what=gpt,images
    [ -n "$quick" ] && what=images
    compare_with compare --parts "$what" --rounds 3 --seconds 2
}

part_server() {
    if [ -n "$quick" ]; then
        skipped server '--quick'
        return
    fi
    compare_with server --parts server --seconds 5
}

# ---- all of them

one_part() {
    local part=$1 deadline=$((SECONDS + 585)) number
    report=$out/$part.md
    rm -f "$report"
    {
        echo "### $part: $(date -u '+%Y-%m-%d %H:%M UTC'), $(git rev-parse --short HEAD 2>/dev/null || cat VERSION)"
        echo
        nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null || echo 'nvidia-smi is not here'
        echo
        echo '| what | outcome | time | command |'
        echo '|---|---|---|---|'
    } >"$report"
    number=$failed
    "part_$part"
    [ "$failed" -eq "$number" ]
}

[ -z "$deps" ] && [ -d build/deps-root ] && use_root
[ -n "$deps" ] && [ "${parts[0]}" != build ] && [ ! -d build/deps-root ] && parts=(build "${parts[@]}")
# One architecture, the one that is here: nvcc takes most of the time.
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .)
export NVCC_ARCH="-gencode arch=compute_${capability:-90},code=sm_${capability:-90}"
for part in "${parts[@]}"; do
    one_part "$part" || [ "$part" != build ] || break # without programs there is nothing more to do
done
for part in "${all[@]}"; do
    [ -e "$out/$part.md" ] && cat "$out/$part.md" && echo
done >"$out/report.md"
echo "report: $out/report.md; $failed stages failed"
[ "$failed" -eq 0 ]

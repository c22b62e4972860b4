#!/bin/sh
# packages.sh [build|test|lint]...: the Debian 12 packages that each needs, one a line; without arguments all of them.
set -eu

build() {
    echo make # and the compiler below
    echo gcc
    echo libc6-dev
    echo pkg-config
    echo protobuf-c-compiler # protoc-c: proto/lagoon.proto to C
    echo libprotobuf-c-dev   # message headers
    echo libzmq3-dev         # sockets
    echo libuv1-dev          # control loops, processes
    echo libopenblas-dev     # models on the CPU
    echo libsqlite3-dev      # the coordinator's store
    echo libmicrohttpd-dev   # /metrics, /stats.json
    echo libyaml-dev         # configuration
    echo libjansson-dev      # --json, safetensors headers
    echo libxxhash-dev       # fingerprints, hashes
    echo zlib1g-dev          # .gz datasets
}

run_tests() {
    echo check   # unit tests
    echo g++     # the GPU's kernels, run by the host
    echo python3 # the test runner and the integration tests; standard library only
}

lint() {
    echo clang
    echo clang-tidy
    echo clang-format
    echo libclang-rt-14-dev # sanitizers and libFuzzer of clang
    echo cppcheck
    echo shellcheck
}

[ $# -gt 0 ] || set -- build test lint
for part in "$@"; do
    case $part in
    build) build ;;
    test) run_tests ;;
    lint) lint ;;
    *)
        echo "packages.sh: unknown part \"$part\"; there are build, test and lint" >&2
        exit 2
        ;;
    esac
done

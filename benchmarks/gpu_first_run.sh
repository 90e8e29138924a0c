#!/usr/bin/env bash
# A first run on a GPU, of at most 9 minutes: the tests that need one, then benchmarks/gpu_probe.py.
#
#     bash benchmarks/gpu_first_run.sh MNIST.parquet CIFAR10.parquet OUT
#
# MNIST.parquet and CIFAR10.parquet are training splits in Hugging Face's schema. labelaudit need not
# be installed. OUT/results.jsonl holds the findings. More options are passed on to gpu_probe.py:
# with `--device cpu --tiny` it is a rehearsal, for which a slow machine may take an hour.
set -u
if [ $# -lt 3 ]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
mnist=$(realpath "$1") cifar10=$(realpath "$2")
mkdir -p "$3"
out=$(realpath "$3")
shift 3
tests=60 seconds=460
case " $* " in *" --tiny "*) tests=600 seconds=3600 ;; esac
cd "$(dirname "$0")/.." || exit 1
TORCHINDUCTOR_CACHE_DIR=$(mktemp -d)
export TORCHINDUCTOR_CACHE_DIR PYTHONUNBUFFERED=1 PYTHONPATH=$PWD
timeout $tests python3 -m pytest -q -p no:cacheprovider -o addopts=--import-mode=importlib \
    -m gpu -k "not compiled" \
    tests/test_pipeline.py tests/test_scan_features.py tests/methods/test_reweight.py \
    >"$out/pytest.txt" 2>&1
tail -3 "$out/pytest.txt"
timeout $((seconds + 20)) python3 -W ignore benchmarks/gpu_probe.py \
    "$mnist" "$cifar10" "$out" --seconds $seconds "$@" \
    >"$out/probe.log" 2>&1
status=$?
rm -rf "$out"/scan-* "$TORCHINDUCTOR_CACHE_DIR"
cut -c1-420 "$out/results.jsonl"
exit $status

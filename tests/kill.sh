#!/bin/bash
# A sample of the kill matrix: processes killed at random instructions of each operation. All of it: make kill.
# MPROC_TEST_SEED repeats a sample whose seed was printed.
build=${BUILD:-build}
make -s --no-print-directory "$build/tests/kill/kill" || exit 1
seed=${MPROC_TEST_SEED:-$(date +%s)}
# A traced process cannot be searched for leaks.
ASAN_OPTIONS=detect_leaks=0:$ASAN_OPTIONS "$build/tests/kill/kill" -t "${1:-30}" -s "$seed"
code=$?
echo "kill.sh: seed $seed, exit code $code"
exit $code

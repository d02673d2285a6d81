#!/bin/bash
# A sample of the kill matrix: processes killed at random instructions of each operation, then others that are
# stopped there and resumed. All of it: make kill. MPROC_TEST_SEED repeats a sample whose seed was printed.
build=${BUILD:-build}
make -s --no-print-directory "$build/tests/kill/kill" || exit 1
seed=${MPROC_TEST_SEED:-$(date +%s)}
export ASAN_OPTIONS=detect_leaks=0:$ASAN_OPTIONS # a traced process cannot be searched for leaks
"$build/tests/kill/kill" -t "${1:-20}" -s "$seed"
killed=$?
"$build/tests/kill/kill" -S -t "${2:-12}" -s "$seed"
stopped=$?
echo "kill.sh: seed $seed, exit codes $killed and $stopped"
exit $((killed | stopped))

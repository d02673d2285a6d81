#!/bin/bash
# suite.sh NAME [-e EMULATOR] [-t TESTS] COMPILER... - builds all tests, or those of TESTS ("lock sync": test_lock.c
# and test_sync.c), with this compiler and its options, and runs them, where make test cannot: for another C library,
# another processor (under qemu-user), under valgrind or a sanitizer.
# Check need not be there for it: check.h in this folder stands in. skip.NAME, where there is one, lists tests
# that cannot run there, and why; those are printed. Its last line is "N passed, N failed".
# JOBS of them run at a time, LIMIT seconds each at most.
cd "$(dirname "$0")/../.." || exit 1
name=$1 emulator=() tests=(tests/test_*.c)
shift
if [ "$1" = -e ]; then
    read -r -a emulator <<<"$2"
    shift 2
fi
if [ "$1" = -t ]; then
    read -r -a tests <<<"$2"
    tests=("${tests[@]/#/tests/test_}")
    tests=("${tests[@]/%/.c}")
    shift 2
fi
out=build/suite/$name
mkdir -p "$out" || exit 1

# A skip.NAME may begin with "like OTHER": what OTHER cannot do is skipped, too.
skips() { # NAME
    local list=tests/compile/skip.$1 other
    [ -f "$list" ] || return
    grep -v '^#' "$list" | grep -v '^like '
    while read -r other; do skips "$other"; done < <(sed -n 's/^like //p' "$list")
}
skips "$name" >"$out/skip"
export CHECK_SKIP=$PWD/$out/skip

build_and_run() { # TEST COMPILER...
    local test=$1 code
    shift
    rm -f "$out/$test"
    if ! "$@" -std=gnu99 -O1 -g -Itests/compile -o "$out/$test" "tests/$test.c" -lm -lrt -pthread; then
        fails "$test: does not compile"
        return
    fi
    timeout -k 5 "${LIMIT:-400}" "${emulator[@]}" "$out/$test" </dev/null
    code=$?
    # 124: it hangs, and what it had counted is not known
    [ $code -le 1 ] || fails "$test: exit code $code"
}
fails() { printf 'FAIL %s\n0%%: Checks: 1, Failures: 1, Errors: 0\n' "$1"; }

for source in "${tests[@]}"; do
    test=$(basename "$source" .c) suite=${source##*/test_}
    suite=${suite%.c}
    if reason=$(grep "^${suite/_/, }:\* " "$CHECK_SKIP"); then
        echo "skip $reason" >"$out/$test.log"
        continue
    fi
    while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-$(nproc)}" ]; do wait -n; done
    build_and_run "$test" "$@" >"$out/$test.log" 2>&1 &
done
wait
report='WARNING: (Thread|Memory)Sanitizer|Exit program on first error'
for source in "${tests[@]}"; do
    log=$out/$(basename "$source" .c).log
    grep -aE '^skip ' "$log"
    reported=$(grep -aE "$report" "$log" | head -n 1) # perhaps in a process whose end no test looked at
    [ -z "$reported" ] || grep -aq '^FAIL' "$log" || fails "$(basename "$source" .c): $reported" >>"$log"
    grep -aqE '^FAIL' "$log" && { echo "== $name: $(basename "$source")"; grep -avE '^skip |^--[0-9]+-- ' "$log" | head -n 60; }
done
for source in "${tests[@]}"; do cat "$out/$(basename "$source" .c).log"; done | awk -v name="$name" '
    /^[0-9]+%: Checks: [0-9]+, Failures: [0-9]+/ { gsub(",", ""); bad += $5; good += $3 - $5 }
    END { printf "%d passed, %d failed\n", good, bad; exit bad > 0 || good == 0 }'

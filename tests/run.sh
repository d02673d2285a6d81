#!/bin/bash
# run.sh BUILD PROGRAM... - runs each program or script with a time limit, prints its output, goes on after a
# failure, and ends with one line "N passed, N failed". A Check program counts each of its tests; a script
# whose last line is such a line itself counts what that says; anything else counts once, by its exit code.
# BUILD is the folder of the built programs; scripts find it in $BUILD.
export BUILD=$1
shift
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0

# What the output in $log says: sets p and f, to nothing if it says nothing.
count() {
    read -r p f < <(awk '
        /^[0-9]+%: Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+/ {
            gsub(",", ""); bad += $5 + $7; good += $3 - $5 - $7; any = 1 }
        { last = $0 }
        END { if (!any && last ~ /^[0-9]+ passed, [0-9]+ failed$/) { split(last, w, " "); good = w[1]; bad = w[3]; any = 1 }
              if (any) print good + 0, bad + 0 }' "$log")
}

# Runs one program; its output and exit code go to files of that number. timeout kills the whole process group;
# output goes to a file, so a process left behind cannot hold us up.
run() {
    case $2 in
    *.sh) timeout -k 5 "${LIMIT:-170}" bash "$2" ;;
    *) timeout -k 5 "${LIMIT:-170}" "$2" ;;
    esac >"$tmp/$1.log" 2>&1 </dev/null
    echo $? >"$tmp/$1.code"
}

report() {
    log=$tmp/$1.log
    read -r code <"$tmp/$1.code"
    echo "== $2"
    cat "$log"
    p='' f=''
    count
    if [ -z "$p" ]; then p=$((code == 0)) f=$((code != 0)); fi
    if [ "$code" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi # all counted passed, then it failed: at its exit, say
    [ "$code" -eq 0 ] || echo "-- $2: exit code $code"
    passed=$((passed + p)) failed=$((failed + f))
}

# As many at a time as there are processors: most of them wait most of the time.
number=0
for program; do
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
    number=$((number + 1))
    run $number "$program" &
done
wait
number=0
for program; do
    number=$((number + 1))
    report $number "$program"
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]

#!/bin/bash
# run.sh BUILD PROGRAM... - runs each program or script with a time limit, goes on after a failure, and ends with
# one line "N passed, N failed". A Check program counts each of its tests; a script whose last line is such a
# line itself counts what that says; anything else counts once, by its exit code. What passed shows as one line
# and with the tests it left out; VERBOSE=1 shows all output. What failed shows whole, and once more by name at
# the end. BUILD is the folder of the built programs; scripts find it in $BUILD.
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
    local begin=$SECONDS
    case $2 in
    *.sh) timeout -k 5 "${LIMIT:-170}" bash "$2" ;;
    *) timeout -k 5 "${LIMIT:-170}" "$2" ;;
    esac >"$tmp/$1.log" 2>&1 </dev/null
    echo $? $((SECONDS - begin)) >"$tmp/$1.new" && mv "$tmp/$1.new" "$tmp/$1.code"
}

# Shows all of the output, or what matters of it if the program passed.
show() {
    if [ -n "$VERBOSE" ] || [ "$f" -ne 0 ]; then cat "$log"; else grep -iE '\bskip(s|ped)?\b|\bseed [0-9]' "$log"; fi
    [ "$code" -eq 0 ] || echo "-- $1: exit code $code"
}

report() {
    log=$tmp/$1.log
    read -r code seconds <"$tmp/$1.code"
    p='' f=''
    count
    if [ -z "$p" ]; then p=$((code == 0)) f=$((code != 0)); fi
    if [ "$code" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi # all counted passed, then it failed: at its exit, say
    echo "== $2: $p passed, $f failed, $seconds s"
    show "$2"
    [ "$f" -eq 0 ] || { echo "== $2"; grep -E ':[FE]:|^FAIL|^-- ' "$log" || tail -n 5 "$log"; echo "-- exit code $code"; } >>"$tmp/failures"
    passed=$((passed + p)) failed=$((failed + f))
}

# Reports each program that has ended and was not reported yet.
report_ended() {
    local i
    for ((i = 1; i <= started; i++)); do
        [ -e "$tmp/$i.code" ] || continue
        report "$i" "${programs[i - 1]}"
        rm "$tmp/$i.code"
    done
}

# Twice as many at a time as there are processors: most of them wait most of the time.
programs=("$@") started=0
for program; do
    while [ "$(jobs -rp | wc -l)" -ge $((2 * $(nproc))) ]; do wait -n; done
    report_ended
    started=$((started + 1))
    run $started "$program" &
done
wait
report_ended
[ ! -e "$tmp/failures" ] || { echo; echo 'What failed:'; tail -n 40 "$tmp/failures"; }
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]

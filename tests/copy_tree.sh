#!/bin/bash
# The copying program from outside: what it copies, what it says when something cannot be copied, and what it
# leaves behind when it or a worker is killed. Run by tests/run.sh, which sets BUILD.
tmp=$(mktemp -d "${TMPDIR:-/tmp}/copy_tree_test.XXXXXX") || exit 1
program=$tmp/program
cp "${BUILD:-build}/examples/copy_tree" "$program" || exit 1
passed=0 failed=0

cleanup() {
    mountpoint -q "$tmp/full" && umount "$tmp/full"
    chmod -R u+rwX "$tmp"
    rm -rf "$tmp"
}
trap cleanup EXIT

expect() { # WHAT COMMAND...
    local what=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL: $what: $*"
        sed 's/^/    /' "$tmp/log"
    fi
}

copy() { # CODE ARGUMENTS...: runs the program and checks its exit code
    local want=$1 code
    shift
    timeout -k 1 60 "$program" "$@" >"$tmp/log" 2>&1
    code=$?
    expect "exit code $code of copy_tree $*" [ $code -eq "$want" ]
}

same() { # all that a copy keeps: kinds, modes, times of change, targets of links, content
    diff <(cd "$1" && find . -printf '%P %y %m %Ts %l\n' | sort) <(cd "$2" && find . -printf '%P %y %m %Ts %l\n' | sort) &&
        diff -r --no-dereference "$1" "$2"
}

says() { grep -q -i -e "$1" "$tmp/log"; }
no_temporary_files() { [ -z "$(find "$1" -name '.copy_tree.*')" ]; }

# Root may read everything: what an ordinary user may not is tried as one.
chmod 755 "$tmp"
as_user() {
    if [ "$(id -u)" -eq 0 ]; then setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; else "$@"; fi
}

mkdir -p "$tmp/tree/a/b/c" "$tmp/tree/empty" "$tmp/tree/read only" "$tmp/tree/unusual"
printf 'content' >"$tmp/tree/a/file"
head -c 3000000 /dev/urandom >"$tmp/tree/a/b/large"
: >"$tmp/tree/a/b/c/nothing"
printf 'x' >"$tmp/tree/read only/x"
printf '#!/bin/sh\n' >"$tmp/tree/unusual/program"
chmod 4751 "$tmp/tree/unusual/program"
printf 'n' >"$tmp/tree/unusual/$(printf 'new\nline \\ and * and \303\244')"
printf 'l' >"$tmp/tree/unusual/$(printf 'l%.0s' $(seq 255))"
ln -s ../a/file "$tmp/tree/unusual/link"
ln -s nowhere "$tmp/tree/unusual/dangling"
ln -s ../a "$tmp/tree/unusual/link to a folder"
touch -d '2001-02-03 04:05:06' "$tmp/tree/a/file" "$tmp/tree/empty"
touch -h -d '2001-02-03 04:05:06' "$tmp/tree/unusual/link"
chmod 700 "$tmp/tree/empty"
chmod 555 "$tmp/tree/read only"

copy 0 -w 3 "$tmp/tree" "$tmp/copy"
expect "a whole tree" same "$tmp/tree" "$tmp/copy"
expect "its figures" says '^10 files, 7 folders, 3000020 bytes, .* seconds, 3 workers$'
copy 0 "$tmp/tree" "$tmp/copy"
expect "the same once more, over the first" same "$tmp/tree" "$tmp/copy"

copy 2 "$tmp/tree"
copy 2 -w x "$tmp/tree" "$tmp/new"
copy 1 "$tmp/no such folder" "$tmp/new"
expect "names it" says "no such folder: "
copy 1 "$tmp/tree/a/file" "$tmp/new"
copy 2 "$tmp/tree" "$tmp/tree"
copy 2 "$tmp/tree" "$tmp/tree/a/new/"
ln -s "$tmp/tree/a" "$tmp/detour"
copy 2 "$tmp/tree" "$tmp/detour/new"
expect "no copy into itself" [ ! -e "$tmp/tree/a/new" ]

mkfifo "$tmp/tree/a/fifo"
copy 0 "$tmp/tree" "$tmp/fifo copy"
expect "names the fifo" says "a/fifo: skipped"
expect "does not copy it" [ ! -e "$tmp/fifo copy/a/fifo" ]
rm "$tmp/tree/a/fifo"

# A file and a folder that may not be read: named, and the rest goes on.
mkdir "$tmp/secret" "$tmp/out"
cp -r "$tmp/tree/a" "$tmp/secret/a"
mkdir "$tmp/secret/locked"
printf 'x' >"$tmp/secret/a/unreadable"
chmod 000 "$tmp/secret/a/unreadable" "$tmp/secret/locked"
chmod 777 "$tmp/out"
as_user timeout -k 1 60 "$program" "$tmp/secret" "$tmp/out/copy" >"$tmp/log" 2>&1
expect "exit code $?" [ $? -eq 1 ]
expect "names the file" says "a/unreadable: Permission denied"
expect "names the folder" says "locked: Permission denied"
expect "copies the rest" cmp "$tmp/secret/a/b/large" "$tmp/out/copy/a/b/large"
expect "nothing half written" no_temporary_files "$tmp/out"
expect "no such file" [ ! -e "$tmp/out/copy/a/unreadable" ]

# A disk that is full: only where this may mount one.
mkdir "$tmp/full"
if mount -t tmpfs -o size=1m none "$tmp/full" 2>/dev/null; then
    copy 1 -w 2 "$tmp/tree" "$tmp/full/copy"
    expect "names the file" says "a/b/large: no space left"
    expect "copies what fits" cmp "$tmp/tree/a/file" "$tmp/full/copy/a/file"
    expect "no such file" [ ! -e "$tmp/full/copy/a/b/large" ]
    expect "nothing half written" no_temporary_files "$tmp/full"
    umount "$tmp/full"
else
    echo 'not checked: a full disk (no tmpfs can be mounted here)'
fi

# Within a second no process runs this program any more (it has been copied: nobody else runs that one).
nobody_left() {
    for _ in $(seq 20); do
        find /proc -maxdepth 2 -name exe -lname "$program" 2>/dev/null | grep -q . || return 0
        sleep 0.05
    done
    return 1
}

# Many middling files, so that workers are in the middle of one whenever they are looked at.
mkdir "$tmp/many"
for i in $(seq 300); do head -c 2000000 /dev/zero >"$tmp/many/$i"; done

start() { # DEST: sets pid
    "$program" -w 3 "$tmp/many" "$1" >"$tmp/log" 2>&1 &
    pid=$!
}
workers_of() { # the pool's processes: its supervisor is our child's child, the workers are that one's
    local supervisor
    for supervisor in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do
        cat "/proc/$supervisor/task/$supervisor/children" 2>/dev/null
    done
}
wait_for_files() { # DEST: until some are copied
    until [ "$(find "$1" -type f 2>/dev/null | wc -l)" -gt 5 ] || ! kill -0 "$pid" 2>/dev/null; do :; done
}

told() { # CODE DEST: the worker held no file, or those it held are missing and named
    local differences missing named
    differences=$(diff -rq "$tmp/many" "$2") && return $(($1 > 1)) # killed between renaming and reporting: it is all there
    missing=$(sed -n 's/^Only in .*many: //p' <<<"$differences" | sort)
    named=$(sed -n 's/^copy_tree: \([0-9]*\): .*/\1/p' "$tmp/log" | sort)
    [ "$1" -eq 1 ] && [ "$(wc -l <<<"$differences")" -eq "$(wc -l <<<"$missing")" ] &&
        [ -z "$(comm -23 <(echo "$missing") <(echo "$named"))" ]
}

for round in 1 2 3; do
    start "$tmp/killed$round"
    wait_for_files "$tmp/killed$round"
    read -r worker _ <<<"$(workers_of $pid)"
    [ -n "$worker" ] && kill -KILL "$worker"
    wait $pid
    code=$?
    expect "exit code $code: a correct copy, or a failure that names each missing file" told $code "$tmp/killed$round"
    expect "nothing half written" no_temporary_files "$tmp/killed$round"
    expect "no process left" nobody_left
    rm -rf "$tmp/killed$round"
done

start "$tmp/dead"
wait_for_files "$tmp/dead"
{ kill -KILL $pid && wait $pid; } 2>/dev/null
expect "no process left" nobody_left
expect "no file half written under its name" [ -z "$(find "$tmp/dead" -type f ! -name '.copy_tree.*' ! -size 2000000c)" ]

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]

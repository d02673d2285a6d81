#!/bin/bash
# The documentation: every C block of README.md and the program in the header's first comment are compiled as
# they stand, under the strict warnings, and run; what they print must be what README says. Every public name
# of the header stands in README, and README names nothing that the header lacks; its links, its examples and
# its make targets exist; what `make install` installs can be used. Run by tests/run.sh, which sets BUILD.
cd "$(dirname "$0")/.." || exit 1
here=$PWD
tmp=$(mktemp -d "${TMPDIR:-/tmp}/mproc_docs.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0

# The compiler of this build, and its sanitizers.
flags=$(cat "${BUILD:-build}/flags" 2>/dev/null)
compiler=${flags%% -std=*}
read -r -a cc <<<"${compiler:-${CC:-cc}} $(grep -o -- '-fsanitize=[^ ]*' <<<"$flags" | tr '\n' ' ')"
strict=(-std=c99 -O1 -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wundef
    -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror)

expect() { # WHAT COMMAND...: its output shows if it fails
    local what=$1
    shift
    if "$@" >"$tmp/log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL: $what"
        sed 's/^/    /' "$tmp/log"
    fi
}

# Writes each C block of README to LINE.c, LINE being where it begins, and the output that is shown after it,
# before the next C block, to LINE.txt.
extract_blocks() {
    awk -v dir="$tmp" '
        file == "" && /^```c$/ { block = dir "/" NR; file = block ".c"; next }
        file == "" && /^```text$/ && block != "" { file = block ".txt"; block = ""; next }
        file == "" && /^```[a-z]/ { file = "/dev/null"; next }
        /^```$/ { if (file ~ /^\//) close(file); file = ""; next }
        file != "" { print > file }' README.md
}

# The indented program in the header's first comment, less its indentation.
extract_from_header() {
    awk '/^\*\/|^#/ { exit } /The smallest program:/ { on = 1; next } /^   [A-Z]/ { on = 0 }
         on { sub(/^       /, ""); print }' mproc.h
}

compile() { # SOURCE OUTPUT OPTION...
    local source=$1 output=$2
    shift 2
    "${cc[@]}" "${strict[@]}" -I "$here" "$@" -o "$output" "$source" -pthread
}

run_program() { # PROGRAM [EXPECTED]: it ends in time with 0 and prints that, and nothing else on stderr
    local code
    rm -rf "$tmp/folder" && mkdir "$tmp/folder" || return 1
    (cd "$tmp/folder" && timeout -k 1 30 "$1") >"$tmp/output" 2>&1 </dev/null
    code=$?
    if [ $code -ne 0 ]; then
        echo "exit code $code, output:"
        cat "$tmp/output"
        return 1
    fi
    [ -z "$2" ] || diff "$2" "$tmp/output" && rmdir "$tmp/folder"
}

# A block with a main is a program; any other one must compile.
check_block() { # SOURCE NAME
    local output=${1%.c}.txt
    if ! grep -q '\<main(' "$1"; then
        expect "$2 compiles" compile "$1" "${1%.c}.o" -c
        return
    fi
    [ -f "$output" ] || output=
    expect "$2 compiles" compile "$1" "${1%.c}"
    [ ! -x "${1%.c}" ] || expect "$2 runs" run_program "${1%.c}" "$output"
}

without_comments() { # of the header's first half, the declarations
    awk '/^#if defined\(MPROC_IMPLEMENTATION\) && !defined\(MPROC_IMPLEMENTED\)/ { exit } { print }' mproc.h |
        awk '{ text = text $0 "\n" }
             END { while (match(text, /\/\*([^*]|\*+[^*\/])*\*+\//))
                       text = substr(text, 1, RSTART - 1) " " substr(text, RSTART + RLENGTH)
                   printf "%s", text }' | sed 's|//.*||'
}

names() { grep -owE '(mproc_[a-z]|MPROC_[A-Z])[A-Za-z0-9_]*' | sort -u; }
none() { # prints its input; true if there is none
    local lines
    lines=$(cat)
    [ -z "$lines" ] || { echo "$lines"; return 1; }
}
only_in() { comm -23 "$1" "$2" | none; }
section() { awk -v from="## $1" '/^## / { on = $0 == from } on' README.md; }

missing_examples() {
    grep -oE 'examples/[A-Za-z0-9_]+\.c' README.md | sort -u | while read -r f; do [ -f "$f" ] || echo "$f"; done | none
}
missing_targets() {
    grep -oE '(^|`)make [a-z-]+' README.md | sed 's/.*make //' | sort -u |
        while read -r target; do grep -qE "^$target( |:)" Makefile || echo "$target"; done | none
}
missing_anchors() {
    sed -n 's/^##* //p' README.md | tr 'A-Z ' 'a-z-' | tr -d "?,.'" | sort -u >"$tmp/anchors"
    grep -oE '\]\(#[^)]*\)' README.md | sed 's/^](#//; s/)$//' | sort -u | comm -23 - "$tmp/anchors" | none
}

# The first two columns of the table about killed processes, an empty first one filled in from above.
rows_of_killed() {
    section 'What happens when a process is killed' | awk -F ' *\\| *' '
        !/^\|/ { next }
        ++line > 2 { if ($2 != "") object = $2; print object " | " $3 }'
}
# What the tests that run say they test, in the order they run in: the comment "Row: ..." before each.
rows_of_tests() {
    awk '/^\/\* Row: / { sub(/^\/\* Row: /, ""); sub(/ \*\/$/, ""); row = $0; next }
         /^START_TEST\(/ { gsub(/^START_TEST\(|\).*/, ""); of[$0] = row; row = "" }
         /^SUITE_MAIN\(/ { on = 1; sub(/[^,]*,/, "") }
         on { n = split($0, word, /[^a-z0-9_]+/)
              for (i = 1; i <= n; i++) if (word[i] != "") print of[word[i]] != "" ? of[word[i]] : word[i] ": which row?" }
        ' tests/test_killed.c
}
same_rows() { # what only the page has shows with <, what only the tests have with >
    rows_of_killed >"$tmp/rows"
    rows_of_tests >"$tmp/tests"
    [ -s "$tmp/rows" ] && diff "$tmp/rows" "$tmp/tests"
}

# The parts of the header's declarations whose opening comment does not say who may call and what a kill costs.
parts_without_callers() {
    awk 'function tell() { if (part != "" && part !~ /---- Configuration/ && !(callers && kill)) print part }
         /^#if defined\(MPROC_IMPLEMENTATION\) && !defined\(MPROC_IMPLEMENTED\)/ { exit }
         /^\/\* ---- / { tell(); part = $0; callers = kill = 0 }
         /^ +Callers: / { callers = 1 }
         /(^| )Kill: / { kill = 1 }
         END { tell() }' mproc.h | none
}

# As README says: make install, then pkg-config where there is one.
install_and_use() {
    env -u MAKEFLAGS -u MAKELEVEL make --no-print-directory install PREFIX="$tmp/prefix" DESTDIR= &&
        cmp mproc.h "$tmp/prefix/include/mproc.h" || return 1
    local options="-I$tmp/prefix/include -pthread"
    if command -v pkg-config >/dev/null; then
        options=$(PKG_CONFIG_PATH=$tmp/prefix/share/pkgconfig pkg-config --cflags --libs mproc) || return 1
    fi
    # shellcheck disable=SC2086 # the options are words
    (cd "$tmp" && "${cc[@]}" -o installed "$1" $options && ./installed)
}

extract_blocks
first=
for source in $(cd "$tmp" && printf '%s\n' *.c | sort -n); do
    [ -n "$first" ] || first=$tmp/${source%.c}
    check_block "$tmp/$source" "README.md, line ${source%.c}: the block"
done
expect "README.md has programs" [ -f "$first.txt" ]

extract_from_header >"$tmp/header.c"
cp "$first.txt" "$tmp/header.txt" # the same program, so the same output
check_block "$tmp/header.c" "mproc.h: the smallest program"
expect "mproc.h: the smallest program is there" [ -x "$tmp/header" ]

without_comments | names | grep -vx MPROC_H >"$tmp/public"
names <README.md >"$tmp/named"
expect "public names of mproc.h that README.md does not name" only_in "$tmp/public" "$tmp/named"
expect "names in README.md that mproc.h does not declare" only_in "$tmp/named" "$tmp/public"
section 'From Python to C' | names >"$tmp/table"
grep '^mproc_' "$tmp/public" >"$tmp/functions"
expect "functions and types that the table from Python to C lacks" only_in "$tmp/functions" "$tmp/table"
section 'All calls' | grep -oE 'mproc_[a-z_]+\(' | tr -d '(' | sort -u >"$tmp/calls"
grep -E '^mproc_' "$tmp/public" | while read -r name; do
    grep -qE "\<$name\(" <(without_comments) && echo "$name"
done >"$tmp/declared"
expect "functions and macros that the list of all calls lacks" only_in "$tmp/declared" "$tmp/calls"
expect "the header's public names were found" grep -qx mproc_pool_map "$tmp/functions"

expect "examples that README.md names but are not there" missing_examples
expect "make targets that README.md names but are not there" missing_targets
expect "links of README.md that lead nowhere" missing_anchors
expect "the rows of the table about killed processes and the tests in tests/test_killed.c are the same" same_rows
expect "the list of contents in mproc.h gives the right lines" bash tests/contents.sh
expect "parts of mproc.h that do not say who may call and what a kill costs" parts_without_callers
expect "make install, and a program that uses what it installed" install_and_use "$first.c"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]

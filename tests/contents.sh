#!/bin/bash
# contents.sh [--write] - the list of contents in mproc.h's first comment: each part's name, the line where it is
# declared and the line where it is implemented, as the banners say. Without an option it compares; with --write
# it puts the right lines in.
cd "$(dirname "$0")/.." || exit 1
list=$(mktemp) && trap 'rm -f "$list"' EXIT

# The parts in the order of the file: a line for each name.
contents() {
    awk '
        /^#if defined\(MPROC_IMPLEMENTATION\) && !defined\(MPROC_IMPLEMENTED\)/ { implemented = 1 }
        /^\/\* ---- .* -+( \*\/)?$/ {
            name = $0
            gsub(/^\/\* ---- | -+( \*\/)?$/, "", name)
            sub(/:.*/, "", name)
            if (!(name in known)) order[++parts] = name
            known[name]
            line[name, implemented + 0] = "mproc.h:" NR
        }
        END {
            for (i = 1; i <= parts; i++) {
                text = sprintf("       %-26s %-13s %s", order[i], line[order[i], 0], line[order[i], 1])
                sub(/ +$/, "", text)
                print text
            }
        }' mproc.h
}

# Puts the list where the present one stands: from the line after "Contents" to the next empty line.
write() {
    awk -v list="$list" '
        !done && on == 2 && /^$/ { while ((getline line <list) > 0) print line; on = 0; done = 1 }
        on == 2 { next }
        on == 1 && /^$/ { print; on = 2; next }
        !done && /^   Contents: / { on = 1 }
        { print }' mproc.h >"$list.new" && cat "$list.new" >mproc.h && rm -f "$list.new"
}

contents >"$list"
if [ "$1" = --write ]; then
    write
    contents >"$list" # the list may have grown, which moves all the lines
    write
    exit
fi
awk '/^   Contents: / { on = 1 } on == 2 && /^$/ { exit } on == 2 { print } on == 1 && /^$/ { on = 2 }' mproc.h |
    diff - "$list" || { echo "bash tests/contents.sh --write puts it right"; exit 1; }

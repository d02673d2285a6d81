#!/bin/bash
# functions.sh [FILE] - figures about how mproc.h reads: its lines, its functions, their median and greatest length
# (from the signature's first line to the closing brace), and the deepest nesting of if, for, while, do and
# switch. Only figures: nothing fails. It leans on .clang-format: a function begins and ends in column one.
cd "$(dirname "$0")/.." || exit 1
file=${1:-mproc.h}

# A line "LENGTH DEPTH NAME" for each function.
functions() {
    awk '
        function tell(depth) {
            sub(/__attribute__\(\([^)]*\)\)/, "", signature)
            match(signature, /[a-z_0-9]+\(/)
            print NR - start + 1, depth, substr(signature, RSTART, RLENGTH - 1)
            start = inside = 0
        }
        inside && /^ +(\} )?(if|for|while|do|switch|else)[ ;]/ {
            match($0, /[^ ]/)
            if (int((RSTART - 1) / 4) > depth) depth = int((RSTART - 1) / 4)
        }
        inside && /^}/ { tell(depth) }
        inside { next }
        !start && /^[A-Za-z]/ { start = NR; signature = "" }
        start { signature = signature " " $0 }
        start && /\) \{$/ { inside = 1; depth = 0; next }
        start && /\) \{.*\}$/ { tell(0); next }
        /[;}]$/ || /\{$/ || /^$/ || /^#/ || /^\// { start = 0 }' "$file"
}

functions | sort -n | awk -v lines="$(wc -l <"$file")" -v file="$file" '
    { length_of[NR] = $1; name[NR] = $3; if ($2 > deepest) { deepest = $2; where = $3 } }
    $1 >= 60 { long = long " " $3 }
    $2 > 3 { nested = nested " " $3 }
    END {
        printf "%s: %d lines; %d functions: median %d lines, longest %d (%s); deepest nesting %d (%s)\n", file, lines,
            NR, length_of[int((NR + 1) / 2)], length_of[NR], name[NR], deepest, where
        if (long != "") print "60 lines or more:" long
        if (nested != "") print "nested deeper than 3:" nested
    }'
echo "0 passed, 0 failed"

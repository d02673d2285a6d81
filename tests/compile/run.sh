#!/bin/bash
# run.sh [full] - the header as users meet it: each language, each compiler, each order of inclusion, without one
# warning under the strict set; how it links; what it says where libc hides what it needs. Without "full" a part
# that takes seconds, for make test; with it every combination. A compiler that is missing is named.
# The last line is "N passed, N failed".
cd "$(dirname "$0")/../.." || exit 1
here=$PWD/tests/compile
full=${1:-}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/mproc_compile.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT

if [ "${BUILD:-build}" != build ] && [ -z "$full" ]; then
    echo "skipped: how the header compiles does not depend on this build's flags"
    echo "0 passed, 0 failed"
    exit 0
fi

both=(-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wundef -Wvla -Werror)
c_only=(-Wstrict-prototypes -Wmissing-prototypes)

# Runs as many checks at a time as there are processors; each leaves ok or FAIL in a file of its own number.
number=0
expect() { # WHAT COMMAND...
    local what=$1
    shift
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
    number=$((number + 1))
    {
        if "$@" >"$tmp/log.$number" 2>&1 </dev/null; then
            echo ok >"$tmp/result.$number"
        else
            { echo "FAIL: $what"; sed 's/^/    /' "$tmp/log.$number" | head -n 30; } >"$tmp/result.$number"
        fi
    } &
}
have() { # COMPILER
    command -v "$1" >/dev/null && return
    grep -qsx "$1" "$tmp/missing" && return 1
    echo "$1" >>"$tmp/missing"
    echo "skipped: there is no $1"
    return 1
}

# Ways to include the header; in each file a user's function makes the file not empty. A file is NAME.c and the
# same text is NAME.cpp.
write_sources() {
    local include='#include "mproc.h"' implement='#define MPROC_IMPLEMENTATION' user='mproc_lock *user(void); mproc_lock *user(void) { return mproc_lock_new(); }'
    printf '%s\n' "$include" "$include" "$user" >"$tmp/declarations.c"
    printf '%s\n' "$implement" "$include" "$user" >"$tmp/implementation.c"
    printf '%s\n' "$include" "$user" "$implement" "$include" >"$tmp/implementation_last.c"
    printf '%s\n' "$implement" "$include" "$include" "$implement" "$include" "$user" >"$tmp/implementation_twice.c"
    printf '%s\n' '#include <stdio.h>' '#include <stdlib.h>' "$implement" "$include" "$user" >"$tmp/after_stdio.c"
    printf '%s\n' '#define MPROC_STATIC' "$implement" "$include" "$user" >"$tmp/static.c"
    printf '%s\n' '#define MPROC_DEF __attribute__((visibility("default")))' "$implement" "$include" "$user" >"$tmp/own_def.c"
    printf '%s\n' '#define NDEBUG' "$implement" "$include" "$user" >"$tmp/ndebug.c"
    local file
    for file in "$tmp"/*.c; do cp "$file" "${file%.c}.cpp"; done
}

# One file in one language. A strict -std after a system header is not possible in C, and has a check of its own;
# mproc.h itself without the implementation is such a header.
compile() { # COMPILER STANDARD FILE OPTION...
    local compiler=$1 standard=$2 file=$3 warnings=("${both[@]}") suffix=c
    shift 3
    case $standard in
    *++*) suffix=cpp ;;
    c*) [[ $file != after_stdio && $file != implementation_last ]] || return 0 ;;&
    *) warnings+=("${c_only[@]}") ;;
    esac
    expect "$compiler -std=$standard $* $file" \
        "$compiler" -std="$standard" "${warnings[@]}" "$@" -I. -o /dev/null "$tmp/$file.$suffix"
}

# Unused functions, which MPROC_STATIC could leave, gcc finds only when it makes code.
look_at() { if [ "$1" = static ]; then echo -c; else echo -fsyntax-only; fi; }

# After a system header in a strict mode: that one error, and nothing beside it.
one_error() { # COMPILER STANDARD HEADER
    local source="$tmp/first.$1.$2.${3//\//_}.c" lines
    printf '#include <%s>\n#define MPROC_IMPLEMENTATION\n#include "mproc.h"\n' "$3" >"$source"
    lines=$("$1" -std="$2" "${both[@]}" "${c_only[@]}" -I. -fsyntax-only "$source" 2>&1 | grep -E '(error|warning):')
    printf '%s\n' "$lines"
    [ "$(wc -l <<<"$lines")" -eq 1 ] && grep -q 'mproc.h: a system header came first' <<<"$lines"
}

# After a system header in a strict mode, with a libc that hides less: either it compiles, or there is that error.
error_or_nothing() { # COMPILER STANDARD HEADER
    local source="$tmp/first.$1.$2.${3//\//_}.c" lines
    printf '#include <%s>\n#define MPROC_IMPLEMENTATION\n#include "mproc.h"\n' "$3" >"$source"
    lines=$("$1" -std="$2" "${both[@]}" "${c_only[@]}" -I. -fsyntax-only "$source" 2>&1)
    [ -z "$lines" ] && return
    printf '%s\n' "$lines"
    grep -q 'mproc.h: a system header came first' <<<"$lines"
}

# Two files that use the header and one that holds the implementation: C with C, and each language with the other.
link_c() { # COMPILER
    local out="$tmp/link.$1"
    "$1" -std=c99 -O1 "${both[@]}" "${c_only[@]}" -o "$out" "$here"/link_*.c -pthread &&
        [ "$(timeout 60 "$out")" = linked ]
}
link_cpp_with_c() { # C-COMPILER C++-COMPILER
    local out="$tmp/link.$1.$2"
    "$1" -std=c99 -O1 -I. -c -o "$out.o" "$tmp/implementation.c" &&
        "$2" -std=c++11 "${both[@]}" -DLINKED -o "$out" "$here/every.cpp" "$out.o" -pthread &&
        [ "$(timeout 60 "$out")" = "every function" ]
}
link_c_with_cpp() { # C-COMPILER C++-COMPILER
    local out="$tmp/link.$2.$1" file
    for file in first second; do "$1" -std=c99 -I. -c -o "$out.$file.o" "$here/link_$file.c" || return; done
    printf 'extern "C" {\n#include "%s/link_one.c"\n}\n' "$here" >"$out.cpp"
    "$2" -std=c++11 -I. -o "$out" "$out.cpp" "$out".*.o -pthread && [ "$(timeout 60 "$out")" = linked ]
}

every() { # COMPILER STANDARD
    local out="$tmp/every.$1.$2"
    "$1" -std="$2" -O1 "${both[@]}" -o "$out" "$here/every.cpp" -pthread && [ "$(timeout 60 "$out")" = "every function" ]
}

# The header's public names, less what only configures it, all stand in every.cpp.
names() { grep -owE '(mproc_[a-z]|MPROC_[A-Z])[A-Za-z0-9_]*' | sort -u; }
every_name() {
    cc -fpreprocessed -dD -E -P -x c mproc.h 2>/dev/null |
        awk '/^#if defined\(MPROC_IMPLEMENTATION\) && !defined\(MPROC_IMPLEMENTED\)/ { exit } { print }' | names |
        grep -vxE 'MPROC_(H|DEF|STATIC|IMPLEMENTATION)' >"$tmp/public"
    names <"$here/every.cpp" | comm -23 "$tmp/public" - >"$tmp/not_called"
    echo "not called from every.cpp:"
    cat "$tmp/not_called"
    grep -qx mproc_pool_map "$tmp/public" && [ ! -s "$tmp/not_called" ]
}

# What the implementation gives the linker: its own names and no others; none at all with MPROC_STATIC.
symbols() { # FILE WANTED-COUNT-IS-ZERO
    cc -std=gnu99 -O1 -I. -c -o "$tmp/$1.o" "$tmp/$1.c" || return
    nm -g --defined-only "$tmp/$1.o" | awk '$3 != "user" { print $3 }' >"$tmp/$1.symbols"
    echo "global symbols of $1.o:"
    cat "$tmp/$1.symbols"
    if [ "$2" = none ]; then [ ! -s "$tmp/$1.symbols" ]; else ! grep -qv '^mproc_' "$tmp/$1.symbols"; fi
}

# A wait ends on the monotonic clock, whatever is done to the other: libc is asked for nothing that takes a moment of
# that one. (The lock that does is for libcs without pthread_mutex_clocklock, and gets a moment long past.)
clocks() {
    local wrong='sem_timedwait|mq_timed.*|pthread_(cond|rwlock)_timed.*|gettimeofday|time|alarm|setitimer'
    cc -std=gnu99 -O1 -I. -c -o "$tmp/clocks.o" "$tmp/implementation.c" || return
    nm -u "$tmp/clocks.o" | awk '{ print $2 }' >"$tmp/clocks"
    grep -qx clock_gettime "$tmp/clocks" || return
    echo 'int pthread_mutex_clocklock(void); int main(void) { return pthread_mutex_clocklock(); }' >"$tmp/has.c"
    cc -w -o "$tmp/has" "$tmp/has.c" -pthread 2>/dev/null && wrong+='|pthread_mutex_timedlock'
    ! grep -xE "$wrong" "$tmp/clocks" && ! grep -n CLOCK_REALTIME mproc.h
}

files=(declarations implementation implementation_last implementation_twice after_stdio static own_def ndebug)
headers=(assert ctype errno limits math setjmp signal stdint stdio stdlib string time dirent fcntl poll pthread
    sched sys/file sys/mman sys/resource sys/stat sys/types sys/wait unistd)

quick_part() {
    local compiler standard file
    for compiler in gcc clang; do
        have $compiler || continue
        for file in "${files[@]}"; do compile $compiler gnu99 "$file" "$(look_at "$file")"; done
        for standard in c99 c11 c2x; do compile $compiler $standard implementation -fsyntax-only; done
        compile $compiler c99 implementation -O2 -c
        expect "$compiler: <stdio.h> first in a strict mode" one_error $compiler c99 stdio.h
        expect "$compiler: three files linked" link_c $compiler
    done
    for compiler in g++ clang++; do
        have $compiler || continue
        for file in declarations static implementation_last; do compile $compiler c++11 "$file" "$(look_at "$file")"; done
        for standard in c++14 c++17 c++20; do compile $compiler $standard implementation -fsyntax-only; done
        expect "$compiler -std=c++11: every function" every $compiler c++11
    done
    expect "every public name is called from C++" every_name
    expect "symbols" symbols implementation own
    expect "symbols of MPROC_STATIC" symbols static none
    expect "clocks" clocks
    if have gcc && have g++; then
        expect "C++ with the implementation in C" link_cpp_with_c gcc g++
        expect "C with the implementation in C++" link_c_with_cpp gcc g++
    fi
}

# Every way to include, in every language; one of them optimised, since some warnings come only then.
full_part() {
    local compiler standard file header
    for compiler in gcc clang; do
        have $compiler || continue
        for standard in c99 c11 c17 c2x gnu99 gnu11 gnu17 gnu2x; do
            for file in "${files[@]}"; do compile $compiler $standard "$file" "$(look_at "$file")"; done
            compile $compiler $standard implementation -O1 -c
        done
        for file in -O0 -O3 -Os "-O2 -flto" "-O2 -D_FORTIFY_SOURCE=2" "-O2 -funsigned-char" "-O2 -fPIC"; do
            # shellcheck disable=SC2086 # options are words
            compile $compiler c99 implementation $file -c
        done
        for header in "${headers[@]}" mproc; do
            expect "$compiler: <$header.h> first in a strict mode" one_error $compiler c99 "$header.h"
        done
    done
    for compiler in g++ clang++; do
        have $compiler || continue
        for standard in c++11 c++14 c++17 c++20 gnu++17; do
            for file in "${files[@]}"; do compile $compiler $standard "$file" "$(look_at "$file")"; done
            compile $compiler $standard implementation -O1 -c
            expect "$compiler -std=$standard: every function" every $compiler $standard
        done
    done
    for compiler in musl-gcc aarch64-linux-gnu-gcc arm-linux-gnueabihf-gcc i686-linux-gnu-gcc powerpc64le-linux-gnu-gcc \
        riscv64-linux-gnu-gcc s390x-linux-gnu-gcc; do
        have $compiler || continue
        for standard in c99 gnu11 c2x; do
            for file in "${files[@]}"; do compile $compiler $standard "$file" "$(look_at "$file")"; done
        done
        compile $compiler c11 implementation -O2 -c
    done
    for compiler in i686-linux-gnu-gcc arm-linux-gnueabihf-gcc; do
        have $compiler && compile $compiler c99 implementation -O2 -D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64 -c
    done
    # musl's <sys/wait.h> hides waitid and shows that by no macro: the compiler names it.
    have musl-gcc && for header in "${headers[@]/sys\/wait/poll}"; do
        expect "musl-gcc: <$header.h> first in a strict mode" error_or_nothing musl-gcc c99 "$header.h"
    done
}

write_sources
quick_part
[ -z "$full" ] || full_part
wait

passed=0 failed=0
for ((i = 1; i <= number; i++)); do
    if grep -qx ok "$tmp/result.$i"; then passed=$((passed + 1)); else
        cat "$tmp/result.$i"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]

# make run     copies a folder with a pool of processes and checks the copy: make run DIR=/usr/include WORKERS=4
# make test    builds and runs every test and example: make test SANITIZE=address,undefined for a checked build
# make help    the rest

CC      ?= cc
CFLAGS  ?= -O2 -g
DIR     ?= /usr/include
WORKERS ?= 0
PREFIX  ?= /usr/local

STD     := -std=gnu99
WARN    := -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wundef \
           -Wstrict-prototypes -Wmissing-prototypes -Wvla
VERSION := $(shell sed -n 's/.*mproc\.h - v\([0-9.]*\).*/\1/p;1q' mproc.h)

# A sanitized build has a folder of its own, so that the two do not rebuild each other.
ifdef SANITIZE
B        := build/asan
SANFLAGS := -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer
export LIMIT := 600
else
B        := build
endif

EXAMPLES := $(patsubst examples/%.c,$(B)/examples/%,$(sort $(wildcard examples/*.c)))
TESTS    := $(patsubst tests/%.c,$(B)/tests/%,$(sort $(wildcard tests/test_*.c)))
SCRIPTS  := $(filter-out tests/run.sh,$(sort $(wildcard tests/*.sh tests/compile/run.sh)))
SOURCES  := $(wildcard *.h examples/*.c tests/*.h tests/*.c tests/*/*.h tests/*/*.c)
COMPILE   = $(CC) $(STD) $(CFLAGS) $(WARN) $(SANFLAGS)

.PHONY: examples run test kill stress fuzz bench bench-deps deps format check-format lint install clean help FORCE
.DELETE_ON_ERROR:

examples: $(EXAMPLES)

help:
	@echo 'make examples              builds the examples into build/examples'
	@echo 'make run [DIR=] [WORKERS=] copies DIR (default /usr/include) with WORKERS processes, checks the copy'
	@echo 'make test [SANITIZE=]      builds and runs all tests and examples; installs what they need (deps)'
	@echo 'make kill                  kills and stops processes at every instruction of every operation'
	@echo 'make stress                kill storms: a minute over all objects, 20 seconds for each, and more'
	@echo 'make fuzz                  random calls by several processes, a minute; needs clang with libFuzzer'
	@echo 'make bench [ROWS=]         measures beside peers, 4 minutes; ROWS=Ring only rows with that in their title'
	@echo 'make bench-deps            installs the Debian packages of the peers'
	@echo 'make deps                  installs the Debian packages the tests need, if they are missing'
	@echo 'make format, check-format  applies, checks .clang-format'
	@echo 'make lint                  static analysis with cppcheck, clang-tidy and gcc -fanalyzer'
	@echo 'make install PREFIX=DIR    installs mproc.h and mproc.pc (default: /usr/local)'
	@echo 'make clean                 removes build/'
	@echo 'CC and CFLAGS choose the compiler and its flags.'

# Whatever was compiled with other flags is compiled again.
$(B)/flags: FORCE
	@mkdir -p $(B)/examples $(B)/tests
	@echo '$(COMPILE)' | cmp -s - $@ || echo '$(COMPILE)' > $@

$(B)/examples/%: examples/%.c mproc.h $(B)/flags
	$(COMPILE) -o $@ $< -pthread

$(B)/tests/kill/kill: tests/kill/kill.c tests/kill/step.h mproc.h $(B)/flags
	@mkdir -p $(@D)
	$(COMPILE) -o $@ $< -pthread

$(B)/tests/fuzz: tests/fuzz/fuzz.c mproc.h $(B)/flags
	$(COMPILE) -DREPLAY -o $@ $< -lm -pthread

$(B)/tests/%: tests/%.c mproc.h $(wildcard tests/*.h) $(B)/flags
	$(COMPILE) -o $@ $< -lcheck -lsubunit -lm -lrt -pthread

# The copy is made read-only where its source is; chmod so that it can be removed.
run: $(B)/examples/copy_tree
	@tmp=$$(mktemp -d "$${TMPDIR:-/tmp}/copy_tree.XXXXXX") || exit 1; \
	trap 'chmod -R u+rwX "$$tmp"; rm -rf "$$tmp"' EXIT; trap 'exit 1' HUP INT TERM; \
	echo 'copy_tree: $(DIR)'; \
	$(B)/examples/copy_tree -w '$(WORKERS)' '$(DIR)' "$$tmp/copy" && \
	diff -r --no-dereference '$(DIR)' "$$tmp/copy" && \
	echo 'verified: diff finds no difference'

# A test that does not compile counts as failed and keeps none of the others from running.
test: deps
	-@$(MAKE) --no-print-directory -k -j"$$(nproc)" $(TESTS) $(B)/tests/storm $(B)/tests/kill/kill $(B)/tests/fuzz $(EXAMPLES)
	@bash tests/run.sh $(B) $(TESTS) $(filter-out %/copy_tree,$(EXAMPLES)) $(SCRIPTS)

# What make test does for a moment, at length: kill storms of a minute over all objects at once and of 20 seconds
# for each, 10^8 tasks submitted in flat memory, and half a minute of every kind of task with workers killed.
stress: deps $(B)/tests/storm $(B)/tests/test_pool $(B)/tests/test_pool_more
	$(B)/tests/storm 60 all
	$(B)/tests/storm 20
	MPROC_TEST_SUBMITS=100000000 $(B)/tests/test_pool submitting_takes_no_memory
	MPROC_TEST_SECONDS=30 $(B)/tests/test_pool_more storm_of_every_kind_of_task

# What it finds goes to build/fuzz as crash-* or timeout-*; kept in tests/fuzz/inputs, `make test` replays it.
fuzz:
	@command -v clang >/dev/null || { echo 'As root: apt-get install clang'; exit 1; }
	@mkdir -p build/fuzz/corpus
	clang $(STD) -O1 -g $(WARN) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -o build/fuzz/fuzz \
	    tests/fuzz/fuzz.c -lm -pthread
	build/fuzz/fuzz -max_total_time=60 -max_len=600 -timeout=60 -rss_limit_mb=0 -handle_term=0 -handle_int=0 \
	    -handle_xfsz=0 -artifact_prefix=build/fuzz/ build/fuzz/corpus tests/fuzz/inputs

# Peers that cannot be built or started show as "not installed" in the table.
bench: $(B)/bench/bench $(B)/bench/openmp $(B)/bench/hot
	$(B)/bench/bench $(ROWS)
	@bash tests/bench/instructions.sh $(B)

$(B)/bench/hot: tests/bench/hot.c mproc.h $(B)/flags
	@mkdir -p $(@D)
	$(COMPILE) -o $@ $< -pthread

BENCH_PARTS := $(patsubst %,$(B)/bench/%.o,bench harness ours bare tasks sockets boost)
$(B)/bench/bench: $(BENCH_PARTS)
	$(CC) $(CFLAGS) $(SANFLAGS) -o $@ $^ -pthread -lrt -lm $$(for l in zmq nng stdc++; do \
	    echo 'int main(void) { return 0; }' | $(CC) -x c -o /dev/null - -l$$l 2>/dev/null && echo -l$$l; done)

$(B)/bench/%.o: tests/bench/%.c $(wildcard tests/bench/*.h) mproc.h $(B)/flags
	@mkdir -p $(@D)
	$(COMPILE) -c -o $@ $<

$(B)/bench/boost.o: tests/bench/boost.cpp tests/bench/bench.h $(B)/flags
	@mkdir -p $(@D)
	$(CXX) -std=c++17 $(CFLAGS) -c -o $@ $< || $(COMPILE) -x c -c -o $@ $<

$(B)/bench/openmp: tests/bench/openmp.c tests/bench/work.h $(B)/flags
	@mkdir -p $(@D)
	$(COMPILE) -fopenmp -o $@ $< || { echo '#!/bin/false' > $@ && chmod +x $@; }

# What the benchmark compares with; each can be missing.
bench-deps:
	$$([ "$$(id -u)" -eq 0 ] || echo sudo) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
	    g++ libboost-dev libzmq3-dev libnng-dev libgomp1 python3 parallel valgrind

# A victim killed, then one stopped and resumed, at every instruction of every operation: many minutes.
# A sample: build/tests/kill/kill -t 20
kill: $(B)/tests/kill/kill
	$(B)/tests/kill/kill
	$(B)/tests/kill/kill -S

# The tests use Check (libcheck.github.io); the header and the examples need nothing.
deps:
	@echo '#include <check.h>' | $(CC) -E - >/dev/null 2>&1 && exit 0; \
	if ! command -v apt-get >/dev/null; then \
	    echo 'The tests need Check (https://libcheck.github.io): install it and its development files.'; exit 1; \
	elif [ "$$(id -u)" -eq 0 ]; then sudo=; \
	elif command -v sudo >/dev/null; then sudo=sudo; \
	else echo 'The tests need Check. As root: apt-get install check'; exit 1; fi; \
	echo 'The tests need Check: installing the Debian package "check".'; \
	$$sudo apt-get update -q && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends check

format:
	@command -v clang-format >/dev/null || { echo 'As root: apt-get install clang-format'; exit 1; }
	clang-format -i $(SOURCES)
	bash tests/contents.sh --write

check-format:
	@command -v clang-format >/dev/null || { echo 'As root: apt-get install clang-format'; exit 1; }
	clang-format --dry-run -Werror $(SOURCES)

# Each tool that is there runs; what is not there is named. Findings make it fail. Left out of clang-tidy, because:
# easily-swappable-parameters  the interface is given (value, size, timeout)
# reserved-identifier          mproc__ is how this file marks what is private
# narrowing-conversions        -Wconversion says it, with fewer false alarms
# branch-clone                 short switch cases that do the same stand apart on purpose
# macro-parentheses            MPROC_WITH and mproc_value_new take types and statements
# sizeof-expression            takes every array of pointers for a mistake
# no-int-to-ptr                objects are named by their addresses in shared words
# insecureAPI                  asks for functions that Linux's libcs do not have (memset_s)
# valist.Uninitialized         false alarm in version 14
TIDY := -checks=-*,clang-analyzer-*,bugprone-*,performance-*,portability-*,-bugprone-easily-swappable-parameters,-bugprone-reserved-identifier,-bugprone-narrowing-conversions,-bugprone-branch-clone,-bugprone-macro-parentheses,-bugprone-sizeof-expression,-performance-no-int-to-ptr,-clang-analyzer-security.insecureAPI.*,-clang-analyzer-valist.Uninitialized
# cppcheck reads no system header: these tell it that they showed what mproc.h looks for.
SHOWN := -DMAP_ANONYMOUS=32 -DMADV_DONTNEED=4 -DLOCK_EX=2 -DL_ctermid=9 -DCLOCK_MONOTONIC=1 -DSIG_SETMASK=2 -Dalloca=alloca
lint:
	@mkdir -p build; failed=0; \
	if command -v cppcheck >/dev/null; then \
	    echo cppcheck; \
	    cppcheck --quiet --language=c --std=c11 --enable=warning,performance,portability --inline-suppr \
	        --suppress=missingIncludeSystem --error-exitcode=1 -DMPROC_IMPLEMENTATION -D__linux__ $(SHOWN) mproc.h || failed=1; \
	else echo 'cppcheck is missing. As root: apt-get install cppcheck'; fi; \
	if command -v clang-tidy >/dev/null; then \
	    echo clang-tidy; \
	    clang-tidy --quiet '$(TIDY)' --warnings-as-errors='*' examples/copy_tree.c -header-filter='mproc\.h' \
	        -- $(STD) || failed=1; \
	else echo 'clang-tidy is missing. As root: apt-get install clang-tidy'; fi; \
	if echo 'int x;' | gcc -fanalyzer -x c -c -o /dev/null - 2>/dev/null; then \
	    echo gcc -fanalyzer; \
	    gcc $(STD) -O1 $(WARN) -Werror -fanalyzer -c -o build/lint.o examples/copy_tree.c || failed=1; \
	else echo 'gcc with -fanalyzer is missing. As root: apt-get install gcc'; fi; \
	exit $$failed

install:
	install -d '$(DESTDIR)$(abspath $(PREFIX))/include' '$(DESTDIR)$(abspath $(PREFIX))/share/pkgconfig'
	install -m 644 mproc.h '$(DESTDIR)$(abspath $(PREFIX))/include/mproc.h'
	printf '%s\n' 'prefix=$(abspath $(PREFIX))' 'includedir=$${prefix}/include' '' 'Name: mproc' \
	    "Description: Python's multiprocessing for C on Linux, kill-safe, in one header" \
	    'Version: $(VERSION)' 'Cflags: -I$${includedir} -pthread' 'Libs: -pthread' \
	    > '$(DESTDIR)$(abspath $(PREFIX))/share/pkgconfig/mproc.pc'

clean:
	rm -rf build

#!/bin/bash
# A random sample of the kill matrix, some twenty seconds of it; MPROC_TEST_SEED repeats one. `make kill` runs
# all points. Run by tests/run.sh.
cd "$(dirname "$0")/.." || exit 1
make --no-print-directory -s build/tests/kill/kill SANITIZE= >&2 || exit 1
exec build/tests/kill/kill -t "${KILL_SECONDS:-20}" ${MPROC_TEST_SEED:+-s "$MPROC_TEST_SEED"}

#!/bin/bash
# instructions.sh BUILD - instructions of one call of each hot function, by callgrind. They do not vary with the load of
# the machine, so a later change can be judged by them.
printf '\n### Instructions of one call\n\n'
command -v valgrind >/dev/null || { echo 'valgrind is not installed'; exit 0; }
printf '| | instructions |\n|---|---|\n'
for f in mproc_ring_put mproc_ring_get mproc_queue_put mproc_queue_get mproc_lock_acquire mproc_lock_release \
    mproc_event_set mproc_event_clear mproc_shm_new mproc_free mproc_pool_submit \
    robust_lock robust_unlock pipe_write pipe_read; do
    n=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect=$f "$1/bench/hot" $f 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p' | sort -n | tail -1)
    case $f in robust_*) f="limit: pthread robust, ${f#*_}" ;; pipe_*) f="limit: raw pipe, ${f#*_}" ;; esac
    printf '| %s | %d |\n' "$f" $((${n:-0} / 1000))
done

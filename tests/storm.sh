#!/bin/bash
# The kill storm, briefly: each object under 8 processes of which one is killed every 20 ms, then all objects at
# once. Longer: make stress.
storm=${BUILD:-build}/tests/storm
"$storm" "${1:-0.5}" && "$storm" "${2:-5}" all

#!/bin/bash
# The kill storm, briefly: each object under 8 processes of which one is killed every 20 ms. Longer: make stress.
"${BUILD:-build}/tests/storm" "${1:-0.5}"

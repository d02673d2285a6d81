#!/bin/bash
# The inputs with which fuzzing once found something, and some that reach far, run again.
exec "${BUILD:-build}/tests/fuzz" tests/fuzz/inputs/*

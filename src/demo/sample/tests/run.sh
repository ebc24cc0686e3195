#!/bin/sh
# Runs every test: each tests/*.test.sh must end with 0.
set -u
cd "$(dirname "$0")/.." || exit 2

failed=0
for test in tests/*.test.sh; do
    if sh "$test"; then
        echo "ok    $test"
    else
        echo "FAIL  $test"
        failed=1
    fi
done
exit $failed

#!/usr/bin/env bash
# Every run of the protocol, both methods: DATA=/path bash cross_datasets.sh [--help for options]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
: "${DATA:?set DATA to the folder of the data sets}"
exec python3 scripts/sweep.py cross_datasets "$@"

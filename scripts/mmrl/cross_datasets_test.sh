#!/usr/bin/env bash
# Evaluate on another data set: DATA=/path bash scripts/mmrl/cross_datasets_test.sh DATASET SEED [KEY VALUE ...]
set -euo pipefail
: "${DATA:?set DATA to the folder of the data sets}"
exec python3 "$(dirname "${BASH_SOURCE[0]}")/../one_run.py" cross_datasets test mmrl "$@"

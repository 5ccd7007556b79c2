#!/usr/bin/env bash
# Train on base classes: DATA=/path bash scripts/mmrlpp/base_to_novel_train.sh DATASET SEED [KEY VALUE ...]
set -euo pipefail
: "${DATA:?set DATA to the folder of the data sets}"
exec python3 "$(dirname "${BASH_SOURCE[0]}")/../one_run.py" base_to_novel train mmrlpp "$@"

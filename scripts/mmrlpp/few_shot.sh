#!/usr/bin/env bash
# Train and evaluate on all classes: DATA=/path bash scripts/mmrlpp/few_shot.sh DATASET SEED SHOTS [KEY VALUE ...]
set -euo pipefail
: "${DATA:?set DATA to the folder of the data sets}"
exec python3 "$(dirname "${BASH_SOURCE[0]}")/../one_run.py" few_shot train mmrlpp "$@"

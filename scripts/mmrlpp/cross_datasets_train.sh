#!/usr/bin/env bash
# Train on all of ImageNet's classes: DATA=/path bash scripts/mmrlpp/cross_datasets_train.sh imagenet SEED [KEY VALUE ...]
set -euo pipefail
: "${DATA:?set DATA to the folder of the data sets}"
exec python3 "$(dirname "${BASH_SOURCE[0]}")/../one_run.py" cross_datasets train mmrlpp "$@"

#!/usr/bin/env bash
# Evaluate new classes: DATA=/path bash scripts/mmrl/base_to_novel_test.sh DATASET SEED [KEY VALUE ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
: "${DATA:?set DATA to the folder of the data sets}"
dataset=${1:?DATASET SEED [KEY VALUE ...]} seed=${2:?DATASET SEED [KEY VALUE ...]}
config=vit_b16
[[ $dataset != imagenet ]] || config=vit_b16_imagenet
run=shots_16/MMRL/$config/seed$seed

exec "${PYTHON:-python}" train.py --root "$DATA" --seed "$seed" --trainer MMRL \
    --dataset-config-file "configs/datasets/$dataset.yaml" \
    --config-file "configs/trainers/MMRL/$config.yaml" \
    --output-dir "output/base2new/test_new/$dataset/$run" \
    --model-dir "output/base2new/train_base/$dataset/$run" --eval-only \
    DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES new TASK B2N "${@:3}"

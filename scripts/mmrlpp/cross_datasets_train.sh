#!/usr/bin/env bash
# Train on all of ImageNet's classes: DATA=/path bash scripts/mmrlpp/cross_datasets_train.sh DATASET SEED [KEY VALUE ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
: "${DATA:?set DATA to the folder of the data sets}"
dataset=${1:?DATASET SEED [KEY VALUE ...]} seed=${2:?DATASET SEED [KEY VALUE ...]}
config=vit_b16_cross_datasets
run=shots_16/MMRLpp/$config/seed$seed

exec "${PYTHON:-python}" train.py --root "$DATA" --seed "$seed" --trainer MMRLpp \
    --dataset-config-file "configs/datasets/$dataset.yaml" \
    --config-file "configs/trainers/MMRLpp/$config.yaml" \
    --output-dir "output/base2new/train_base/$dataset/$run" \
    DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES all TASK CD "${@:3}"

#!/usr/bin/env bash
# Train and evaluate on all classes: DATA=/path bash scripts/mmrl/few_shot.sh DATASET SEED SHOTS [KEY VALUE ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
: "${DATA:?set DATA to the folder of the data sets}"
dataset=${1:?DATASET SEED SHOTS [KEY VALUE ...]} seed=${2:?DATASET SEED SHOTS [KEY VALUE ...]} shots=${3:?DATASET SEED SHOTS [KEY VALUE ...]}
config=vit_b16_few_shot
[[ $dataset != imagenet ]] || config=vit_b16_imagenet
run=shots_$shots/MMRL/$config/seed$seed

exec "${PYTHON:-python}" train.py --root "$DATA" --seed "$seed" --trainer MMRL \
    --dataset-config-file "configs/datasets/$dataset.yaml" \
    --config-file "configs/trainers/MMRL/$config.yaml" \
    --output-dir "output/few_shot/$dataset/$run" \
    DATASET.NUM_SHOTS $shots DATASET.SUBSAMPLE_CLASSES all TASK FS "${@:4}"

#!/usr/bin/env bash
# Train on base classes: DATA=/path bash scripts/mmrlpp/base_to_novel_train.sh DATASET SEED [KEY VALUE ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
: "${DATA:?set DATA to the folder of the data sets}"
dataset=${1:?DATASET SEED [KEY VALUE ...]} seed=${2:?DATASET SEED [KEY VALUE ...]}
config=vit_b16
[[ $dataset != imagenet ]] || config=vit_b16_imagenet
run=shots_16/MMRLpp/$config/seed$seed

exec "${PYTHON:-python}" train.py --root "$DATA" --seed "$seed" --trainer MMRLpp \
    --dataset-config-file "configs/datasets/$dataset.yaml" \
    --config-file "configs/trainers/MMRLpp/$config.yaml" \
    --output-dir "output/base2new/train_base/$dataset/$run" \
    DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base TASK B2N "${@:3}"

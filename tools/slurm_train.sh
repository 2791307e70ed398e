#!/usr/bin/env bash
# slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [train.py flags…]; GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS
set -euo pipefail
if [ "$#" -lt 4 ]; then
    echo "usage: slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [train.py flags…]" >&2
    exit 2
fi
here="$(cd "$(dirname "$0")" && pwd)"
partition="$1"
job="$2"
config="$3"
work_dir="$4"
# shellcheck disable=SC2086 # SRUN_ARGS holds several words
srun -p "$partition" --job-name="$job" --gres="gpu:${GPUS_PER_NODE:-8}" --ntasks="${GPUS:-8}" \
    --ntasks-per-node="${GPUS_PER_NODE:-8}" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$here/train.py" "$config" --work-dir="$work_dir" --launcher=slurm "${@:5}"

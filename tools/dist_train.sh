#!/usr/bin/env bash
# dist_train.sh CONFIG PROCESSES [train.py flags…]; NNODES, NODE_RANK, MASTER_ADDR, PORT for several machines; PYTHON for the interpreter
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
config="$1"
processes="$2"
"${PYTHON:-python}" -m torch.distributed.run --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$processes" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$here/train.py" "$config" --launcher pytorch "${@:3}"

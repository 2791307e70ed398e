#!/usr/bin/env bash
# dist_test.sh CONFIG CHECKPOINT PROCESSES [test.py flags…]; NNODES, NODE_RANK, MASTER_ADDR, PORT for several machines; PYTHON for the interpreter
set -euo pipefail
if [ "$#" -lt 3 ]; then
    echo "usage: dist_test.sh CONFIG CHECKPOINT PROCESSES [test.py flags…]" >&2
    exit 2
fi
if ! [[ "$3" =~ ^([1-9][0-9]*|auto|cpu|gpu)$ ]]; then
    echo "error: dist_test.sh: PROCESSES must be a number, but is '$3'; usage: dist_test.sh CONFIG CHECKPOINT PROCESSES [test.py flags…]" >&2
    exit 2
fi
here="$(cd "$(dirname "$0")" && pwd)"
config="$1"
checkpoint="$2"
processes="$3"
"${PYTHON:-python}" -m torch.distributed.run --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$processes" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$here/test.py" "$config" "$checkpoint" --launcher pytorch "${@:4}"

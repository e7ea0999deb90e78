#!/usr/bin/env bash
# Submits array.sbatch and, after it, finalize.sbatch:
#   submit-array.sh INPUT OUTPUT.zarr TASKS [options of segment]
# Options of sbatch for both go into its variables, as SBATCH_PARTITION and SBATCH_ACCOUNT.
set -euo pipefail
[[ $# -ge 3 && $3 =~ ^[1-9][0-9]*$ ]] || {
    echo "usage: submit-array.sh INPUT OUTPUT.zarr TASKS [OPTION...]" >&2
    exit 2
}
input=$1 output=$2 tasks=$3
shift 3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

array=$(sbatch --parsable --array="0-$((tasks - 1))" "$here/array.sbatch" "$input" "$output" "$@")
array=${array%%;*} # --parsable gives JOB;CLUSTER where there are several clusters
# afterany: a task that failed must not leave the job waiting for ever; finalize itself looks
# for what is missing
finalize=$(sbatch --parsable --dependency="afterany:$array" "$here/finalize.sbatch" "$output") || {
    echo "the array runs as job $array; finalize was not accepted, submit it again:" >&2
    echo "  sbatch --dependency=afterany:$array $here/finalize.sbatch $output" >&2
    exit 1
}
echo "array $array, finalize ${finalize%%;*}"

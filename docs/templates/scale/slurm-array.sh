#!/usr/bin/env bash
# Slurm, where jobs of one GPU start sooner than one of many: an array, each task a fixed share of the work.
#   workers=$(sbatch --parsable slurm-array.sh suites/my_merge.py)
#   sbatch --dependency=afterany:$workers --gpus=1 --cpus-per-task=8 --wrap \
#     "OMP_NUM_THREADS=8 pytest suites/my_merge.py --benchmark --device cuda --shared-cache folder:/shared/sweetspot-cache"
#SBATCH --job-name=sweetspot
#SBATCH --array=1-8
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
set -euo pipefail

suite=${1:?give a suite file, such as suites/my_merge.py}
cache=${SWEETSPOT_SHARED_CACHE:-folder:/shared/sweetspot-cache}
# As in --array. Not $SLURM_ARRAY_TASK_COUNT: where some tasks are submitted again, that is their number alone.
parts=8

# One number for workers and run: the host computes weights, and their last bits depend on it.
export OMP_NUM_THREADS=8

# A task that is requeued goes on where it was: its images are in the cache.
sweetspot work "$suite" --device cuda --shared-cache "$cache" --part "$SLURM_ARRAY_TASK_ID/$parts"

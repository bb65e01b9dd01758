#!/usr/bin/env bash
# Slurm: one worker for each GPU of several nodes, then the run, which finds all images in the cache.
#   sbatch slurm-workers.sh suites/my_merge.py
#SBATCH --job-name=sweetspot
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
set -euo pipefail

suite=${1:?give a suite file, such as suites/my_merge.py}
# A folder that all nodes see. Suites, models and this cache must have the same paths on every node.
cache=${SWEETSPOT_SHARED_CACHE:-folder:/shared/sweetspot-cache}

# One number for workers and run: the host computes weights, and their last bits depend on it.
export OMP_NUM_THREADS=8

# Parts of the work are claimed: a node that is lost costs at most one part, which another worker makes again.
srun --gpus-per-task=1 --kill-on-bad-exit=0 \
  sweetspot work "$suite" --device cuda --shared-cache "$cache" || echo "what is missing is left to the run" >&2

# The only writer of the run folder: metrics, timing on this one GPU, gates, page.
srun --nodes=1 --ntasks=1 --cpus-per-task=8 --gpus-per-task=1 \
  pytest "$suite" --benchmark --device cuda --shared-cache "$cache" --runs-dir runs

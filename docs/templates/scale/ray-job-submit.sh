#!/usr/bin/env bash
# A Ray cluster that is there already: the run is its job, on the head, and makes its images on all GPUs.
#   RAY_API_SERVER_ADDRESS=http://head:8265 bash ray-job-submit.sh suites/my_merge.py
set -euo pipefail

suite=${1:?give a suite file, such as suites/my_merge.py}
# A folder that all nodes see, with suites and models under the same paths. It is not uploaded as a working directory.
folder=${SWEETSPOT_FOLDER:-/shared/sweetspot}

# The entrypoint comes last, and is not quoted as a whole.
ray job submit --address "${RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265}" -- \
  pytest "$folder/$suite" --benchmark --device cuda --workers ray:auto --rootdir "$folder" --runs-dir "$folder/runs"

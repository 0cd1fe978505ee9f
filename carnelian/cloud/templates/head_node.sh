#!/bin/bash
# Runs once on the head node: puts Python, torch and this package on the shared file system, and submits the training.
set -euo pipefail
BUCKET="$1" NAME="$2" SHARED="${CARNELIAN_SHARED:-/fsx}"

mkdir -p "$SHARED/carnelian" "$SHARED/run"
aws s3 cp --only-show-errors --recursive "s3://$BUCKET/$NAME/launch" "$SHARED/carnelian/launch"
python3 -m venv "$SHARED/carnelian/venv"
cd "$SHARED/carnelian/launch"
"$SHARED/carnelian/venv/bin/pip" install --quiet --requirement requirements.txt
chown -R ubuntu:ubuntu "$SHARED/carnelian" "$SHARED/run"
sudo -u ubuntu --login sbatch "$SHARED/carnelian/launch/train.sbatch"

#!/bin/bash
# Runs once on a new machine, as root, from its user data: installs the package and starts the training under systemd.
# A machine that replaces an interrupted one runs it too; the training then goes on from the last checkpoint in the bucket.
set -euo pipefail

ROOT="${CARNELIAN_ROOT:-}" # another root than / for trying the script out
HOME_FOLDER="$ROOT/opt/carnelian"
LOG="$ROOT/var/log/carnelian-boot.log"
PYTHON="${CARNELIAN_PYTHON:-/opt/pytorch/bin/python}" # where the Deep Learning AMI has its PyTorch
mkdir -p "$HOME_FOLDER" "$ROOT/var/log" "$ROOT/etc/carnelian" "$ROOT/etc/systemd/system"
exec >>"$LOG" 2>&1

give_up() { # reports the reason in the bucket and stops the machine, so that it does not cost money for nothing
  echo "boot failed at line $1"
  echo '{"state": "failed", "step": 0, "message": "the machine could not be set up: see carnelian launch logs"}' |
    aws s3 cp --only-show-errors - "s3://$CARNELIAN_BUCKET/$CARNELIAN_NAME/status/status.json" || true
  aws s3 cp --only-show-errors "$LOG" "s3://$CARNELIAN_BUCKET/$CARNELIAN_NAME/status/boot.log" || true
  aws autoscaling set-desired-capacity --auto-scaling-group-name "$CARNELIAN_GROUP" --desired-capacity 0 || true
}
trap 'give_up $LINENO' ERR

echo "$(date -u +%FT%TZ) $CARNELIAN_NAME: fetching the code"
aws s3 cp --only-show-errors --recursive "s3://$CARNELIAN_BUCKET/$CARNELIAN_NAME/launch" "$HOME_FOLDER/launch"
cd "$HOME_FOLDER/launch"

# The image's torch stays: only what is missing is installed.
for attempt in 1 2 3; do
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --requirement requirements.txt && break
  [ "$attempt" = 3 ] && false
  sleep 10
done
if ls ./*.whl >/dev/null 2>&1; then # this very build, also where another one of the same version is installed
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall ./*.whl
fi

cat >"$ROOT/etc/carnelian/environment" <<END
CARNELIAN_BUCKET=$CARNELIAN_BUCKET
CARNELIAN_NAME=$CARNELIAN_NAME
CARNELIAN_GROUP=$CARNELIAN_GROUP
CARNELIAN_HOME=$HOME_FOLDER
AWS_DEFAULT_REGION=$AWS_DEFAULT_REGION
PYTHONUNBUFFERED=1
END
for unit in *.service; do
  sed -e "s|@PYTHON@|$PYTHON|g" -e "s|@HOME@|$HOME_FOLDER|g" -e "s|@ETC@|$ROOT/etc|g" "$unit" >"$ROOT/etc/systemd/system/$unit"
done
systemctl daemon-reload
systemctl enable --now *.service
echo "$(date -u +%FT%TZ) $CARNELIAN_NAME: started"

#!/bin/sh
# Grafana with the password of headcount_bi from its file, since a data source can only take it from the environment.
set -eu
BI_PASSWORD=$(cat "$BI_PASSWORD_FILE")
export BI_PASSWORD
exec /run.sh "$@"

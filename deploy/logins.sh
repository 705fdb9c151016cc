#!/bin/sh
# Run once, when the database is made: who may log in, beside postgres. The migrations say what they may do.
# The passwords come from SERVICE_PASSWORD and BI_PASSWORD, or from the files that SERVICE_PASSWORD_FILE and
# BI_PASSWORD_FILE name.
set -eu
[ -z "${SERVICE_PASSWORD_FILE:-}" ] || SERVICE_PASSWORD=$(cat "$SERVICE_PASSWORD_FILE")
[ -z "${BI_PASSWORD_FILE:-}" ] || BI_PASSWORD=$(cat "$BI_PASSWORD_FILE")
psql --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname="$POSTGRES_DB" \
  --set=service="$SERVICE_PASSWORD" --set=bi="$BI_PASSWORD" <<'SQL'
create role headcount_service login password :'service';
create role headcount_bi login password :'bi' connection limit 10;
-- they have no business in other databases of this server
revoke connect on database postgres, template1 from public;
grant connect on database :"DBNAME" to headcount_service, headcount_bi;
SQL

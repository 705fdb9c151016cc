#!/bin/sh
# Run once, when the database is made: who may log in, beside postgres. What they may do is said by the migrations.
set -eu
psql --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname="$POSTGRES_DB" \
  --set=service="$SERVICE_PASSWORD" --set=bi="$BI_PASSWORD" <<'SQL'
create role headcount_service login password :'service';
create role headcount_bi login password :'bi' connection limit 10;
-- they have no business in other databases of this server
revoke connect on database postgres, template1 from public;
grant connect on database :"DBNAME" to headcount_service, headcount_bi;
SQL

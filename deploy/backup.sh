#!/bin/sh
# Backups of the database headcount, each a folder: backup.sh daily | once | list | check | restore NAME
# It reads PGHOST, PGPORT, PGUSER and PGPASSWORD, or PGPASSWORD_FILE. PGUSER is a superuser.
# BACKUP_FOLDER is where they go, BACKUP_HOURS how often `daily` makes one, BACKUP_KEEP how many stay.
set -eu
umask 077
folder=${BACKUP_FOLDER:-/var/tmp}
hours=${BACKUP_HOURS:-24}
keep=${BACKUP_KEEP:-14}
if [ -n "${PGPASSWORD_FILE:-}" ]; then
  PGPASSWORD=$(cat "$PGPASSWORD_FILE")
  export PGPASSWORD
fi

ask() { # DATABASE STATEMENT
  psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --dbname="$1" --command="$2"
}

once() {
  name=headcount-$(date -u +%Y%m%dT%H%M%SZ)
  rm -rf "$folder"/unfinished-*
  unfinished=$folder/unfinished-$name
  mkdir "$unfinished"
  ask headcount "select extversion from pg_extension where extname = 'timescaledb'" > "$unfinished/timescaledb.version"
  pg_dumpall --roles-only --file="$unfinished/roles.sql"
  pg_dump --format=custom --file="$unfinished/headcount.dump" headcount
  pg_restore --list "$unfinished/headcount.dump" > /dev/null
  mv "$unfinished" "$folder/$name"
  touch "$folder/last"
  list | sort -r | tail -n "+$((keep + 1))" | while read -r old; do rm -rf "${folder:?}/$old"; done
  echo "Made the backup $name."
}

list() {
  for path in "$folder"/headcount-*; do
    [ ! -d "$path" ] || basename "$path"
  done
}

daily() {
  trap 'exit 0' INT TERM
  while true; do
    once || echo "The backup failed. The next attempt is in $hours hours." >&2
    sleep "$((hours * 3600))" &
    wait $!
  done
}

# Whether the last backup is no older than it may be.
check() {
  [ -n "$(find "$folder/last" -mmin "-$((hours * 60 + 60))" 2> /dev/null)" ]
}

restore() { # NAME
  from=$folder/$1
  [ -f "$from/headcount.dump" ] || { echo "There is no backup $1. These exist:" >&2; list >&2; exit 1; }
  if [ -n "$(ask postgres "select 1 from pg_database where datname = 'headcount'")" ] &&
    [ "$(ask headcount "select count(*) from pg_namespace where nspname = 'core'")" != 0 ]; then
    echo "The database headcount holds data. Restore on an empty server, or drop the database first." >&2
    exit 1
  fi
  # that roles exist already does not matter
  psql --no-psqlrc --quiet --dbname=postgres --file="$from/roles.sql" 2>&1 | grep -v 'role ".*" already exists' >&2 || true
  ask postgres 'drop database if exists headcount' 
  ask postgres 'create database headcount'
  ask headcount "create extension timescaledb version '$(cat "$from/timescaledb.version")'"
  ask headcount 'select timescaledb_pre_restore()' > /dev/null
  pg_restore --exit-on-error --dbname=headcount "$from/headcount.dump"
  ask headcount 'select timescaledb_post_restore()' > /dev/null
  ask headcount 'analyze'
  echo "Restored $1. Run headcount migrate and headcount verify before anybody uses it."
}

case ${1:-} in
  daily | once | list | check) "$1" ;;
  restore) restore "${2:?the name of a backup: backup.sh list}" ;;
  *) sed -n '2,4s/^# //p' "$0" >&2; exit 2 ;;
esac

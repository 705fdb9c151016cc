#!/bin/sh
# Makes what compose.yaml keeps secret: passwords and URLs, each in a file of the folder secrets.
# What is there already stays. Passwords in an .env of a release before 0.2.0 are taken over.
set -eu
umask 022
mkdir -p secrets/more
chmod 700 secrets

of_env() { # VARIABLE: its value in .env, if any
  [ ! -f .env ] || sed -n "s/^$1=//p" .env | tail -n 1
}

write() { # FILE TEXT
  [ -s "secrets/$1" ] || printf '%s\n' "$2" > "secrets/$1"
}

for name in postgres service bi grafana nats; do
  password=$(of_env "$(echo "$name" | tr '[:lower:]' '[:upper:]')_PASSWORD")
  [ -n "$password" ] || password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
  case $password in
    *[!A-Za-z0-9._~-]*)
      echo "The $name password in .env has signs that a URL cannot hold. Use letters, digits and ._~- only." >&2
      exit 1
      ;;
  esac
  write "${name}_password" "$password"
done
write owner_url "postgresql://postgres:$(cat secrets/postgres_password)@db:5432/headcount"
write service_url "postgresql://headcount_service:$(cat secrets/service_password)@db:5432/headcount"
write nats_url "nats://headcount:$(cat secrets/nats_password)@nats:4222"
# in quotes: NATS reads 12e3 as a number
write nats_login.conf "password: \"$(cat secrets/nats_password)\""
echo "The folder secrets is complete. Keep a copy of it where the backups are."

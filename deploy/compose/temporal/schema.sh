#!/bin/sh
# Makes Temporal's two databases, or brings them to the version of this image. It may run again at any time.
set -eu
SQL_PASSWORD=$(cat /run/secrets/postgres_password)
export SQL_PASSWORD

for database in temporal temporal_visibility; do
    case $database in
        temporal) schema=temporal ;;
        *) schema=visibility ;;
    esac
    tool() {
        temporal-sql-tool --plugin postgres12_pgx --ep postgres --port 5432 --user temporal --db "$database" "$@"
    }
    tool create-database --defaultdb postgres
    tool setup-schema --version 0.0
    tool update-schema --schema-name "postgresql/v12/$schema"
done

# Fills an empty data folder as POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB say, then becomes the command.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    : "${POSTGRES_PASSWORD:?is not set}"
    passwords=$(mktemp)
    printf '%s\n' "$POSTGRES_PASSWORD" > "$passwords"
    mkdir -p "$PGDATA"
    initdb --username="$POSTGRES_USER" --pwfile="$passwords" --auth-host=scram-sha-256 --auth-local=trust --encoding=UTF8 --locale=C > /dev/null
    rm "$passwords"
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    printf "listen_addresses = '*'\nunix_socket_directories = '/var/run/postgresql'\n" >> "$PGDATA/postgresql.conf"
    pg_ctl --wait --silent --options="-c listen_addresses=''" start
    createdb --host=/var/run/postgresql --username="$POSTGRES_USER" "$POSTGRES_DB"
    pg_ctl --wait --silent --mode=fast stop
fi
exec "$@"

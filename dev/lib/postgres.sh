# shellcheck shell=bash
# Two PostgreSQL servers, `source` and `target`.

source_alive() { process_alive source; }
target_alive() { process_alive target; }
source_start() { postgres_start source "$SOURCE_PG_PORT"; }
target_start() { postgres_start target "$TARGET_PG_PORT"; }
source_ready() { postgres_ready "$SOURCE_PG_PORT"; }
target_ready() { postgres_ready "$TARGET_PG_PORT"; }
# INT is PostgreSQL's fast shutdown; QUIT its immediate one, which like a crash
# leaves recovery to the next start, but no orphaned backends.
source_stop() { process_stop source INT; }
target_stop() { process_stop target INT; }
source_kill() { process_stop source QUIT; }
target_kill() { process_stop target QUIT; }
source_where() { echo "127.0.0.1:$SOURCE_PG_PORT"; }
target_where() { echo "127.0.0.1:$TARGET_PG_PORT"; }

# PostgreSQL refuses to run as root, so there it runs as another user.
as_postgres() {
  if ((EUID)); then
    "$@"
  else
    setpriv --reuid="$(id -u "$PG_USER")" --regid="$(id -g "$PG_USER")" --clear-groups -- "$@"
  fi
}

# Settles PG_BASE (a folder that the PostgreSQL user can reach) and PG_BIN
# (binaries that it can run). Under a folder that only root enters, such as
# root's home, neither the stack folder nor the cache is reachable.
postgres_prepare() {
  if ((EUID == 0)); then
    have setpriv || die "root needs setpriv (package util-linux) to start PostgreSQL as $PG_USER"
    id -u "$PG_USER" >/dev/null 2>&1 || die "there is no user $PG_USER to run PostgreSQL as: set SYNCLINE_PG_USER"
  fi
  PG_BASE=$(state_get PG_BASE)
  if [[ -z $PG_BASE || ! -d $PG_BASE ]]; then
    [[ -z $PG_BASE ]] || say "note: $PG_BASE is gone, so the databases start empty"
    PG_BASE=$STACK_DIR
    as_postgres test -x "$PG_BASE" 2>/dev/null || PG_BASE=$(mktemp -d /var/tmp/syncline-stack.XXXXXX)
    chmod 755 "$PG_BASE"
    state_set PG_BASE "$PG_BASE"
  fi
  PG_BIN=$POSTGRES_HOME/bin
  if ! as_postgres test -x "$PG_BIN/postgres" 2>/dev/null; then
    postgres_copy_binaries "$PG_BASE/postgresql-$POSTGRES_VERSION"
  fi
  state_set PG_BIN "$PG_BIN"
}

postgres_copy_binaries() { # FOLDER
  PG_BIN=$1/bin
  [[ -d $1 ]] && return 0
  rm -rf "$1.new"
  cp -a "$POSTGRES_HOME/." "$1.new"
  chmod -R a+rX "$1.new"
  mv "$1.new" "$1"
}

# Built beside its place and moved there when whole, so that an interrupted
# first start leaves no half cluster behind.
postgres_init() { # NAME
  local name=$1 data=$PG_BASE/$1 new=$PG_BASE/$1.new
  rm -rf "$new"
  mkdir -m 700 "$new"
  ((EUID)) || chown "$(id -u "$PG_USER"):$(id -g "$PG_USER")" "$new"
  # In single-user mode the server reads SQL from standard input: no client needed.
  (
    cd /
    # The same for every developer, whatever the terminal's language is.
    export LC_ALL=C.UTF-8
    as_postgres "$PG_BIN/initdb" -D "$new" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync
    as_postgres "$PG_BIN/postgres" --single -D "$new" -c exit_on_error=true postgres <"$DEV_DIR/postgres/$name.sql"
  ) >>"$STACK_DIR/logs/$name.log" 2>&1 || { log_tail "$name"; die "could not create the $name database"; }
  mv "$new" "$data"
}

postgres_start() { # NAME PORT
  local name=$1 port=$2 data=$PG_BASE/$1
  [[ -f $data/PG_VERSION ]] || postgres_init "$name"
  # Written at every start, so that a change of these files reaches an old cluster.
  local file
  for file in postgresql.conf pg_hba.conf; do
    as_postgres tee "$data/$file" <"$DEV_DIR/postgres/$file" >/dev/null
  done
  (
    cd /
    process_exec=()
    ((EUID)) || process_exec=(setpriv "--reuid=$(id -u "$PG_USER")" "--regid=$(id -g "$PG_USER")" --clear-groups --)
    process_spawn "$name" "$data" ${process_exec[@]+"${process_exec[@]}"} \
      "$PG_BIN/postgres" -D "$data" -p "$port" -c listen_addresses=127.0.0.1
  )
}

# A startup packet for postgres@postgres. While it starts or recovers the server
# answers with an error (E); let in, with R and a zero.
postgres_ready() { # PORT
  local answer
  answer=$(tcp_ask "$1" 9 \
    '\x00\x00\x00\x29\x00\x03\x00\x00user\x00postgres\x00database\x00postgres\x00\x00') || return 1
  [[ $answer == 520000000800000000 ]]
}

postgres_url() { # USER:PASSWORD PORT DATABASE
  echo "postgres://$1@127.0.0.1:$2/$3"
}

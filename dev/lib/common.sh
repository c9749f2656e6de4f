# shellcheck shell=bash
# Where things are, what is remembered between calls, and how to speak.

CORE=(kafka registry source target)
# Started when asked for by name, and part of this stack from then on until `down`.
OPTIONAL=(connect mariadb mysql)
PORTS=(KAFKA_PORT KAFKA_CONTROLLER_PORT REGISTRY_PORT REGISTRY_MANAGEMENT_PORT SOURCE_PG_PORT TARGET_PG_PORT
  CONNECT_PORT MARIADB_PORT MYSQL_PORT)

# Everything said goes to standard error: standard output is for `dev/stack env`.
say() { printf '%s\n' "$*" >&2; }
die() { printf 'dev/stack: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# What must hold from one call to the next: `state_get NAME`, `state_set NAME VALUE`.
state_get() {
  [[ -f $STACK_DIR/state ]] || return 0
  sed -n "s/^$1=//p" "$STACK_DIR/state"
}

state_set() {
  local new=$STACK_DIR/state.new
  { grep -v "^$1=" "$STACK_DIR/state" 2>/dev/null || true; printf '%s=%s\n' "$1" "$2"; } >"$new"
  mv "$new" "$STACK_DIR/state"
}

stack_dir_create() {
  mkdir -p "$STACK_DIR"/{run,logs,kafka,registry,connect,mariadb,mysql}
  # The PostgreSQL user has to get through, whatever the umask here is.
  chmod 755 "$STACK_DIR"
}

# One change of the stack at a time. The servers must not inherit the lock:
# whatever is detached closes descriptor 9.
stack_lock() {
  have flock || return 0
  exec 9>"$STACK_DIR/lock"
  flock -n 9 && return 0
  say "waiting for another dev/stack ..."
  flock -w 600 9 || die "another dev/stack still holds $STACK_DIR/lock"
}

# The servers of this stack: the core, and what was asked for since the last `down`.
servers_load() {
  local name stored
  stored=" $(state_get OPTIONAL) "
  SERVERS=("${CORE[@]}")
  for name in "${OPTIONAL[@]}"; do
    if [[ $stored == *" $name "* ]]; then SERVERS+=("$name"); fi
  done
}

servers_add() { # NAME...
  state_set OPTIONAL "$(state_get OPTIONAL) $*"
  servers_load
}

# --- ports -------------------------------------------------------------------

port_default() {
  case $1 in
    KAFKA_PORT) echo 9092 ;;
    KAFKA_CONTROLLER_PORT) echo 9093 ;;
    REGISTRY_PORT) echo 8081 ;;
    REGISTRY_MANAGEMENT_PORT) echo 9010 ;;
    SOURCE_PG_PORT) echo 5432 ;;
    TARGET_PG_PORT) echo 5433 ;;
    CONNECT_PORT) echo 8083 ;;
    MARIADB_PORT) echo 3306 ;;
    MYSQL_PORT) echo 3307 ;;
  esac
}

port_server() {
  case $1 in
    KAFKA_*) echo kafka ;;
    REGISTRY_*) echo registry ;;
    SOURCE_*) echo source ;;
    TARGET_*) echo target ;;
    CONNECT_*) echo connect ;;
    MARIADB_*) echo mariadb ;;
    MYSQL_*) echo mysql ;;
  esac
}

port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Below the range that the kernel hands to outgoing connections, so that no
# passing client sits on the port when a server is started again.
port_free() {
  local port tries
  for ((tries = 0; tries < 200; tries++)); do
    port=$((20000 + RANDOM % 12000))
    [[ " $* " == *" $port "* ]] && continue
    port_taken "$port" || { echo "$port"; return 0; }
  done
  die "found no free port between 20000 and 32000"
}

# Sets the port variables. What a live server listens on is a fact; then the
# environment, then what an earlier call chose, then the default.
ports_load() {
  local name given stored
  for name in "${PORTS[@]}"; do
    given=${!name:-}
    stored=$(state_get "$name")
    [[ -z $given || $given =~ ^[0-9]{1,5}$ ]] || die "$name is not a port: $given"
    if [[ -n $given && -n $stored && $stored != "$given" ]] && server_alive "$(port_server "$name")"; then
      say "note: $(port_server "$name") is already up with $name=$stored; $name=$given is not used"
      given=$stored
    fi
    [[ -z $given ]] || PORTS_GIVEN+=" $name "
    printf -v "$name" '%s' "${given:-${stored:-$(port_default "$name")}}"
  done
}

# Before the named servers are started: settles on ports that are free, and keeps
# them for later calls.
ports_claim() { # NAME...
  local name others
  for name in "${PORTS[@]}"; do
    [[ " $* " == *" $(port_server "$name") "* ]] || continue
    others=$(ports_but "$name")
    if [[ ${SYNCLINE_FREE_PORTS:-0} == 1 ]]; then
      port_choose "$name" "$others"
    elif port_taken "${!name}"; then
      die "port ${!name} is taken, and not by this stack's $(port_server "$name"): set $name to another port, or SYNCLINE_FREE_PORTS=1 to have one chosen"
    elif [[ " $others " == *" ${!name} "* ]]; then
      die "$name is ${!name}, which is another port of the stack too"
    fi
    state_set "$name" "${!name}"
  done
}

ports_but() { # NAME -> the values of the other port variables
  local name
  for name in "${PORTS[@]}"; do
    [[ $name == "$1" ]] || printf '%s ' "${!name}"
  done
}

# An earlier choice is kept while it is free, so that addresses survive `down`.
port_choose() { # NAME "OTHER PORTS"
  if [[ $PORTS_GIVEN == *" $1 "* || -n $(state_get "$1") ]] && ! port_taken "${!1}"; then
    return 0
  fi
  # shellcheck disable=SC2086
  printf -v "$1" '%s' "$(port_free $2)"
}

# shellcheck shell=bash
# Detached processes: started, recognised, waited for and ended by process id.

# A pid file holds the id and a marker, an argument no other process has. The id
# alone would not do: after a crash it may belong to a stranger.
process_pid() { # NAME -> pid, or failure when it is not running
  local file=$STACK_DIR/run/$1.pid pid marker
  [[ -f $file ]] || return 1
  { read -r pid && read -r marker; } <"$file" || return 1
  grep -qzxF -e "$marker" "/proc/$pid/cmdline" 2>/dev/null || return 1
  echo "$pid"
}

process_alive() { process_pid "$1" >/dev/null; }

process_spawn() { # NAME MARKER COMMAND...
  local name=$1 marker=$2 log=$STACK_DIR/logs/$1.log
  shift 2
  printf -- '--- started %s\n' "$(date -u +%FT%TZ)" >>"$log"
  # A session of its own, so that neither a closed terminal nor a signal to the
  # caller's group reaches it.
  setsid nohup "$@" </dev/null >>"$log" 2>&1 9>&- &
  printf '%s\n%s\n' "$!" "$marker" >"$STACK_DIR/run/$name.pid"
}

# True from the fork on, before the marker can be seen in the command line.
process_exists() { # NAME
  local pid
  read -r pid <"$STACK_DIR/run/$1.pid" 2>/dev/null || return 1
  [[ -d /proc/$pid ]] && ! grep -qs '^State:[[:space:]]*Z' "/proc/$pid/status"
}

process_signal() { # NAME SIGNAL SECONDS: sends it and waits for the end
  local name=$1 signal=$2 deadline=$((SECONDS + $3)) pid
  pid=$(process_pid "$name") || return 0
  kill -s "$signal" "$pid" 2>/dev/null || true
  while process_alive "$name"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

process_stop() { # NAME SIGNAL
  if ! process_signal "$1" "$2" 30; then
    say "$1 has not ended within 30 s, so it is killed"
    process_signal "$1" KILL 10 || die "$1 (pid $(process_pid "$1")) survives SIGKILL"
  fi
  rm -f "$STACK_DIR/run/$1.pid"
}

log_tail() {
  say "--- end of $STACK_DIR/logs/$1.log"
  tail -n 30 "$STACK_DIR/logs/$1.log" >&2 || true
}

# Asks each server itself, all at once, until every one has answered.
wait_ready() { # NAME...
  local waiting=("$@") limit=${SYNCLINE_STACK_TIMEOUT:-300} start=$SECONDS name left
  while ((${#waiting[@]})); do
    left=()
    for name in "${waiting[@]}"; do
      if "${name}_ready"; then
        say "  $name is ready after $((SECONDS - start)) s"
      elif ! process_exists "$name"; then
        log_tail "$name"
        die "$name ended while starting"
      else
        left+=("$name")
      fi
    done
    waiting=(${left[@]+"${left[@]}"})
    ((${#waiting[@]})) || return 0
    if ((SECONDS - start >= limit)); then
      for name in "${waiting[@]}"; do log_tail "$name"; done
      die "no answer within $limit s from: ${waiting[*]} (SYNCLINE_STACK_TIMEOUT sets the limit)"
    fi
    sleep 0.2
  done
}

# Sends bytes (printf escapes) to a port and prints the first COUNT bytes of the answer in hex.
tcp_ask() { # PORT COUNT BYTES
  # shellcheck disable=SC2016
  timeout 3 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" && printf "$3" >&3 && head -c "$2" <&3' \
    ask "$1" "$2" "$3" 2>/dev/null | od -An -v -tx1 | tr -d ' \n'
}

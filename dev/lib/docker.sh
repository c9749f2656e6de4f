# shellcheck shell=bash
# The same stack through Docker Compose.

docker_usable() { docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; }

compose() {
  local name profiles=()
  for name in "${PORTS[@]}"; do export "${name?}"; done
  export CONFLUENT_HOME
  for name in "${SERVERS[@]}"; do
    [[ " ${OPTIONAL[*]} " != *" $name "* ]] || profiles+=(--profile "$name")
  done
  docker compose --env-file "$DEV_DIR/versions.env" --project-directory "$ROOT" \
    -f "$ROOT/docker-compose.yml" --profile core ${profiles[@]+"${profiles[@]}"} "$@"
}

docker_up() {
  local name down=()
  for name in "${SERVERS[@]}"; do
    docker_alive "$name" || down+=("$name")
  done
  ((${#down[@]} == 0)) || ports_claim "${down[@]}"
  # The one thing that no image brings.
  if [[ " ${SERVERS[*]} " == *" connect "* ]]; then fetch_missing confluent; fi
  compose up --detach --wait --wait-timeout "${SYNCLINE_STACK_TIMEOUT:-300}"
}

# Of every profile: Compose leaves alone what belongs to one that is not named.
docker_down() { # OPTIONS...
  SERVERS=("${CORE[@]}" "${OPTIONAL[@]}")
  compose down "$@"
}

docker_alive() { # NAME
  [[ -n $(compose ps --quiet --status running "$1" 2>/dev/null) ]]
}

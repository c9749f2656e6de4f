# shellcheck shell=bash
# Apicurio Registry, which also speaks Confluent's protocol.

registry_url() { echo "http://127.0.0.1:$REGISTRY_PORT/apis/ccompat/v7"; }

registry_alive() { process_alive registry; }

registry_start() {
  local marker="-Dsyncline.stack=$STACK_DIR/registry"
  # H2 in a file keeps schema ids over a restart.
  process_spawn registry "$marker" "$JAVA" -Xmx384m -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError \
    "$marker" \
    -Dquarkus.http.host=127.0.0.1 "-Dquarkus.http.port=$REGISTRY_PORT" \
    -Dquarkus.management.host=127.0.0.1 "-Dquarkus.management.port=$REGISTRY_MANAGEMENT_PORT" \
    "-Dapicurio.datasource.url=jdbc:h2:file:$STACK_DIR/registry/db" \
    -Dapicurio.datasource.jdbc.initial-size=1 -Dapicurio.datasource.jdbc.min-size=1 \
    -jar "$REGISTRY_HOME/quarkus-run.jar"
}

registry_ready() {
  curl -fsS -m 3 -o /dev/null "http://127.0.0.1:$REGISTRY_MANAGEMENT_PORT/health/ready" 2>/dev/null &&
    curl -fsS -m 3 -o /dev/null "$(registry_url)/subjects" 2>/dev/null
}

registry_stop() { process_stop registry TERM; }
registry_kill() { process_stop registry KILL; }
registry_where() { registry_url; }

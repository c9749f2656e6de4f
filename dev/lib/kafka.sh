# shellcheck shell=bash
# One Kafka broker that is its own controller.

kafka_alive() { process_alive kafka; }

kafka_config() {
  cat <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$KAFKA_CONTROLLER_PORT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=PLAINTEXT://127.0.0.1:$KAFKA_PORT,CONTROLLER://127.0.0.1:$KAFKA_CONTROLLER_PORT
advertised.listeners=PLAINTEXT://127.0.0.1:$KAFKA_PORT
log.dirs=$STACK_DIR/kafka/data

# A topic that is missing must be seen to be missing.
auto.create.topics.enable=false

# One broker holds everything, and few partitions start faster than fifty.
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

group.initial.rebalance.delay.ms=0

# After a crash the broker is let in again only when its old session has run out.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=1000

# Compaction works, in little memory and soon enough to be watched.
log.cleaner.enable=true
log.cleaner.dedupe.buffer.size=8388608
log.cleaner.backoff.ms=1000
EOF
}

kafka_java() {
  local heap=$1
  shift
  "$JAVA" "-Xmx$heap" -XX:+UseSerialGC -cp "$KAFKA_LIBS/*" \
    "-Dlog4j2.configurationFile=$DEV_DIR/kafka/log4j2.yaml" "$@"
}

kafka_start() {
  local properties=$STACK_DIR/kafka/server.properties
  kafka_config >"$properties"
  if [[ ! -f $STACK_DIR/kafka/data/meta.properties ]]; then
    kafka_java 128m kafka.tools.StorageTool format --ignore-formatted \
      -t "$KAFKA_CLUSTER_ID" -c "$properties" >>"$STACK_DIR/logs/kafka.log" 2>&1 ||
      { log_tail kafka; die "Kafka could not format its data folder"; }
  fi
  local marker="-Dsyncline.stack=$STACK_DIR/kafka"
  # One that runs out of memory must die and be seen dead, not linger.
  process_spawn kafka "$marker" "$JAVA" -Xmx512m -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError \
    "$marker" "-Dkafka.logs.dir=$STACK_DIR/logs" \
    "-Dlog4j2.configurationFile=$DEV_DIR/kafka/log4j2.yaml" \
    -cp "$KAFKA_LIBS/*" kafka.Kafka "$properties"
}

# A metadata request (version 4, no topics). An open port is not enough: the
# answer has to name at least one broker, which a broker that is still fenced
# does not.  Answer: length, correlation id, throttle time, number of brokers.
kafka_ready() {
  local answer
  answer=$(tcp_ask "$KAFKA_PORT" 16 \
    '\x00\x00\x00\x0f\x00\x03\x00\x04\x00\x00\x00\x01\xff\xff\x00\x00\x00\x00\x00') || return 1
  [[ ${#answer} == 32 && ${answer:8:8} == 00000001 && ${answer:24:8} == 00000001 ]]
}

kafka_stop() { process_stop kafka TERM; }
kafka_kill() { process_stop kafka KILL; }
kafka_where() { echo "127.0.0.1:$KAFKA_PORT"; }

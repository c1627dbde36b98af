#!/usr/bin/env bash
# The whole job on a backlog on a real broker: events a second, and CPU time per event.
#
#   EVENTS=1000000 PARTITIONS=4 WORKERS="1 2" ROUNDS=3 host/benches/run.sh
#
# Everything lies below target/bench and is removed before each round. The broker is stopped at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."
events=${EVENTS:-1000000} partitions=${PARTITIONS:-4} rounds=${ROUNDS:-3} port=${PORT:-19292}
read -ra workers <<<"${WORKERS:-1 2}"
wasmill=target/release/wasmill
broker=(host/kafka/kafka.sh --port "$port" --dir target/bench/kafka)
export KAFKA_BOOTSTRAP_SERVERS=localhost:$port LOG_LEVEL=${LOG_LEVEL:-warn} HTTP_LISTEN=off
export KAFKA_TOPIC=bench OUTPUT_PATH=target/bench/output CHECKPOINT_PATH=target/bench/checkpoints
export PAGE_WINDOW=1m GEO_WINDOW=1m SESSION_WINDOW=30s TRIGGER_INTERVAL=10s ROLL_AGE=1m

rm -rf target/bench
"${broker[0]}" up "${broker[@]:1}"
trap '"${broker[0]}" down "${broker[@]:1}" --now >/dev/null' EXIT
"$wasmill" generate --create --partitions "$partitions" --rate 0 --count "$events" --span 30m --seed 1 \
    --set generator.config.late_share=0.01
echo "| workers | round | events/s | CPU ns/event | wall s | user s | system s | peak RSS MB | output MB |"
echo "|---|---|---|---|---|---|---|---|---|"
for round in $(seq "$rounds"); do
    for n in "${workers[@]}"; do
        rm -rf "$OUTPUT_PATH" "$CHECKPOINT_PATH"
        python3 - "$wasmill" "$n" "$round" "$events" "$OUTPUT_PATH" <<'PY'
import os, resource, subprocess, sys, time
wasmill, workers, round_, events, output = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
began = time.monotonic()
subprocess.run([wasmill, "run", "-c", "host/pipelines/clickstream.toml", "--workers", workers, "--drain"], check=True)
wall = time.monotonic() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
size = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(output) for f in files)
cpu = used.ru_utime + used.ru_stime
print(f"| {workers} | {round_} | {events / wall:,.0f} | {cpu / events * 1e9:,.0f} | {wall:.2f} | {used.ru_utime:.2f} "
      f"| {used.ru_stime:.2f} | {used.ru_maxrss / 1024:.0f} | {size / 1e6:.0f} |", flush=True)
PY
    done
done

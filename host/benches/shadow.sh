#!/usr/bin/env bash
# What a shadow of page_metrics costs the whole job, on a backlog on a real broker: events a second and CPU time per
# event, with and without it in turns, and the ratio of the medians.
#
#   EVENTS=1000000 PARTITIONS=4 WORKERS=2 ROUNDS=5 SHADOW=target/.../page_metrics_v2.wasm host/benches/shadow.sh
#
# Everything lies below target/bench-shadow. The broker is stopped at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."
events=${EVENTS:-1000000} partitions=${PARTITIONS:-4} workers=${WORKERS:-2} rounds=${ROUNDS:-5}
port=${PORT:-19294} http=${HTTP_PORT:-18084}
shadow=${SHADOW:-target/wasm32-wasip2/plugin/page_metrics_v2.wasm}
wasmill=target/release/wasmill here=target/bench-shadow
broker=(host/kafka/kafka.sh --port "$port" --dir "$here/kafka")
export KAFKA_BOOTSTRAP_SERVERS=localhost:$port LOG_LEVEL=${LOG_LEVEL:-warn} HTTP_LISTEN=127.0.0.1:$http
export KAFKA_TOPIC=bench OUTPUT_PATH=$here/output CHECKPOINT_PATH=$here/output/checkpoints
export PAGE_WINDOW=1m GEO_WINDOW=1m SESSION_WINDOW=30s TRIGGER_INTERVAL=10s ROLL_AGE=1m IDLE_TIMEOUT=off
job=("$wasmill" run -c host/pipelines/clickstream.toml --workers "$workers")
generate=("$wasmill" generate --rate 0 --seed 1)

running=''
end() {
    [ -z "$running" ] || kill -KILL "$running" 2>/dev/null || true
    "${broker[0]}" down "${broker[@]:1}" --now >/dev/null || true
}
trap end EXIT
rm -rf "$here"
"${broker[0]}" up "${broker[@]:1}"

# A job that has read a few events, with a shadow or without: where each round begins.
"${generate[@]}" --create --partitions "$partitions" --first 0 --count 100 --span 1s
for mode in without with; do
    rm -rf "$OUTPUT_PATH"
    "${job[@]}" &
    running=$!
    until "$wasmill" status --url "http://127.0.0.1:$http" --json 2>/dev/null | grep -q '"checkpoints": *[1-9]'; do
        kill -0 "$running" || exit 1
        sleep 0.2
    done
    if [ $mode = with ]; then
        "$wasmill" shadow page_metrics "$shadow" --url "http://127.0.0.1:$http"
    fi
    kill -TERM "$running"
    wait "$running"
    running=''
    cp -a "$OUTPUT_PATH" "$here/$mode"
done

"${generate[@]}" --first 100 --count "$events" --span 30m
python3 - "$here" "$rounds" "$events" "${job[@]}" <<'PY'
import os, resource, shutil, statistics, subprocess, sys, time
here, rounds, events, job = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
found = {"without": [], "with": []}
print("| shadow | round | events/s | CPU ns/event | wall s |\n|---|---|---|---|---|")
for round_ in range(1, rounds + 1):
    for mode in ["without", "with"] if round_ % 2 else ["with", "without"]:
        shutil.rmtree(os.environ["OUTPUT_PATH"])
        shutil.copytree(f"{here}/{mode}", os.environ["OUTPUT_PATH"])
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(job + ["--until-caught-up"], check=True)
        wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found[mode].append((events / wall, cpu / events * 1e9))
        print(f"| {mode} | {round_} | {events / wall:,.0f} | {cpu / events * 1e9:,.0f} | {wall:.2f} |", flush=True)
rate, cpu = ([statistics.median(run[of] for run in found[mode]) for mode in found] for of in (0, 1))
print(f"with a shadow: {rate[1] / rate[0]:.2f} of the events/s, {cpu[0] / cpu[1]:.2f} of the events per CPU second")
PY

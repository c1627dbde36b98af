#!/usr/bin/env bash
# Runs the ```sh blocks of README.md in order, in a copy of the repository, as a person would: each in the same shell's
# environment, with a time limit, the first failure ends it. Comments in the README direct it:
#   <!-- ci: running until CONDITION -->   the next block does not end by itself; go on when CONDITION holds
#   <!-- ci: wait until CONDITION -->      go on when CONDITION holds
#   <!-- ci: stop -->                      Ctrl-C what runs; it must end well
#   <!-- ci: by .ci/run itself -->         the next block is not for here
# HTTP_PORT and KAFKA_PORT stand in for 8080 and 9092 where these are taken. `readme.sh --list` shows what would run.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
http=${HTTP_PORT:-8080} kafka=${KAFKA_PORT:-9092}
block_limit=${README_LIMIT:-1500}

say() { echo "readme: $*"; }
fail() { say "FAILED: $*" >&2; exit 1; }

# README.md as numbered files: N.sh a block, N.running / N.wait / N.stop what a comment says.
split() {
  awk -v out="$1" '
    function next_file(kind) { n++; return sprintf("%s/%03d.%s", out, n, kind) }
    /^<!-- ci: running until .* -->$/ { sub(/^<!-- ci: running until /, ""); sub(/ -->$/, ""); print > next_file("running"); next }
    /^<!-- ci: wait until .* -->$/ { sub(/^<!-- ci: wait until /, ""); sub(/ -->$/, ""); print > next_file("wait"); next }
    /^<!-- ci: stop -->$/ { print > next_file("stop"); next }
    /^<!-- ci: by .ci\/run itself -->$/ { elsewhere = 1; next }
    /^<!-- ci:/ { print "unknown: " $0 > "/dev/stderr"; exit 1 }
    /^```sh$/ { file = elsewhere ? "/dev/null" : next_file("sh"); elsewhere = 0; blocks++; next }
    /^```$/ { file = ""; next }
    file != "" { print > file }
    END { if (!blocks) { print "no blocks" > "/dev/stderr"; exit 1 } }
  ' "$root/README.md"
}

# The first time: makes the copy, and goes on in a mount namespace where it stands in place of the checkout. So what is
# built for the README is what is built for the tests, once, and no command can reach a person's own data and broker.
copy=$root/target/readme
inside=${README_INSIDE:-}
unset README_INSIDE
if [ -z "$inside" ] && [ "${1:-}" != --list ]; then
  unshare --map-root-user --mount true || fail "it needs a mount namespace, and this machine gives none"
  trap 'rm -rf "$copy"' EXIT
  rm -rf "$copy"
  mkdir -p "$copy"
  # What is in git or about to be, and the builds.
  git -C "$root" ls-files -z --cached --others --exclude-standard | tar -C "$root" --null --ignore-failed-read -T - -cf - | tar -C "$copy" -xf -
  shared=(debug release plugin wasm32-wasip2)
  if [ "$root/target/kafka/libs/complete" -nt "$root/host/kafka/pom.xml" ]; then shared+=(kafka/libs); fi
  for folder in "${shared[@]}"; do mkdir -p {"$root","$copy"}/target/"$folder"; done
  README_INSIDE=yes unshare --map-root-user --mount bash -euc '
    root=$1 copy=$2; shift 2
    for folder; do mount --bind "$root/target/$folder" "$copy/target/$folder"; done
    mount --rbind "$copy" "$root"
    cd "$root"
    host/tests/readme.sh' bash "$root" "$copy" "${shared[@]}"
  exit
fi

work=$(mktemp -d)
running='' # the process group of what runs
finish() {
  local code=$?
  [ -z "$running" ] || kill -KILL -- "-$running" 2>/dev/null || true
  [ -z "$inside" ] || host/kafka/kafka.sh down --port "$kafka" >/dev/null 2>&1 || true
  rm -rf "$work"
  exit $code
}
trap finish EXIT
mkdir "$work/blocks"
split "$work/blocks" || fail "README.md cannot be read"
if [ "${1:-}" = --list ]; then
  head -n 100 "$work"/blocks/*
  exit
fi

# The knobs are those of .env, as the README has them.
unset CARGO_TARGET_DIR $(sed -nE 's/^([A-Z_]+)=.*/\1/p' "$root/.env")
export KAFKA_PORT=$kafka XDG_CACHE_HOME=${XDG_CACHE_HOME:-$work/cache}
[ "$http" = 8080 ] || export HTTP_LISTEN=127.0.0.1:$http

# What the README says, with the ports of here.
here() {
  sed -E -e "s/localhost:8080/localhost:$http/g; s/127.0.0.1:9092/127.0.0.1:$kafka/g" \
    -e "s/wasmill (status|swap|shadow|promote) /&--url http:\/\/127.0.0.1:$http /; s/wasmill status$/& --url http:\/\/127.0.0.1:$http/" "$1"
}

# A block as a script that leaves its environment to the next one.
export -p >"$work/environment"
script() {
  echo 'set -euo pipefail'
  echo "cd '$root'; source '$work/environment'; set -x"
  here "$1"
  echo "{ set +x; } 2>/dev/null; export -p >'$work/environment'"
}

# Waits until a command succeeds: LIMIT seconds, and only as long as the group of what runs is there.
await() {
  local limit=$((SECONDS + $1)); shift
  until "$@" 2>/dev/null; do
    [ $SECONDS -lt $limit ] || fail "not within its time limit: $*"
    kill -0 -- "-$running" 2>/dev/null || fail "what runs has ended: $*"
    sleep 0.5
  done
}
gone() { ! kill -0 -- "-$running" 2>/dev/null; }

condition=''
for step in "$work"/blocks/*; do
  case $step in
    *.running) condition=$(here "$step") ;;
    *.wait)
      waited=$(here "$step")
      say "waiting until: $waited"
      await "$block_limit" bash -c "cd '$root' && $waited" ;;
    *.stop)
      # As Ctrl-C does, but only once for those who would pass it on.
      child=$(pgrep -g "$running" -x wasmill) || fail "nothing is there to stop"
      kill -INT "$child"
      limit=$((SECONDS + 60))
      until gone; do
        [ $SECONDS -lt $limit ] || fail "it does not stop"
        sleep 0.2
      done
      wait "$running" || fail "it did not end well: exit code $?"
      running=''
      say "stopped" ;;
    *.sh)
      script "$step" >"$work/script"
      if [ -n "$condition" ]; then
        cp "$work/script" "$work/running-script"
        setsid bash "$work/running-script" &
        running=$!
        await 1 true
        say "waiting until: $condition"
        await "$block_limit" bash -c "cd '$root' && $condition"
        condition=''
      else
        timeout --foreground "$block_limit" bash "$work/script" || fail "this block, with exit code $?:"$'\n'"$(cat "$step")"
      fi ;;
  esac
done
[ -z "$running" ] || fail "README.md starts something that it does not stop"
say "all commands of README.md work"

#!/usr/bin/env bash
# Is there what is needed? Silent when there is; else says what is missing and how to get it, and exits with 1.
#   setup.sh build    compilers, Rust and its WebAssembly target (which it adds with rustup)
#   setup.sh kafka    what a real Kafka without docker needs
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() { echo "$*"; exit 1; }
have() { command -v "$1" >/dev/null; }

build() {
  have cargo && have rustc || fail "Rust is missing: https://rustup.rs"
  local missing=() tool
  # librdkafka is built from source; its build insists on a C++ compiler.
  for tool in gcc g++ make; do have "$tool" || missing+=("$tool"); done
  [ ${#missing[@]} = 0 ] || fail "missing: ${missing[*]} (Debian, Ubuntu: apt-get install build-essential; Fedora: dnf install gcc-c++ make)"
  local wanted has
  wanted=$(sed -nE 's/^rust-version = "([0-9.]+)"/\1/p' "$root/Cargo.toml")
  has=$(rustc --version | cut -d' ' -f2)
  printf '%s\n' "$wanted" "${has%%-*}" | sort -CV || fail "Rust $wanted or newer is needed, this is $has: rustup update stable"
  if [ ! -d "$(rustc --print sysroot)/lib/rustlib/wasm32-wasip2" ]; then
    have rustup || fail "Rust's target wasm32-wasip2 is missing, and rustup, which would add it: https://rustup.rs"
    rustup target add wasm32-wasip2
  fi
}

kafka() {
  have mvn || fail "Maven (mvn) is missing"
  have java || fail "Java 17 or newer (java) is missing"
  local has
  has=$(java -version 2>&1 | sed -nE 's/.*version "([0-9]+)[^"]*".*/\1/p')
  [ "${has:-0}" -ge 17 ] || fail "Java 17 or newer is needed, this is ${has:-unknown}"
}

case ${1:-} in
  build) build ;;
  kafka) kafka ;;
  *) fail "usage: setup.sh build|kafka" ;;
esac

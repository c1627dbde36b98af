# What a person types, and what CI runs. `make` alone explains.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Every folder below plugins/ is a component, but for the SDK that they are written with.
PLUGINS := $(filter-out sdk,$(notdir $(patsubst %/Cargo.toml,%,$(wildcard plugins/*/Cargo.toml))))
PLUGIN_FLAGS := --profile plugin --target wasm32-wasip2 $(PLUGINS:%=-p %)
PIPELINE ?= host/pipelines/clickstream.toml
KAFKA_PORT ?= 9092
# Histories of `make sim`, and the one to repeat.
RUNS ?= 2000
SEED ?=
# More arguments for `make run`, as in: make run ARGS='--tap page_metrics'
ARGS ?=

.PHONY: help
help: ## Show this
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: setup
setup: tools ## Look for what the build needs; add Rust's WebAssembly target; say what is missing
	@echo "ready: make run"
	@why=$$(host/setup.sh kafka) || echo "for make kafka-up and the tests on a real Kafka only: $$why"

.PHONY: tools
tools:
	@host/setup.sh build

.PHONY: plugins
plugins: tools ## Build the plugins: target/wasm32-wasip2/plugin/*.wasm
	cargo build --locked $(PLUGIN_FLAGS)

.PHONY: build
build: plugins ## Build all: the plugins and target/release/wasmill
	cargo build --locked --release -p wasmill

.PHONY: run
run: build ## Run the reference job; without KAFKA_BOOTSTRAP_SERVERS broker and generator are inside
	@target/release/wasmill run --env-file .env -c $(PIPELINE) $(ARGS)

.PHONY: test
test: plugins ## Run all tests; those on a real Kafka where Java 17 and Maven are there (with CI set: always)
	@left_out=$$(host/setup.sh kafka && host/kafka/kafka.sh jars 2>&1) || { [ -z "$${CI:-}" ] || { echo "$$left_out"; exit 1; }; }; \
	cargo test --locked --workspace; \
	[ -z "$$left_out" ] || echo "left out: the tests on a real Kafka ($$left_out)"

# How many kills; SEED repeats the moments of an earlier soak as far as that is possible.
KILLS ?= 100

.PHONY: soak
soak: plugins ## Kill the real process KILLS times on a real Kafka, at every failpoint and at random times; SEED=n repeats
	host/kafka/kafka.sh jars
	CI=1 KILLS=$(KILLS) $(if $(SEED),SEED=$(SEED)) \
	  cargo test --locked --workspace --test crashes -- --nocapture

# How many swaps in a row, of how many events, and how many of these are read between two checkpoints (0 = all there are).
SWAPS ?= 100
SWAP_EVENTS ?= 1000000
PER_TRIGGER ?= 1500

.PHONY: swaps
swaps: plugins ## Swap plugins SWAPS times (100) under a backlog on a real Kafka, and show how long that takes
	host/kafka/kafka.sh jars
	CI=1 SWAPS=$(SWAPS) WASMILL_EVENTS=$(SWAP_EVENTS) PER_TRIGGER=$(PER_TRIGGER) \
	  cargo test --locked --workspace --release --test swaps -- --nocapture

.PHONY: sim
sim: tools ## Simulate RUNS histories with crashes and faulty disks (2000), or repeat one and print it: SEED=n
	@RUNS='$(RUNS)' SEED='$(SEED)' cargo test --locked --release -p wasmill --test simulation -- --nocapture histories

READERS := target/readers/bin/python

.PHONY: readers
readers: $(READERS) ## Hold DuckDB, pandas, Polars, pyarrow and Spark to equal values in Parquet and CSV
	CI=1 PYTHON='$(CURDIR)/$(READERS)' cargo test --locked -p wasmill --test readers -- --nocapture

# Spark is 300 MB and wants Java: where it cannot be had the others do.
$(READERS): host/tests/readers/requirements.txt
	python3 -m venv target/readers
	$@ -m pip install -q -r $<
	$@ -m pip install -q 'pyspark>=3.5,<4' || echo "left out: Spark"
	touch $@

.PHONY: lint
lint: tools ## Check formatting, lints and docs
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked $(PLUGIN_FLAGS) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

.PHONY: readme
readme: ## Run every command of README.md, in a copy
	host/tests/readme.sh

.PHONY: check
check: lint readme test ## All that CI checks

.PHONY: kafka-up
kafka-up: ## Start an Apache Kafka of one node on 127.0.0.1:9092 (KAFKA_PORT), without docker
	@host/kafka/kafka.sh up --port $(KAFKA_PORT)

.PHONY: kafka-down
kafka-down: ## Stop it; its data stays in target/kafka
	@host/kafka/kafka.sh down --port $(KAFKA_PORT)

FUZZ_TARGETS := $(notdir $(basename $(wildcard host/fuzz/fuzz_targets/*.rs)))
SECONDS_EACH ?= 60

# The committed corpora are seeds only: what is found goes below target/fuzz, inputs that fail to target/fuzz/failed.
.PHONY: fuzz
fuzz: target/tools/bin/cargo-fuzz ## Fuzz every decoder of bytes from outside, a minute each (SECONDS_EACH=600)
	@export PATH="$(CURDIR)/target/tools/bin:$$PATH"; \
	for name in $(FUZZ_TARGETS); do \
	    mkdir -p target/fuzz/found/$$name target/fuzz/failed; \
	    cargo fuzz run --fuzz-dir host/fuzz --target-dir "$(CURDIR)/target/fuzz" --sanitizer none $$name \
	        target/fuzz/found/$$name host/fuzz/corpus/$$name -- -max_total_time=$(SECONDS_EACH) -timeout=10 \
	        -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$(CURDIR)/target/fuzz/failed/$$name-"; \
	done

target/tools/bin/cargo-fuzz:
	cargo install --locked --root target/tools --version 0.13.2 cargo-fuzz

# With what is measured beside it: the native twin, and the oracle that every run is held against.
.PHONY: bench-programs
bench-programs: plugins
	cargo build --locked --release -p wasmill -p wasmill-twin

# EVENTS (3000000), PARTITIONS (4), WORKERS ("1 2") and ROUNDS (3) say how much; reports go to host/benches/runs.
.PHONY: bench
bench: bench-programs ## Measure the whole job and its native twin on a real Kafka, each run held against the oracle
	host/benches/bench.py

# EVENTS (3000000), PARTITIONS (4), ROUNDS (2) and PEERS ("spark spark-tuned flink fv-streams"). It needs Java, Maven and Python.
.PHONY: bench-peers
bench-peers: bench-programs ## Measure the same job in Spark, Flink and fv-streams beside wasmill
	host/benches/peers.py

# EVENTS (500000) and ROUNDS (3) of each line; TABLES="keys payload" for some of the tables.
.PHONY: bench-scaling
bench-scaling: bench-programs ## Measure how the cost of an event depends on workers, partitions, keys, payloads, windows
	host/benches/scaling.py

.PHONY: bench-shadow
bench-shadow: build ## Measure what a shadow costs: CPU seconds and events/s with and without one on a real Kafka
	host/benches/shadow.py

.PHONY: bench-stages
bench-stages: plugins ## Measure each stage: ns of processor time per event
	cargo bench --locked -p wasmill --bench stages

.PHONY: bench-latency
bench-latency: build ## Measure the time from a window's end to its rows in a file, and what an idle pipeline takes
	host/benches/latency.py

.PHONY: profile
profile: bench-programs ## Show where the processor's time goes, with Linux perf: EVENTS=n, WORKERS=n
	host/benches/cpu_profile.py

.PHONY: clean-data
clean-data: ## Remove ./data (files and checkpoints) and the data of make kafka-up
	@host/kafka/kafka.sh down --port $(KAFKA_PORT)
	rm -rf data target/kafka/$(KAFKA_PORT)

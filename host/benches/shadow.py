#!/usr/bin/env python3
"""What a shadow of page_metrics costs the whole job: the same backlog with and without one in turns, on a real broker.

    EVENTS=1000000 PARTITIONS=4 WORKERS=2 ROUNDS=5 SHADOW=target/.../page_metrics_v2.wasm host/benches/shadow.py
"""

import json
import os
import pathlib
import shutil
import subprocess
import time

import harness as h

# Where each round begins, by mode: a job that has read a few events.
BEGUN = {"without": h.WORK / "begun-without", "with": h.WORK / "begun-with"}
OUTPUT = h.WORK / "output"
FIRST = 100


def environment(bootstrap):
    """No partition is left out for giving nothing: the few first events say nothing of what comes."""
    return h.run_environment(bootstrap, OUTPUT, IDLE_TIMEOUT="off")


def command(workers, *more):
    return [str(part) for part in [h.WASMILL, "run", "-c", h.PIPELINE, "--workers", workers, *more]]


def ask(env, *words):
    """What the running pipeline answers; `None` while there is no answer."""
    asked = [str(h.WASMILL), *words, "--url", f"http://{env['HTTP_LISTEN']}", "--json"]
    done = subprocess.run(asked, cwd=h.ROOT, env=env, capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else None


def begin(bootstrap, workers, mode, shadow):
    """Lets a job read the first events, give it a shadow where the mode has one, and keep what it has then."""
    env = {**environment(bootstrap), "LOG_LEVEL": "warn"}
    shutil.rmtree(OUTPUT, ignore_errors=True)
    job = subprocess.Popen(command(workers), cwd=h.ROOT, env=env)
    try:
        while not (ask(env, "status") or {}).get("checkpoints"):
            if job.poll() is not None:
                raise SystemExit(f"the job has ended with {job.returncode}")
            time.sleep(0.2)
        if mode == "with" and ask(env, "shadow", "page_metrics", shadow) is None:
            raise SystemExit(f"there is no shadow of {shadow}")
    finally:
        job.terminate()
        job.wait()
    shutil.copytree(OUTPUT, BEGUN[mode])


def measure_round(bootstrap, workers, mode, events):
    shutil.rmtree(OUTPUT)
    shutil.copytree(BEGUN[mode], OUTPUT)
    log = h.WORK / "shadow.log"
    measured = h.measure(command(workers, "--until-caught-up"), environment(bootstrap), log)
    return {"name": mode, **measured, **h.told(log, measured["began_at"]), **h.rates(measured, events)}


def medians(runs):
    return {key: h.median([run[key] for run in runs]) for key in ("events_per_s", "cpu_ns")}


def main():
    events, partitions = h.number("EVENTS", 1_000_000), h.number("PARTITIONS", 4)
    workers, rounds = h.number("WORKERS", 2), h.number("ROUNDS", 5)
    shadow = os.environ.get("SHADOW") or str(h.TARGET / "wasm32-wasip2" / "plugin" / "page_metrics_v2.wasm")
    for folder in BEGUN.values():
        shutil.rmtree(folder, ignore_errors=True)
    runs = []
    with h.broker() as bootstrap:
        h.fill(bootstrap, FIRST, partitions, span="1s")
        for mode in BEGUN:
            begin(bootstrap, workers, mode, str(pathlib.Path(shadow)))
        h.fill(bootstrap, events, partitions, first=FIRST)
        for round_ in range(rounds):
            for mode in list(BEGUN)[:: -1 if round_ % 2 else 1]:
                runs.append(measure_round(bootstrap, workers, mode, events))
                print(f"{mode} a shadow: {runs[-1]['events_per_s']:,.0f} events/s", flush=True)
    middle = {mode: medians([run for run in runs if run["name"] == mode]) for mode in BEGUN}
    lines = [[f"{mode} a shadow", f"{of['events_per_s']:,.0f}", f"{of['cpu_ns']:,.0f}"] for mode, of in middle.items()]
    rate = middle["with"]["events_per_s"] / middle["without"]["events_per_s"]
    cpu = middle["without"]["cpu_ns"] / middle["with"]["cpu_ns"]
    text = (
        f"{events:,} events, {workers} workers; medians of {rounds} rounds in which both took turns.\n\n"
        + h.table(["job", "events/s", "CPU ns/event"], lines)
        + f"\nWith a shadow: {rate:.2f} of the events/s, {cpu:.2f} of the events per CPU-second.\n"
    )
    h.report("shadow", "What a shadow costs", {"events": events, "workers": workers, "runs": runs}, text)


if __name__ == "__main__":
    main()

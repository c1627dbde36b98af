#!/usr/bin/env python3
"""How long rows take: from a window's end passing the watermark to the rows in a committed file; and what that costs.

    make bench-latency          or: RATES="100 10000 100000" INTERVALS="1 10" SECONDS=60 host/benches/latency.py

The generator makes events that happen as they are made. A window can close when its end lies the watermark's
delay in the past: from then on the time counts, so what is measured includes waiting for an event of the slowest
partition, the producer, the broker, the worker, the next checkpoint, and the files' final names. Files are closed at every
checkpoint. At the end the pipeline stands idle, with the broker up. All files lie below target/bench/latency.
"""

import contextlib
import csv
import datetime
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import harness

HERE = harness.WORK / "latency"
# No divisor of the time between two checkpoints: or else all windows would end in the same phase of it.
WINDOW_S = 0.9
DELAY_S = 1
# Until the generator is in its stride and what it made before the pipeline was there is read.
WARM_UP_S = 10
# How often the folders are looked at.
LOOK_EVERY_S = 0.005
OUTPUTS = ["page_metrics", "geo_metrics"]
# Above this the pipeline, or the machine, cannot keep up: the minute would measure a growing backlog.
PATIENCE_S = 60

TOOK = re.compile(r"\bcheckpoint checkpoint=\d+ took=([\d.]+)(\D+?)\s")


# --- The pipeline and the generator ---


@contextlib.contextmanager
def running(command, env, log):
    """A process that is asked to stop at the end, and has to do so well; what it writes goes to `log`."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=harness.ROOT, env=env, stdout=out, stderr=out)
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            if process.wait(PATIENCE_S) != 0:
                raise SystemExit(f"{command[1]} ended with {process.returncode}: {log.read_text(errors='replace')[-2000:]}")
        finally:
            process.kill()
            process.wait()


def pipeline(name, bootstrap, topic, interval_s):
    """The reference job with short windows, from the topic to empty folders."""
    settings = {
        "PAGE_WINDOW": f"{WINDOW_S * 1000:.0f}ms",
        "GEO_WINDOW": f"{WINDOW_S * 1000:.0f}ms",
        "SESSION_WINDOW": "5s",
        "WATERMARK_DELAY": f"{DELAY_S}s",
        "TRIGGER_INTERVAL": f"{interval_s}s",
        # Every file is closed at the checkpoint after it was opened: rows show as early as they can.
        "ROLL_AGE": "1ms",
    }
    output = HERE / name
    env = harness.run_environment(bootstrap, output, topic, **settings)
    command = [str(harness.WASMILL), "run", "-c", str(harness.PIPELINE)]
    return running(command, env, HERE / f"{name}.log"), output


def generator(bootstrap, topic, rate, *more):
    """Events without jitter, at a rate."""
    command = [str(harness.WASMILL), "generate", "--create", "--partitions", "4", "--rate", str(rate), "--seed", "1"]
    command += ["--set", "generator.config.jitter_ms=0", *more]
    where = {"KAFKA_BOOTSTRAP_SERVERS": bootstrap, "KAFKA_TOPIC": topic, "LOG_LEVEL": "warn"}
    return running(command, harness.environment(**where), HERE / f"generate-{topic}.log")


# --- What they take ---


def cpu_s(process):
    """Seconds on a processor so far, by the names of the threads that live."""
    found = {}
    for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
        # A thread may end while it is looked at.
        with contextlib.suppress(OSError):
            name = (task / "comm").read_text().strip()
            found[name] = found.get(name, 0) + int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


def rss(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.M)[1]) * 1024


def shares(before, after, seconds):
    """Of one core, by thread, the largest first."""
    used = {name: (after[name] - before.get(name, 0)) / seconds for name in after}
    return dict(sorted(used.items(), key=lambda one: -one[1]))


# --- Files ---


def watch(folders, seen, until, process, memory):
    """Notes when each file came into the folders, until a time; looks at the memory of the process now and then."""
    next_look = time.time()
    while (now := time.time()) < until:
        for folder in folders:
            with contextlib.suppress(FileNotFoundError):
                for entry in os.scandir(folder):
                    seen.setdefault(entry.path, now)
        if now >= next_look:
            memory.append(rss(process))
            next_look = now + 1
        time.sleep(LOOK_EVERY_S)


def windows(seen):
    """For each output and window: when the last of its rows was there, and how many events they count."""
    found = {}
    for path, at in seen.items():
        output = pathlib.Path(path).parent.parent.name
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                key = (output, seconds(row["window_end"]))
                last, events = found.get(key, (0, 0))
                found[key] = (max(last, at), events + int(row["events"]))
    return found


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def cut_to_commit(log):
    """From a checkpoint's cut to its files' final names, of each checkpoint that the log tells of."""
    found = TOOK.findall(log.read_text(errors="replace"))
    return [float(number) * harness.UNITS[unit] for number, unit in found]


# --- Measuring ---


def measure(bootstrap, rate, interval_s, span_s):
    """Latency, processor and memory at a rate of events."""
    name = f"rate-{rate}-every-{interval_s}s"
    job, output = pipeline(name, bootstrap, name, interval_s)
    folders, seen, memory = [output / one / "csv" for one in OUTPUTS], {}, []
    with generator(bootstrap, name, rate), job as process:
        watch(folders, seen, time.time() + WARM_UP_S, process, [])
        began, before = time.time(), cpu_s(process)
        watch(folders, seen, began + span_s, process, memory)
        after, ended = cpu_s(process), time.time()
        # What closed last in that time is there after one more checkpoint.
        watch(folders, seen, ended + DELAY_S + interval_s + 5, process, [])
    found = {key: value for key, value in windows(seen).items() if began <= key[1] + DELAY_S < ended}
    check(found, rate, began, ended)
    late = [at - (end + DELAY_S) for (_, end), (at, _) in found.items()]
    commits = cut_to_commit(HERE / f"{name}.log")
    used = shares(before, after, ended - began)
    return {
        "rate": rate,
        "interval_s": interval_s,
        "windows": len(found),
        "events": sum(events for (output, _), (_, events) in found.items() if output == OUTPUTS[0]),
        "latency": {"p50": harness.median(late), "p99": harness.percentile(late, 0.99), "max": max(late)},
        "cut_to_commit": {"p50": harness.median(commits), "p99": harness.percentile(commits, 0.99)},
        "cpu": sum(used.values()),
        "cpu_by_thread": used,
        "rss": memory[-1],
        "peak_rss": max(memory),
    }


def check(found, rate, began, ended):
    """Every window of the time is there, in all outputs, with the events that the generator was to make."""
    for output in OUTPUTS:
        ends = [end for of, end in found if of == output]
        events = sum(found[output, end][1] for end in ends)
        wanted = int((ended - began) / WINDOW_S)
        if len(ends) < wanted - 1:
            raise SystemExit(f"{output} has rows of {len(ends)} of {wanted} windows; see {HERE}")
        if not 0.95 < events / (rate * WINDOW_S * len(ends)) < 1.05:
            raise SystemExit(f"{output} has {events} events in {len(ends)} windows, at {rate} a second; see {HERE}")


def idle(bootstrap, span_s):
    """What a pipeline takes that has read everything and gets nothing more, with the broker up."""
    job, output = pipeline("idle", bootstrap, "idle", 10)
    with generator(bootstrap, "idle", 1000, "--count", "10000") as made:
        made.wait(PATIENCE_S)
    with job as process:
        folders, seen = [output / one / "csv" for one in OUTPUTS], {}
        # Its partitions are idle then: their last windows are closed and in files.
        watch(folders, seen, time.time() + 60, process, [])
        if sum(events for (of, _), (_, events) in windows(seen).items() if of == OUTPUTS[0]) != 10_000:
            raise SystemExit(f"the idle pipeline has not closed its windows; see {HERE}")
        before, began = cpu_s(process), time.time()
        time.sleep(span_s)
        used, memory = shares(before, cpu_s(process), time.time() - began), rss(process)
    return {"cpu": sum(used.values()), "cpu_by_thread": used, "rss": memory}


# --- Report ---


def tables(runs, at_rest):
    rows = []
    for run in runs:
        latency, commit = run["latency"], run["cut_to_commit"]
        times = [f"{latency[which]:.2f}" for which in ("p50", "p99", "max")]
        commits = [harness.ms(commit[which]) for which in ("p50", "p99")]
        use = [f"{run['cpu']:.1%}", harness.mb(run["rss"]), harness.mb(run["peak_rss"])]
        rows.append([f"{run['rate']:,}", run["interval_s"], run["windows"], *times, *commits, *use])
    header = ["events/s", "checkpoint every s", "windows", "p50 s", "p99 s", "max s"]
    header += ["cut to commit p50 ms", "p99 ms", "CPU of a core", "RSS MB", "peak RSS MB"]
    threads = [[f"`{name}`", f"{share:.2%}"] for name, share in at_rest["cpu_by_thread"].items() if share >= 0.00005]
    return f"""{harness.table(header, rows)}
Windows of {WINDOW_S} s, watermark {DELAY_S} s behind, 4 partitions. p50, p99 and max: from the moment a window's end lies the
watermark's delay in the past to its rows in files with their final names. With a checkpoint every n seconds a row waits half of n on
average for the next one.

Idle, for a minute: {at_rest["cpu"]:.2%} of a core, {harness.mb(at_rest["rss"])} MB.

{harness.table(["thread", "CPU of a core"], threads)}"""


def main():
    rates = harness.numbers("RATES", "100 10000 100000")
    intervals = harness.numbers("INTERVALS", "1 10")
    span_s = harness.number("SECONDS", 60)
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir(parents=True)
    with harness.broker(HERE / "kafka") as bootstrap:
        runs = [measure(bootstrap, rate, interval, span_s) for rate in rates for interval in intervals]
        at_rest = idle(bootstrap, span_s)
    harness.report("latency", "From a window's end to its rows in a file", {"runs": runs, "idle": at_rest}, tables(runs, at_rest))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The whole job on a backlog on a real broker, beside its native twin in the same rounds.

    EVENTS=3000000 PARTITIONS=4 WORKERS="1 2" ROUNDS=3 host/benches/bench.py

Everything is on: exactly-once with a checkpoint every 10 s, provenance in each file, the web page and metrics. The
committed files of every run must equal the oracle's. A backlog is read in seconds, between few cuts: how long these
hold up the pipeline is measured once more, with a cut every 100 ms.
"""

import harness as h

PROGRAMS = {"wasmill": h.WASMILL, "native twin": h.TWIN}
OUTPUT = h.WORK / "output"
CUT_EVERY = "100ms"


def measure_rounds(bootstrap, expected, events, workers, rounds):
    """All runs; the programs take turns, and who begins changes with the round."""
    runs = []
    h.warm_up(h.run_environment(bootstrap, OUTPUT))
    for round_ in range(1, rounds + 1):
        for n in workers:
            for name in list(PROGRAMS)[:: 1 if round_ % 2 else -1]:
                runs.append({"round": round_, **measure_run(bootstrap, expected, events, name, n)})
                show(runs[-1])
    return runs


def measure_run(bootstrap, expected, events, name, workers, **more):
    command = h.run_command(workers, binary=PROGRAMS[name])
    run = h.run_job(name, command, h.run_environment(bootstrap, OUTPUT, **more), events)
    h.must_equal(expected, OUTPUT)
    return {"workers": workers, **run}


def show(run):
    print(
        f"round {run['round']}, {run['workers']} workers, {run['name']}: {run['events_per_s']:,.0f} events/s, "
        f"{run['cpu_ns']:,.0f} CPU ns/event, {h.mb(run['peak_rss'])} MB; equals the oracle",
        flush=True,
    )


def of(runs, name, workers):
    return [run for run in runs if (run["name"], run["workers"]) == (name, workers)]


def middle(runs, key):
    return h.median([run[key] for run in runs])


def row(runs, name, workers):
    """Medians of the rounds."""
    mine = of(runs, name, workers)
    return [
        name,
        workers,
        f"{middle(mine, 'events_per_s'):,.0f}",
        f"{middle(mine, 'events_per_cpu_s'):,.0f}",
        f"{middle(mine, 'cpu_ns'):,.0f}",
        h.mb(middle(mine, "peak_rss")),
        h.ms(middle(mine, "startup")),
        h.mb(h.median([sum(run["output_bytes"].values()) for run in mine])),
    ]


def pauses(label, runs):
    """All the cuts of these runs together."""
    all_of = [pause for run in runs for pause in run["cut_pauses"]]
    return [label, len(all_of), *(h.ms(h.percentile(all_of, share)) for share in (0.5, 0.99, 1))]


def pauses_table(runs, often):
    """Of wasmill: the cuts of the rounds, and those of the runs with many."""
    lines = [pauses(f"every 10 s, {n} workers", of(runs, "wasmill", n)) for n in often]
    lines += [pauses(f"every {CUT_EVERY}, {n} workers", [run]) for n, run in often.items()]
    return h.table(["cuts", "how many", "pause ms p50", "p99", "max"], lines)


def ratio(runs, key, one, other):
    """The ratio of the medians, and the least and the largest of one round."""
    pairs = [(a[key], b[key]) for a, b in zip(of(runs, *one), of(runs, *other))]
    ratios = [a / b for a, b in pairs]
    medians = h.median([a for a, _ in pairs]) / h.median([b for _, b in pairs])
    return {"of_medians": medians, "least": min(ratios), "most": max(ratios)}


def ratios(runs, workers):
    """What the targets speak of, by name."""
    found = {}
    for n in workers:
        for key, what in (("events_per_cpu_s", "events per CPU-second"), ("events_per_s", "events/s")):
            found[f"wasmill / native twin, {n} workers, {what}"] = ratio(runs, key, ("wasmill", n), ("native twin", n))
    if {1, 2} <= set(workers):
        found["wasmill, 2 workers / 1 worker, events/s"] = ratio(runs, "events_per_s", ("wasmill", 2), ("wasmill", 1))
    return found


def markdown(runs, often, found, events, partitions):
    workers = list(often)
    header = ["program", "workers", "events/s", "events per CPU-s", "CPU ns/event", "peak RSS MB", "start-up ms"]
    header.append("output MB")
    rows = [row(runs, name, n) for n in workers for name in PROGRAMS]
    lines = [[name, *(f"{found[name][key]:.2f}" for key in ("of_medians", "least", "most"))] for name in found]
    rounds = max(run["round"] for run in runs)
    return (
        f"{events:,} events in {partitions} partitions of one real Kafka beside it; medians of {rounds} rounds in "
        "which the programs took turns. The whole job with everything on: four outputs in Parquet and CSV, "
        "exactly-once with a checkpoint every 10 s, provenance, metrics. The native twin is the same job with the "
        "plugins' source code as native code behind the same ports. Start-up is from the start of the process until "
        "its first batch is processed. Time and memory of the broker are not counted.\n\n"
        + h.table(header, rows)
        + "\n"
        + h.table(["ratio", "of the medians", "least of a round", "most"], lines)
        + "\n"
        + pauses_table(runs, often)
        + f"\nThe committed files of all {len(runs) + len(often)} runs equal the oracle's, row for row.\n"
    )


def main():
    events, partitions = h.number("EVENTS", 3_000_000), h.number("PARTITIONS", 4)
    workers, rounds = h.numbers("WORKERS", "1 2"), h.number("ROUNDS", 3)
    with h.broker() as bootstrap:
        h.fill(bootstrap, events, partitions)
        expected = h.expect(bootstrap, partitions)
        runs = measure_rounds(bootstrap, expected, events, workers, rounds)
        often = {n: measure_run(bootstrap, expected, events, "wasmill", n, TRIGGER_INTERVAL=CUT_EVERY) for n in workers}
    found = ratios(runs, workers)
    result = {"events": events, "partitions": partitions, "runs": runs, "cut_often": often, "ratios": found}
    result["oracle"] = "equal"
    h.report("bench", "The whole job", result, markdown(runs, often, found, events, partitions))


if __name__ == "__main__":
    main()

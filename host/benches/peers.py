#!/usr/bin/env python3
"""The same job in other engines and in wasmill, in the same rounds on the same broker and topic.

    EVENTS=3000000 PARTITIONS=4 ROUNDS=2 PEERS="spark spark-tuned flink fv-streams" host/benches/peers.py

A peer is a folder below host/benches/peers with two programs: `setup` makes it ready, or says what is missing, and the
peer is left out; `run BOOTSTRAP TOPIC EVENTS OUTPUT WORK` reads the topic, writes the outputs exactly once, and ends.
"""

import datetime
import json
import pathlib
import shutil
import subprocess
import sys

import harness as h

PEERS = pathlib.Path(__file__).resolve().parent / "peers"
sys.path.insert(0, str(PEERS))

import count  # noqa: E402  (it lies with the peers, who use it, too)

NAMES = {
    "spark": "Spark 3.5.1, local[2], the reference's design",
    "spark-tuned": "Spark 3.5.1, local[2], its queries merged by hand",
    "flink": "Flink 2.2.1 SQL, parallelism 2",
    "fv-streams": "fv-streams 0.8.0, 2 tasks",
}
WASMILL = "wasmill, 2 workers"
# The columns of a CSV file that does not name them, and the one that says when a row's window ends.
HEADS = {
    "page_metrics": ["window_start", "window_end", "page", "events", "users", "sessions", "purchases", "revenue"],
    "geo_metrics": ["window_start", "window_end", "country", "browser", "events"],
    "sessions": ["session_start", "session_end", "user_id", "events", "pages", "revenue"],
}
COUNTS = {"pages": "page_metrics", "geo": "geo_metrics", "sessions": "sessions"}
GAP = datetime.timedelta(seconds=30)
# How far before the last event of all an engine that keeps its last windows open may have stopped: the watermark's
# delay, the jitter of the generator, and a second because watermarks are sent on now and then.
OPEN = datetime.timedelta(seconds=10 + 5 + 1)
# Events without a time, of which fv-streams can make nothing: the generator's share, and chance.
TIMELESS = 0.001 * 1.2


def prepared(wanted):
    """The peers that are ready, and why the others are not."""
    ready, missing = [], {}
    for name in wanted:
        print(f"setting up {name}", flush=True)
        done = subprocess.run([str(PEERS / name / "setup")], capture_output=True, text=True)
        if done.returncode == 0:
            ready.append(name)
        else:
            missing[name] = (done.stderr.strip() or done.stdout.strip() or "its setup failed").splitlines()[-1]
    return ready, missing


# --- What is right ---


def result(output):
    """What lies below an output folder: rows by output, and the events that the rows of each aggregate count."""
    rows = count.counted(output)
    events = {
        name: sum(int(float(cells["events"])) for cells in count.csv_cells(output / folder, HEADS[folder]))
        for name, folder in COUNTS.items()
    }
    return {"rows": rows, "counted": events}


def bounds(output, events):
    """What the aggregates of any engine may hold, from wasmill's own, of which the oracle has approved.

    wasmill closes all windows at the end; others keep those open that end after the watermark. What is late in wasmill
    may count in an engine whose watermark is behind: it is one row more, one fewer where it joins two sessions.
    """
    found = {}
    last = max(end for _, end in ends(output, "sessions")) - GAP
    for name, folder in COUNTS.items():
        rows = list(ends(output, folder))
        closed = [counted for counted, end in rows if end <= last - OPEN]
        late = sum(count.parquet_rows(path) for path in (output / "_late" / folder).glob("*.parquet"))
        slack = int(events * TIMELESS)
        fewer = late + slack if name == "sessions" else 0
        found[name] = {
            "rows": (len(closed) - fewer, len(rows) + late + slack),
            "counted": (sum(closed) - slack, sum(counted for counted, _ in rows) + late),
        }
    return found


def ends(output, folder):
    """How many events each row counts, and when its window or session ends."""
    end = HEADS[folder][1]
    for cells in count.csv_cells(output / folder, HEADS[folder]):
        yield int(cells["events"]), datetime.datetime.fromisoformat(cells[end].replace("Z", "+00:00"))


def wrong(found, raw_rows, allowed):
    """What of a peer's result cannot be: nothing, if it is right."""
    said = []
    if found["rows"]["raw_rows"] != raw_rows:
        said.append(f"{found['rows']['raw_rows']:,} raw rows, not {raw_rows:,}")
    for name in COUNTS:
        for what in ("rows", "counted"):
            least, most = allowed[name][what]
            if not least <= found[what][name] <= most:
                said.append(f"{what} of {name}: {found[what][name]:,}, not {least:,} to {most:,}")
    return said


# --- Rounds ---


def run_wasmill(bootstrap, events, expected):
    """A run of wasmill, which must equal the oracle."""
    output = h.WORK / "output"
    run = h.run_job("wasmill", h.run_command(2), h.run_environment(bootstrap, output), events)
    h.must_equal(expected, output)
    return {**run, "result": result(output), "wrong": [], "allowed": bounds(output, events)}


def run_peer(name, bootstrap, events, right):
    """A run of a peer on empty folders, held against a run of wasmill."""
    work, log = h.WORK / "peer", h.WORK / f"{name}.log"
    shutil.rmtree(work, ignore_errors=True)
    command = [PEERS / name / "run", bootstrap, h.TOPIC, events, work / "output", work / "work"]
    measured = h.measure([str(part) for part in command], h.environment(), log, tree=True)
    said = json.loads(log.read_text(errors="replace").strip().splitlines()[-1])
    found = result(work / "output")
    if said != {"events": events, **found["rows"]}:
        raise SystemExit(f"{name} counts differently: {said}, not {found['rows']}")
    bad = wrong(found, right["result"]["rows"]["raw_rows"], right["allowed"])
    shutil.rmtree(work)
    # Several processes at once count together.
    measured["peak_rss"] = max(measured["peak_rss"], measured.pop("peak_rss_tree"))
    return {"name": name, **measured, **h.rates(measured, events), "result": found, "wrong": bad}


def measure_rounds(bootstrap, events, peers, rounds, expected):
    """All runs; wasmill begins each round, since the others are held against it, and the peers' order changes."""
    runs = []
    for round_ in range(1, rounds + 1):
        right = run_wasmill(bootstrap, events, expected)
        runs.append({"round": round_, **right})
        show(runs[-1])
        for name in peers[:: 1 if round_ % 2 else -1]:
            runs.append({"round": round_, **run_peer(name, bootstrap, events, right)})
            show(runs[-1])
    return runs


def show(run):
    verdict = "; ".join(run["wrong"]) or "right"
    print(
        f"round {run['round']}, {run['name']}: {run['events_per_s']:,.0f} events/s, "
        f"{run['events_per_cpu_s']:,.0f} events per CPU-second, {h.mb(run['peak_rss'])} MB; {verdict}",
        flush=True,
    )


# --- Report ---


def middle(runs, name, key):
    """The median of a key over a program's runs."""
    return h.median([run[key] for run in runs if run["name"] == name])


def ratios(runs, peers):
    """wasmill's rates over each peer's; none over one whose results are wrong."""
    right = [name for name in peers if not any(run["wrong"] for run in runs if run["name"] == name)]
    keys = ("events_per_s", "events_per_cpu_s")
    return {name: {key: middle(runs, "wasmill", key) / middle(runs, name, key) for key in keys} for name in right}


def row(runs, name, found):
    of = found.get(name)
    verdict = "yes" if name == "wasmill" or of else "no"
    return [
        NAMES.get(name, WASMILL),
        f"{middle(runs, name, 'events_per_s'):,.0f}",
        f"{middle(runs, name, 'events_per_cpu_s'):,.0f}",
        h.mb(middle(runs, name, "peak_rss")),
        f"{of['events_per_s']:.1f}" if of else "",
        f"{of['events_per_cpu_s']:.1f}" if of else "",
        verdict,
    ]


def markdown(runs, peers, missing, found, events, partitions):
    header = ["engine", "events/s (whole run)", "events per CPU-second", "peak RSS MB"]
    header += ["wasmill / it, events/s", "wasmill / it, events per CPU-second", "right"]
    rows = [row(runs, name, found) for name in ["wasmill", *peers]]
    wrongs = [f"* {run['name']}, round {run['round']}: {'; '.join(run['wrong'])}" for run in runs if run["wrong"]]
    lefts = [f"* left out: {why}" for why in missing.values()]
    return (
        f"{events:,} events in {partitions} partitions of one real Kafka beside it; medians of "
        f"{max(run['round'] for run in runs)} rounds. Four outputs, exactly-once, each engine as its folder below "
        "host/benches/peers says. The whole run counts: start, reading, the last commit, end. Processor time and "
        "memory are those of all its processes (the memory of several as their sum, every 200 ms); the broker's are "
        "not counted.\n\n"
        + h.table(header, rows)
        + "\nRight: as many raw rows as wasmill, which equals the oracle; and of each aggregate the rows, and the "
        "events that they count, as many as wasmill's but for windows that are open at the end, and events that "
        "wasmill calls late.\n"
        + "".join(f"\n{line}" for line in wrongs + lefts)
    )


def main():
    events, partitions, rounds = h.number("EVENTS", 3_000_000), h.number("PARTITIONS", 4), h.number("ROUNDS", 2)
    peers, missing = prepared(h.setting("PEERS", " ".join(NAMES)).split())
    for name, why in missing.items():
        print(f"left out: {name}: {why}", flush=True)
    with h.broker() as bootstrap:
        h.fill(bootstrap, events, partitions)
        expected = h.expect(bootstrap, partitions)
        runs = measure_rounds(bootstrap, events, peers, rounds, expected)
    found = ratios(runs, peers)
    whole = {"events": events, "partitions": partitions, "runs": runs, "ratios": found, "left_out": missing}
    h.report("peers", "wasmill and its peers", whole, markdown(runs, peers, missing, found, events, partitions))
    if any(run["wrong"] for run in runs):
        raise SystemExit("a peer's results are wrong: see the report")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""How the cost of an event depends on workers, partitions, keys, aggregates, payloads and windows.

    EVENTS=500000 ROUNDS=3 TABLES="workers partitions keys aggregates payload windows panes" host/benches/scaling.py

Each line of a table is a job of its own on a backlog on a real broker: the best of ROUNDS runs, all of which must equal
the oracle's rows. What differs is said in the first column, all else is as in `make bench`.
"""

import re

import harness as h

# What is measured unless a line says otherwise.
WORKERS, PARTITIONS = 2, 4
# Events that cost nothing beside start and end of a process.
FEW = 100


def case(
    label,
    workers=WORKERS,
    partitions=PARTITIONS,
    generator=(),
    env=None,
    aggregates=None,
    rules=None,
    twins=(),
    without=(),
):
    """A line: the topic (`partitions`, `generator` settings), the job (`workers`, `env`, `aggregates` in place of the
    reference job's) and what the oracle has to know of it."""
    return {
        "label": label,
        "workers": workers,
        "topic": (partitions, tuple(generator)),
        "env": env or {},
        "aggregates": aggregates,
        "rules": rules or {},
        "twins": twins,
        "without": without,
    }


def workers():
    return "Worker threads; the broker has what is left of the cores.", [case(str(n), workers=n) for n in (1, 2)]


def partitions():
    return "Partitions of the topic.", [case(str(n), partitions=n) for n in (1, 4, 16, 64)]


def keys():
    """Sessions are kept per visitor. So that there are many in so few events, a session has one event."""
    of = [(10, 8), (10_000, 8), (1_000_000, 1)]
    lines = [case(f"{n:,}", generator=[f"users={n}", f"session_events={events}"]) for n, events in of]
    about = "Visitors that events are drawn from: the keys of `sessions`. Of 1,000,000, each session has one event."
    return about, lines


def pages(name, window='{ tumbling = "60s" }'):
    """An aggregate over pages, as the pipeline file has it."""
    plugin = "${PLUGIN_PATH:-target/wasm32-wasip2/plugin}/page_metrics.wasm"
    return f'[[aggregate]]\nname = "{name}"\nplugin = "{plugin}"\nwindow = {window}\nkeys = ["page"]\n'


OTHERS = ("geo_metrics", "sessions")


def aggregates():
    def line(n):
        names = ["page_metrics", *(f"page_metrics_{i}" for i in range(2, n + 1))]
        twins = [f"{name}=page_metrics" for name in names[1:]]
        return case(str(n), aggregates=[pages(name) for name in names], twins=twins, without=OTHERS)

    return "The aggregate `page_metrics` so many times over, and no other.", [line(n) for n in (1, 4, 16)]


def payload():
    sizes = [("100 B", 100), ("300 B", 300), ("3 KB", 3000)]
    lines = [case(label, generator=[f"payload_bytes={size}"]) for label, size in sizes]
    about = "Bytes of a record. Of 100 B, events lack what may be absent; else a field pads them that makes no column."
    return about, lines


def windows():
    sizes = [("1 s", 1), ("1 min", 60), ("1 h", 3600)]
    lines = [
        case(
            label,
            env={"PAGE_WINDOW": f"{seconds}s", "GEO_WINDOW": f"{seconds}s"},
            rules={"page_window": seconds, "geo_window": seconds},
        )
        for label, seconds in sizes
    ]
    return "Tumbling windows of `page_metrics` and `geo_metrics`, over 30 minutes of event time.", lines


def panes():
    def sliding(seconds):
        window = f'{{ sliding = "60s", every = "{seconds}s" }}'
        rules = {"page_slide": seconds}
        of = [pages("page_metrics", window)]
        return case(f"sliding 60 s by {seconds} s", aggregates=of, rules=rules, without=OTHERS)

    tumbling = case("tumbling 60 s", aggregates=[pages("page_metrics")], without=OTHERS)
    return "Windows of `page_metrics`, and no other aggregate.", [tumbling, *(sliding(s) for s in (30, 10, 1))]


TABLES = {
    "workers": workers,
    "partitions": partitions,
    "keys": keys,
    "aggregates": aggregates,
    "payload": payload,
    "windows": windows,
    "panes": panes,
}


def pipeline(blocks):
    """The reference job's file, with these aggregates in place of its own."""
    if blocks is None:
        return h.PIPELINE
    text = h.PIPELINE.read_text()
    changed, found = re.subn(r"(?ms)^\[\[aggregate\]\].*?(?=^\[checkpoint\])", lambda _: "\n".join(blocks) + "\n", text)
    if found != 1:
        raise SystemExit(f"the aggregates are not found in {h.PIPELINE}")
    file = h.WORK / "scaling.toml"
    file.write_text(changed)
    return file


def topic_of(bootstrap, topics, events, line):
    """The topic that a line wants, filled when it is wanted first."""
    wanted = (line["topic"], events)
    if wanted not in topics:
        topics[wanted] = f"scaling-{len(topics)}"
        (count, settings), events = wanted
        h.fill(bootstrap, events, count, topic=topics[wanted], settings=settings)
    return topics[wanted]


def expected_of(bootstrap, known, topic, line):
    """What the oracle says of a topic by these rules; lines that have both in common share it."""
    wanted = (topic, tuple(line["rules"].items()))
    if wanted not in known:
        name = f"expected-{len(known)}"
        known[wanted] = h.expect(bootstrap, line["topic"][0], topic, name, **line["rules"])
    return known[wanted]


def measure_case(bootstrap, topics, known, events, rounds, line):
    """The best of so many runs."""
    topic = topic_of(bootstrap, topics, events, line)
    expected = expected_of(bootstrap, known, topic, line)
    output = h.WORK / "output"
    runs = []
    for _ in range(rounds):
        env = h.run_environment(bootstrap, output, topic, **line["env"])
        command = h.run_command(line["workers"], pipeline=pipeline(line["aggregates"]))
        runs.append(h.run_job("scaling", command, env, events))
        h.must_equal(expected, output, line["twins"], line["without"])
    best = min(runs, key=lambda run: run["cpu"])
    print(f"  {line['label']}: {best['events_per_s']:,.0f} events/s, {best['cpu_ns']:,.0f} CPU ns/event", flush=True)
    return {"label": line["label"], **best}


def row(of):
    output = sum(of["output_bytes"].values())
    return [of["label"], f"{of['events_per_s']:,.0f}", f"{of['cpu_ns']:,.0f}", h.mb(of["peak_rss"]), h.mb(output)]


def section(name, about, lines):
    header = [name, "events/s", "CPU ns/event", "peak RSS MB", "output MB"]
    return f"## {name}\n\n{about}\n\n" + h.table(header, [row(of) for of in lines])


def wanted_tables():
    names = h.setting("TABLES", " ".join(TABLES)).split()
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        raise SystemExit(f"TABLES={' '.join(unknown)}: there is no such table; there are {' '.join(TABLES)}")
    return names


def main():
    events, rounds, names = h.number("EVENTS", 500_000), h.number("ROUNDS", 3), wanted_tables()
    found, sections = {}, []
    with h.broker() as bootstrap:
        topics, known = {}, {}
        h.warm_up(h.run_environment(bootstrap, h.WORK / "output"))
        # What a run costs that has next to nothing to do.
        idle = measure_case(bootstrap, topics, known, FEW, rounds, case("start and end"))
        for name in names:
            print(name, flush=True)
            about, lines = TABLES[name]()
            found[name] = [measure_case(bootstrap, topics, known, events, rounds, line) for line in lines]
            sections.append(section(name, about, found[name]))
    about = (
        f"{events:,} events a line, the best of {rounds} runs; {WORKERS} workers and {PARTITIONS} "
        f"partitions where nothing else is said. Each time includes start and end of the process: {idle['wall']:.2f} s "
        f"of the clock and {idle['cpu']:.2f} s of the processor on a topic of {FEW} events, which is "
        f"{idle['cpu'] / events * 1e9:,.0f} ns an event here. All runs equal the oracle's rows.\n\n"
    )
    result = {"events": events, "rounds": rounds, "start_and_end": idle, "tables": found, "oracle": "equal"}
    h.report("scaling", "What the cost of an event depends on", result, about + "\n".join(sections))


if __name__ == "__main__":
    main()

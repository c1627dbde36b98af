#!/usr/bin/env python3
"""Where the processor's time goes: the reference job on a backlog on a real broker, under Linux perf.

    make profile          or, with the defaults: EVENTS=1000000 PARTITIONS=4 WORKERS=1 host/benches/cpu_profile.py

Prints a table of stages by kind of thread, the share that no pattern below matches, and the functions that take most
themselves. Guest code is named by function, too: perf knows nothing of it, but the compiled components in the cache do,
and where they lie in memory the process' own map tells. Recordings and raw data stay in target/bench/profile.
"""

import bisect
import collections
import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import threading

import harness

HERE = harness.WORK / "profile"
PLUGINS = harness.TARGET / "wasm32-wasip2" / "plugin"
# Samples a second and thread. A prime, so that nothing periodic is in step with it.
FREQUENCY = 997
# Bytes of stack kept with each sample, to find out who called: enough for the way from a thread's start.
STACK = 16384
TOP = 40
# A program may map code at any time; components are loaded at the start.
LOOK_EVERY = 0.02

INSTALL = """perf is needed and is not here. Install it:
  Debian: apt-get install linux-perf     Ubuntu: apt-get install linux-tools-generic     Fedora: dnf install perf"""
FORBIDDEN = """perf may not record here: {why}
As root it may, or after: sysctl kernel.perf_event_paranoid=1"""

# The first function, from the innermost to the outermost, that one of these matches says the stage of a sample; None =
# it works for whoever called it. Functions of a guest are written as `guest PLUGIN FUNCTION`.
PATTERNS = [
    (None, r"libcalls.*::memory_(copy|fill)|guest \S+ wasmtime_builtin_memory|guest \S+ mem(cpy|move|cmp|set)$"),
    ("boundary", r"guest \S+ (cabi_|component-trampolines|wasmtime_builtin|.*trampoline|.*cabi_(realloc|dealloc))"),
    ("parse: guest code", r"guest clickstream_parser "),
    ("page_metrics: guest code", r"guest page_metrics "),
    ("geo_metrics: guest code", r"guest geo_metrics "),
    ("sessions: guest code", r"guest sessions "),
    ("loading plugins", r"cranelift|regalloc2|wasmparser|wasmtime_environ|wasmill::plugin::(cache|component|runtime)"),
    ("boundary", r"wasmtime|wasmill::plugin::"),
    ("zstd", r"^(ZSTD|HUF|FSE|HIST)_|zstd"),
    ("CSV", r"csv_file|\bcsv(_core)?::"),
    ("Parquet", r"parquet"),
    ("files, the rest", r"wasmill::(sink|disk|provenance)"),
    ("sessions", r"wasmill_pipeline::state::session"),
    ("keys and groups", r"wasmill_pipeline::(key|state|shard|window)"),
    ("lane and exchange", r"wasmill_pipeline::"),
    ("librdkafka", r"^(rd_|rdk|rk_|LZ4|crc32c?_|mtx_|cnd_)"),
    ("kafka source", r"wasmill::kafka|^rdkafka|rdkafka::"),
    ("checkpoints", r"wasmill::(checkpointer|coordinator|store|recovery)"),
    ("web page, status line", r"wasmill::(admin|observer|telemetry|accounting)|tokio|hyper|axum"),
    ("worker loop", r"wasmill::(driver|shared|tap|failpoint)"),
    ("start and end", r"wasmill::|^_dl_|^do_lookup_x|^_start"),
]
STAGES = [(stage, re.compile(pattern)) for stage, pattern in PATTERNS]
NO_STAGE = "no pattern matches"

THREADS = {"workers": re.compile(r"worker-\d"), "kafka clients": re.compile(r"rdk:"), "others": re.compile("")}


# --- Recording ---


def check_perf():
    """Ends with what to do where perf is missing or may not record."""
    if not shutil.which("perf"):
        raise SystemExit(INSTALL)
    trial = ["perf", "record", "-e", "cpu-clock", "-o", str(HERE / "trial.data"), "true"]
    done = subprocess.run(trial, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(FORBIDDEN.format(why=done.stderr.strip()))


def record(job, env):
    """Runs the job under perf: the recording, and what guest code was mapped where."""
    data, log = HERE / "perf.data", HERE / "wasmill.log"
    how = ["-e", "cpu-clock", "-F", str(FREQUENCY), "--call-graph", f"dwarf,{STACK}", "-o", str(data)]
    with log.open("wb") as out:
        perf = subprocess.Popen(["perf", "record", "-q", *how, "--", *job], cwd=harness.ROOT, env=env, stdout=out, stderr=out)
        regions, done = {}, threading.Event()
        looking = threading.Thread(target=look_for_code, args=(perf.pid, regions, done), daemon=True)
        looking.start()
        try:
            status = perf.wait()
        finally:
            done.set()
            looking.join()
            perf.kill()
    if status != 0:
        raise SystemExit(f"the run under perf ended with {status}:\n{log.read_text(errors='replace')[-2000:]}")
    return data, regions


def look_for_code(perf, regions, done):
    """Keeps what the program under `perf` maps as code that no file has, by the start of each mapping."""
    while not done.wait(LOOK_EVERY):
        # The process, or a mapping, may be gone meanwhile.
        with contextlib.suppress(OSError):
            for process in pathlib.Path(f"/proc/{perf}/task/{perf}/children").read_text().split():
                regions.update(anonymous_code(process, regions))


def anonymous_code(process, known):
    found = {}
    for line in pathlib.Path(f"/proc/{process}/maps").read_text().splitlines():
        place, rights, _, _, inode, *path = line.split()
        start, end = (int(number, 16) for number in place.split("-"))
        if rights.startswith("r-x") and inode == "0" and not path and start not in known:
            with open(f"/proc/{process}/mem", "rb") as memory:
                memory.seek(start)
                found[start] = memory.read(end - start)
    return found


# --- Guest code ---


def guest_functions(regions, cache):
    """Where each function of each compiled component was: start, end, and `guest PLUGIN FUNCTION`; in order."""
    names = {hashlib.sha256(path.read_bytes()).hexdigest(): path.stem for path in PLUGINS.glob("*.wasm")}
    functions = []
    for path in sorted(cache.glob("*.cwasm")):
        text, symbols = compiled(path)
        plugin = names.get(path.name.partition("-")[0], "unknown")
        for start, code in regions.items():
            if code[: len(text)] == text:
                functions += [(start + at, start + at + size, f"guest {plugin} {name}") for name, at, size in symbols]
    return sorted(functions)


def compiled(path):
    """The code of a compiled component, which is an ELF file behind a few bytes of the cache's own, and its functions."""
    content = path.read_bytes()
    elf = content[content.index(b"\x7fELF") :]
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    count, names_at = struct.unpack_from("<HH", elf, 0x3C)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, table + 64 * number) for number in range(count)]
    named = {text_at(elf, sections[names_at], section[0]): section for section in sections}
    code, symbols = named[".text"], named[".symtab"]
    strings = sections[symbols[6]]
    entries = [struct.unpack_from("<IBBHQQ", elf, at) for at in range(symbols[4], symbols[4] + symbols[5], 24)]
    names = readable([text_at(elf, strings, entry[0]) for entry in entries])
    functions = [(name, value, size) for name, (_, _, _, _, value, size) in zip(names, entries)]
    return elf[code[4] : code[4] + code[5]], functions


def text_at(elf, section, offset):
    start = section[4] + offset
    return elf[start : elf.index(b"\0", start)].decode()


def readable(symbols):
    """Functions' names without their module's number, and with Rust's mangling undone as far as c++filt knows it."""
    names = [symbol.partition("]::function[")[2].partition("]::")[2] or symbol for symbol in symbols]
    if shutil.which("c++filt"):
        done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
        names = done.stdout.split("\n")
    return [shorter(unmangled(re.sub(r"\[[0-9a-f]{16}\]", "", name))) for name in names]


def unmangled(name):
    """What c++filt leaves of the older mangling: a name that was cut off."""
    if not name.startswith("_ZN"):
        return name
    parts, rest = [], name[3:]
    while found := re.match(r"\d+", rest):
        length = int(found[0])
        parts.append(rest[found.end() : found.end() + length])
        rest = rest[found.end() + length :]
    text = "::".join(parts).lstrip("_")
    for code, sign in (("$LT$", "<"), ("$GT$", ">"), ("$RF$", "&"), ("$u20$", " "), ("$C$", ","), ("..", "::")):
        text = text.replace(code, sign)
    return text


def shorter(name):
    """Without the hash that the older mangling ends in."""
    return re.sub(r"::h[0-9a-f]{16}$", "", name)


def guest_at(functions, starts, address):
    """The guest function that has an address."""
    at = bisect.bisect_right(starts, address) - 1
    return functions[at][2] if at >= 0 and address < functions[at][1] else None


# --- Samples ---

HEADER = re.compile(r"^(\S.*?)\s+(\d+)\s*$")
FRAME = re.compile(r"^\s+([0-9a-f]+) (.*) \((.*)\)$")


def samples(data, functions):
    """Each sample: the name of its thread, whether it was in the kernel, and its functions, innermost first."""
    starts = [start for start, _, _ in functions]
    fields = ["-F", "comm,tid,ip,sym,dso", "--no-inline"]
    with subprocess.Popen(
        ["perf", "script", "-i", str(data), *fields], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as script:
        thread, frames, kernel = None, [], False
        for line in script.stdout:
            if found := FRAME.match(line):
                address, symbol, place = found.groups()
                in_kernel = place.startswith("[kernel") or int(address, 16) >> 63 == 1
                kernel = kernel or (in_kernel and not frames)
                guest = guest_at(functions, starts, int(address, 16)) if symbol == "[unknown]" else None
                frames.append(guest or (f"{symbol} [kernel]" if in_kernel else symbol))
            elif found := HEADER.match(line):
                thread = found[1]
            elif not line.strip() and thread:
                yield thread, kernel, frames
                thread, frames, kernel = None, [], False
    if script.returncode != 0:
        raise SystemExit(f"perf script failed with {script.returncode}")


def stage_of(frames):
    """The stage that a sample belongs to."""
    for name in frames:
        if name.endswith("[kernel]"):
            continue
        for stage, pattern in STAGES:
            if pattern.search(name):
                if stage:
                    return stage
                break
    return NO_STAGE


def count(data, functions):
    """Samples by stage and kind of thread, those of them in the kernel by stage, and by innermost function."""
    stages, kernel, own = collections.Counter(), collections.Counter(), collections.Counter()
    for thread, in_kernel, frames in samples(data, functions):
        stage = stage_of(frames)
        kind = next(kind for kind, pattern in THREADS.items() if pattern.match(thread))
        stages[stage, kind] += 1
        kernel[stage] += in_kernel
        own[frames[0] if frames else "[unknown]", stage] += 1
    return stages, kernel, own


# --- Report ---


def cut(name, most=110):
    return name if len(name) <= most else name[: most - 1] + "…"


def tables(stages, kernel, own, events):
    """The report, as Markdown."""
    total = sum(stages.values())
    ns = 1e9 / FREQUENCY / events
    by_stage = collections.Counter()
    for (stage, _), found in stages.items():
        by_stage[stage] += found
    rows = []
    for stage, found in by_stage.most_common():
        of_threads = [f"{stages[stage, kind] / total:.1%}" for kind in THREADS]
        rows.append([stage, f"{found / total:.1%}", f"{found * ns:.0f}", f"{kernel[stage] * ns:.0f}", *of_threads])
    of_threads = [f"{sum(stages[stage, kind] for stage in by_stage) / total:.1%}" for kind in THREADS]
    in_all = [f"{total * ns:.0f}", f"{sum(kernel.values()) * ns:.0f}"]
    rows.append(["all", "100.0%", *in_all, *of_threads])
    stage_table = harness.table(["stage", "share", "ns an event", "of it kernel", *THREADS], rows)
    top = [[f"`{cut(shorter(name))}`", stage, f"{found / total:.1%}"] for (name, stage), found in own.most_common(TOP)]
    return f"{stage_table}\nThe functions that take most themselves:\n\n" + harness.table(["function", "stage", "share"], top)


def main():
    events, workers = harness.number("EVENTS", 1_000_000), harness.number("WORKERS", 1)
    partitions = harness.number("PARTITIONS", 4)
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir(parents=True)
    check_perf()
    cache = HERE / "cache"
    with harness.broker(HERE / "kafka") as bootstrap:
        harness.fill(bootstrap, events, partitions)
        expected = harness.expect(bootstrap, partitions)
        env = harness.run_environment(bootstrap, HERE / "output", CACHE_PATH=str(cache))
        # Compiling would be a good part of a short recording.
        harness.warm_up(env)
        data, regions = record(harness.run_command(workers), env)
        harness.must_equal(expected, HERE / "output")
    functions = guest_functions(regions, cache)
    if not functions:
        raise SystemExit("no guest code was found in the memory of the process: the report would call it unknown")
    stages, kernel, own = count(data, functions)
    title = f"Profile of {events:,} events in {partitions} partitions, {workers} worker{'s' if workers > 1 else ''}"
    result = {
        "events": events,
        "workers": workers,
        "frequency": FREQUENCY,
        "samples": [[stage, kind, found] for (stage, kind), found in stages.most_common()],
        "kernel": dict(kernel),
        "functions": [[name, stage, found] for (name, stage), found in own.most_common(200)],
    }
    note = f"\nSamples of the processor's clock at {FREQUENCY} Hz; the recording itself makes everything a little slower.\n"
    harness.report("profile", title, result, tables(stages, kernel, own, events) + note)
    print(f"the recording: {os.path.relpath(data)}", file=sys.stderr)


if __name__ == "__main__":
    main()

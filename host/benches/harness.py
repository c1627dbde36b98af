"""What every benchmark of a whole job needs: a real broker, a filled topic, a measured command, a report.

Times are seconds, sizes bytes. All files lie below target/bench, reports in host/benches/runs.
"""

import contextlib
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = ROOT / "target"
WORK = TARGET / "bench"
RUNS = ROOT / "host" / "benches" / "runs"
# Where the measured programs are: `make bench` builds them.
PROGRAMS = TARGET / os.environ.get("PROFILE", "release")
WASMILL, TWIN, ORACLE = (PROGRAMS / name for name in ("wasmill", "wasmill-twin", "bench-oracle"))
PIPELINE = ROOT / "host" / "pipelines" / "clickstream.toml"
TOPIC = "bench"

# The reference job with everything on; `run_environment` adds where it reads and writes.
JOB = {
    "PAGE_WINDOW": "1m",
    "GEO_WINDOW": "1m",
    "SESSION_WINDOW": "30s",
    "WATERMARK_DELAY": "10s",
    "TRIGGER_INTERVAL": "10s",
    "ROLL_AGE": "1m",
    "PARTITION_BY": "none",
    # The pipeline tells of its first batch and of its cuts at this level, and of nothing else that is frequent.
    "LOG_LEVEL": "info,wasmill::driver=debug,wasmill::coordinator=debug",
}

# What of the caller's environment reaches the measured programs: a job is to be the same whoever asks for it.
KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "PLUGIN_PATH")

# How often the memory of a tree of processes is looked at.
SAMPLE_EVERY = 0.2


def setting(name, default):
    """An environment variable as text, where it is set and not empty."""
    return os.environ.get(name) or str(default)


def number(name, default):
    """An environment variable as a number; underscores and commas may stand between digits."""
    text = setting(name, default)
    try:
        return int(text.replace(",", "").replace("_", ""))
    except ValueError:
        raise SystemExit(f"{name} must be a whole number: {name}={text}") from None


def environment(**variables):
    """What a measured program sees of the world."""
    return {**{name: os.environ[name] for name in KEPT if name in os.environ}, **variables}


def numbers(name, default):
    """An environment variable as numbers with blanks between."""
    try:
        return [int(word) for word in setting(name, default).split()]
    except ValueError:
        raise SystemExit(f"{name} must be whole numbers with blanks between: {name}={setting(name, default)}") from None


# --- The broker and its topic ---


def free_ports():
    """A port that is free together with the one after it: a broker's and its controller's."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


def kafka(command, port, folder, *more):
    """host/kafka/kafka.sh, quietly; what it says where it fails."""
    script = [ROOT / "host" / "kafka" / "kafka.sh", command, "--port", str(port), "--dir", folder, *more]
    done = subprocess.run([str(part) for part in script], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}{done.stderr}".strip())


def terminated(*_):
    """What a signal to end does: as an interrupt, so that whatever is open is closed."""
    raise SystemExit(128 + signal.SIGTERM)


@contextlib.contextmanager
def broker(folder=WORK / "kafka", port=None):
    """A real Kafka of one node with nothing in it, as `host:port`; gone with its data at the end."""
    port = port or int(os.environ.get("PORT") or free_ports())
    shutil.rmtree(folder, ignore_errors=True)
    signal.signal(signal.SIGTERM, terminated)
    try:
        kafka("up", port, folder)
        yield f"127.0.0.1:{port}"
    finally:
        kafka("down", port, folder, "--now")
        shutil.rmtree(folder, ignore_errors=True)


def fill(bootstrap, events, partitions=4, topic=TOPIC, seed=1, span="30m", first=0, settings=(), binary=WASMILL):
    """Generates `events` records over `span` of event time into a topic, which is made where it is not there.

    1 % come later than the watermark, 0.1 % are malformed, 0.1 % have no time. `settings` are further ones of
    the generator, as `users=10`.
    """
    shares = ["late_share=0.01", "malformed_share=0.001", "no_time_share=0.001"]
    command = [binary, "generate", "--create", "--partitions", partitions, "--rate", 0, "--acks", "all", "--seed", seed]
    command += ["--first", first, "--count", events, "--span", span]
    for one in [*shares, *settings]:
        command += ["--set", f"generator.config.{one}"]
    where = {"KAFKA_BOOTSTRAP_SERVERS": bootstrap, "KAFKA_TOPIC": topic, "LOG_LEVEL": "warn"}
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=environment(**where))
    if done.returncode != 0:
        raise SystemExit(f"the topic {topic} could not be filled")


def expect(bootstrap, partitions=4, topic=TOPIC, name="expected", **rules):
    """What the oracle says that the job must make of a topic, as a file. `rules`, in seconds, differ from `JOB`."""
    file = WORK / f"{name}.json"
    command = [ORACLE, "expect", "--bootstrap", bootstrap, "--topic", topic, "--partitions", partitions]
    for name, seconds in rules.items():
        command += [f"--{name.replace('_', '-')}", seconds]
    subprocess.run([str(part) for part in [*command, file]], check=True)
    return file


def must_equal(expected, folder, twins=(), without=()):
    """Ends the benchmark unless the committed files below `folder` are what the oracle says: a fast wrong number counts
    as zero. `twins` are aggregates that must hold what another one does, as `pages_2=page_metrics`, `without` those of
    the reference job that this one does not have."""
    command = [ORACLE, "check", expected, folder]
    for twin in twins:
        command += ["--twin", twin]
    for name in without:
        command += ["--without", name]
    if subprocess.run([str(part) for part in command]).returncode != 0:
        raise SystemExit("the outputs differ from what the oracle says")


# --- A job, measured ---


def run_environment(bootstrap, output, topic=TOPIC, **more):
    """The environment of the reference job on a topic: files below `output`, the web page on a free port."""
    where = {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "KAFKA_TOPIC": topic,
        "OUTPUT_PATH": str(output),
        "CHECKPOINT_PATH": str(output / "_checkpoints"),
        "CACHE_PATH": str(WORK / "plugin-cache"),
        "HTTP_LISTEN": f"127.0.0.1:{free_ports()}",
    }
    return environment(**{**JOB, **where, **more})


def run_command(workers, *more, binary=WASMILL, pipeline=PIPELINE):
    """`wasmill run` until everything there is was read, and every window is closed and committed."""
    return [str(part) for part in [binary, "run", "-c", pipeline, "--workers", workers, "--drain", *more]]


def warm_up(env):
    """Compiles the plugins into the cache, so that no measured run does."""
    done = subprocess.run([str(WASMILL), "check", str(PIPELINE)], cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}{done.stderr}")


def measure(command, env=None, log=None, tree=False):
    """Runs a command to its end: wall, user and system time of it and all it waited for, and peak memory.

    `peak_rss` is the largest that any one process had. With `tree` the sum over all processes below it is sampled, too:
    `peak_rss_tree`, of which shared pages count once for each. What the command writes goes to the file `log`. A tree
    is a session of its own, so that none of it outlives a benchmark that is ended.
    """
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(open(log, "wb")) if log else None
        began, began_at = time.monotonic(), time.time()
        errors = subprocess.STDOUT if out else None
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=errors, start_new_session=tree)
        sampled = stack.enter_context(sampling(process.pid)) if tree else None
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            if tree:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - began
    if process.returncode != 0:
        said = pathlib.Path(log).read_text(errors="replace")[-2000:] if log else ""
        raise SystemExit(f"{' '.join(map(str, command))}: ended with {process.returncode}\n{said}")
    measured = {
        "began_at": began_at,
        "wall": wall,
        "user": used.ru_utime,
        "system": used.ru_stime,
        "cpu": used.ru_utime + used.ru_stime,
        "peak_rss": used.ru_maxrss * 1024,
    }
    return {**measured, "peak_rss_tree": max(sampled, default=0)} if tree else measured


@contextlib.contextmanager
def sampling(pid):
    """What the tree of processes below `pid` has in memory, every 200 ms: a list that grows until the end."""
    found, done = [], threading.Event()

    def sample():
        while not done.wait(SAMPLE_EVERY):
            found.append(tree_rss(pid))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def tree_rss(pid):
    """Resident bytes of a process and all its descendants."""
    children, pages = {}, {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        # A process may end while it is looked at.
        with contextlib.suppress(OSError):
            # The command's name stands in parentheses and may hold anything.
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            children.setdefault(int(fields[1]), []).append(int(folder.name))
            pages[int(folder.name)] = int(fields[21])
    left, total = [pid], 0
    while left:
        one = left.pop()
        total += pages.get(one, 0)
        left += children.get(one, [])
    return total * os.sysconf("SC_PAGE_SIZE")


# --- What the pipeline tells of itself ---

LINE = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+)Z\s+[A-Z]+\s+(.*)$")
UNITS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}


def told(log, began_at):
    """From the log of a run: `startup`, until its first batch was processed; the pause of each cut but the last, which
    holds up nobody any more; the line with the books, which alarms may follow."""
    startup, pauses, books = None, [], None
    for line in pathlib.Path(log).read_text(errors="replace").splitlines():
        found = LINE.match(line)
        if not found:
            continue
        at, said = found.groups()
        if "the accounting closes" in said:
            books = said
        if said.startswith("the first batch is processed") and startup is None:
            startup = datetime.datetime.fromisoformat(at + "+00:00").timestamp() - began_at
        if said.startswith("checkpoint ") and (pause := re.search(r"\bpause=([\d.]+)(\D+?)\s", said)):
            pauses.append(float(pause[1]) * UNITS[pause[2]])
    if startup is None:
        raise SystemExit(f"the log does not tell of a first batch: {log}")
    if books is None:
        raise SystemExit(f"the books do not close: {log}")
    return {"startup": startup, "cut_pauses": pauses[:-1], "said": books}


def output_bytes(folder):
    """The size of the committed files, by output."""
    sizes = {}
    for path in folder.rglob("*"):
        output = path.relative_to(folder).parts[0]
        if path.is_file() and output not in ("_checkpoints", "_staging", "_files"):
            sizes[output] = sizes.get(output, 0) + path.stat().st_size
    return dict(sorted(sizes.items()))


def run_job(name, command, env, events):
    """One measured run of the job on empty folders, with what it tells of itself and the sizes of its files."""
    output = pathlib.Path(env["OUTPUT_PATH"])
    shutil.rmtree(output, ignore_errors=True)
    log = WORK / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    measured = measure(command, env, log)
    measured.update(told(log, measured.pop("began_at")))
    return {"name": name, **measured, **rates(measured, events), "output_bytes": output_bytes(output)}


def rates(measured, events):
    """Events a second of the clock and of the processor, and nanoseconds of the processor an event."""
    cpu = measured["cpu"]
    return {"events_per_s": events / measured["wall"], "events_per_cpu_s": events / cpu, "cpu_ns": cpu / events * 1e9}


# --- Results ---


def machine():
    """What the run is to be judged by; no names of hosts."""
    cpu = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", pathlib.Path("/proc/meminfo").read_text(), re.M)
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "memory": int(memory[1]) * 1024 if memory else None,
    }


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def provenance():
    """Date, commit (with `+` where the tree was changed) and machine."""
    changed = git("status", "--porcelain", "--untracked-files=no")
    commit = (git("rev-parse", "--short=10", "HEAD") or "unknown") + ("+" if changed else "")
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    return {"date": now.isoformat(), "commit": commit, "machine": machine()}


def report(name, title, result, markdown):
    """Writes `<date>-<commit>-<name>.json` and `.md` to host/benches/runs, prints the latter, and gives its path."""
    of = provenance()
    made = of["machine"]
    memory = f", {made['memory'] / 1e9:.0f} GB" if made["memory"] else ""
    head = f"# {title}\n\n{of['date']}, commit {of['commit']}, {made['cores']} cores of {made['cpu']}{memory}\n\n"
    stem = f"{of['date'][:10]}-{of['commit']}-{name}"
    RUNS.mkdir(parents=True, exist_ok=True)
    text = head + markdown.strip() + "\n"
    (RUNS / f"{stem}.json").write_text(json.dumps({**of, "name": name, **result}, indent=1) + "\n")
    (RUNS / f"{stem}.md").write_text(text)
    print("\n" + text, flush=True)
    return RUNS / f"{stem}.md"


def table(header, rows):
    """A Markdown table: cells as they are, all but the first column to the right."""
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def median(values):
    return statistics.median(values)


def percentile(values, share):
    """The smallest value that at least this share of all does not exceed; `None` of no values."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * share // 1) - 1)] if ordered else None


def ms(seconds):
    return "" if seconds is None else f"{seconds * 1000:.1f}"


def mb(size):
    return f"{size / 1e6:,.0f}"

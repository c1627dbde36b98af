"use strict";

const byId = (id) => document.getElementById(id);
const number = (value) => (value == null ? "–" : Number(value).toLocaleString("en-US", { maximumFractionDigits: 1 }));
const time = (us) => (us == null ? "–" : new Date(us / 1000).toISOString().replace("T", " ").replace(/\.\d+Z/, "Z"));
const sum = (values) => values.reduce((total, value) => total + value, 0);

function span(us) {
  const seconds = us / 1e6;
  if (Math.abs(seconds) < 1) return `${(us / 1e3).toFixed(1)} ms`;
  if (Math.abs(seconds) < 120) return `${seconds.toFixed(1)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

// What would turn, hide or move other text is shown as what it is.
const plain = (text) => String(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = plain(text);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function table(id, columns, rows) {
  const head = document.createElement("tr");
  for (const [name, , kind] of columns) head.append(element("th", name, { scope: "col", class: kind ?? "" }));
  const body = rows.map((row) => {
    const line = document.createElement("tr");
    columns.forEach(([, value, kind], at) =>
      line.append(element(at ? "td" : "th", value(row), at ? { class: kind ?? "" } : { scope: "row" })));
    return line;
  });
  const [thead, tbody] = ["thead", "tbody"].map((tag) => document.createElement(tag));
  thead.append(head);
  tbody.append(...body);
  byId(id).replaceChildren(byId(id).caption, thead, tbody);
  byId(id).hidden = rows.length === 0;
}

function show(status) {
  const checkpoint = status.checkpoint;
  const lags = status.partitions.map((partition) => partition.lag).filter((lag) => lag != null);
  document.title = `wasmill ${status.pipeline}`;
  byId("pipeline").textContent = plain(status.pipeline + (status.run ? ` (run ${status.run})` : ""));
  const doing = status.failure ?? `${status.state.replace("_", " ")} ${status.detail}`.trim();
  byId("state").textContent = `${plain(doing)} · version ${status.version} · generation ${status.generation} · since ${time(status.since_us)}`;
  byId("state").className = status.failure || status.state === "paused" ? "bad" : "";
  const accounting = status.accounting;
  byId("accounting").textContent = `${accounting.closed ? "✓ accounting closes" : "✗ accounting does not close"} ${plain(accounting.message)}`;
  byId("accounting").className = accounting.closed ? "good" : "bad";
  table("alarms", [
    ["alarm", (row) => [row.kind, row.aggregate ?? ""].join(" ")], ["since", (row) => time(row.since_us), "text"],
    ["what", (row) => row.message, "text"],
  ], status.alarms);
  const numbers = [
    ["events per second", number(status.events_per_second)],
    ["records", number(status.records)],
    ["rows", number(status.rows)],
    ["lag", lags.length ? number(sum(lags)) : "–"],
    ["watermark", time(status.watermark_us)],
    ["watermark behind", status.watermark_us == null ? "–" : span(status.now_us - status.watermark_us)],
    ["open groups", number(sum(status.aggregates.map((aggregate) => aggregate.open_groups)))],
    ["dead letters", number(sum(Object.values(status.dead_letters)))],
    ["filtered", number(status.filtered)],
    ["rows with broker time", number(status.broker_time_rows)],
    ["last checkpoint", checkpoint ? `#${checkpoint.number}, ${span(status.now_us - checkpoint.created_at_us)} ago` : "–"],
    ["its pause, duration", checkpoint ? `${span(checkpoint.pause_us)}, ${span(checkpoint.duration_us)}` : "–"],
  ];
  byId("numbers").replaceChildren(...numbers.map(([name, value]) => {
    const pair = document.createElement("div");
    pair.append(element("dt", name), element("dd", value));
    return pair;
  }));
  table("aggregates", [
    ["name", (row) => row.name], ["rows counted", (row) => number(row.counted)], ["late", (row) => number(row.late)],
    ["set aside", (row) => number(row.set_aside)],
    ["open groups", (row) => number(row.open_groups)],
    ["state MB", (row) => number(row.state_bytes / 1e6)], ["rows written", (row) => number(row.rows_out)],
    ["out of service", (row) => row.out_of_service ?? "", "text"],
  ], status.aggregates);
  table("partitions", [
    ["partition", (row) => row.partition], ["next offset", (row) => number(row.next_offset)],
    ["end", (row) => number(row.high)], ["lag", (row) => number(row.lag)],
    ["watermark", (row) => time(row.watermark_us)], ["idle", (row) => (row.idle ? "idle" : "")],
  ], status.partitions);
  const pairs = (heading) => [[heading, ([name]) => name], ["count", ([, count]) => number(count)]];
  table("dead_letters", pairs("reason"), Object.entries(status.dead_letters));
  table("files", pairs("output"), Object.entries(status.files));
  table("plugins", [
    ["name", (row) => row.name], ["digest", (row) => row.digest, "text"], ["path", (row) => row.path, "text"],
    ["since checkpoint", (row) => number(row.since_checkpoint)], ["on probation until", (row) => number(row.probation_until)],
    ["retiring", (row) => row.retiring ?? "", "text"],
  ], status.plugins);
  const shadows = status.plugins.map((plugin) => plugin.shadow).filter((shadow) => shadow != null);
  table("shadows", [
    ["plugin", (row) => row.plugin], ["digest", (row) => row.shadow, "text"],
    ["since checkpoint", (row) => number(row.since_checkpoint)], ["windows compared", (row) => number(row.compared)],
    ["equal", (row) => number(row.equal)], ["different", (row) => number(row.different)],
    ["only current", (row) => number(row.only_current)], ["only shadow", (row) => number(row.only_shadow)],
    ["ns per row, current", (row) => number(row.current_ns_per_row)], ["shadow", (row) => number(row.shadow_ns_per_row)],
    ["ended", (row) => row.failed ?? "", "text"],
  ], shadows);
  table("differences", [
    ["plugin", ([plugin]) => plugin], ["window", ([, row]) => time(row.window_start_us), "text"],
    ["key", ([, row]) => Object.entries(row.key).map(([name, value]) => `${name}=${value}`).join(" "), "text"],
    ["column", ([, row]) => row.column ?? "", "text"], ["current", ([, row]) => row.current ?? "–"],
    ["shadow", ([, row]) => row.shadow ?? "–"],
  ], shadows.flatMap((shadow) => shadow.examples.map((row) => [shadow.plugin, row])));
}

async function refresh() {
  try {
    const answer = await fetch("/api/v1/status", { signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    show(await answer.json());
  } catch (error) {
    byId("state").textContent = `no answer: ${error.message}`;
    byId("state").className = "bad";
  }
  setTimeout(refresh, 1000);
}

refresh();

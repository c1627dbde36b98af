"""Counts the rows that a job wrote: `count.py OUTPUT EVENTS` prints one line of JSON.

Files lie as wasmill writes them: OUTPUT/events_raw/parquet, OUTPUT/{page_metrics,geo_metrics,sessions}/{parquet,csv}.
The number of rows of a Parquet file stands in its footer; the rows of the CSV files must be as many.
"""

import csv
import json
import pathlib
import struct
import sys

OUTPUTS = {"raw_rows": "events_raw", "pages": "page_metrics", "geo": "geo_metrics", "sessions": "sessions"}

# Thrift's compact protocol: types of fields.
STOP, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 0, 3, 7, 8, 9, 10, 11, 12
# The field of a Parquet file's metadata that says how many rows it has, and the type of it (i64).
NUM_ROWS, I64 = 3, 6


def varint(data, at):
    """An unsigned number of variable length, and where the next value begins."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def skipped(data, at, kind):
    """Where the value of this type at `at` ends."""
    if kind in (1, 2):
        return at
    if kind == BYTE:
        return at + 1
    if kind == DOUBLE:
        return at + 8
    if kind == BINARY:
        length, at = varint(data, at)
        return at + length
    if kind in (LIST, SET):
        head = data[at]
        length, at = varint(data, at + 1) if head >> 4 == 15 else (head >> 4, at + 1)
        for _ in range(length):
            # A truth value has a byte of its own in a list, and none as a field.
            at = at + 1 if head & 15 in (1, 2) else skipped(data, at, head & 15)
        return at
    if kind == STRUCT:
        while data[at] != STOP:
            _, inner, at = field(data, at, 0)
            at = skipped(data, at, inner)
        return at + 1
    if kind in (4, 5, 6):
        return varint(data, at)[1]
    raise ValueError(f"a type that no Parquet footer has: {kind}")


def field(data, at, last):
    """Number and type of the field whose head is at `at`, and where its value begins."""
    head = data[at]
    if head >> 4:
        return last + (head >> 4), head & 15, at + 1
    zigzag, at = varint(data, at + 1)
    return (zigzag >> 1) ^ -(zigzag & 1), head & 15, at


def parquet_rows(path):
    """The number of rows, as the file's footer says."""
    with open(path, "rb") as file:
        file.seek(-8, 2)
        length, magic = struct.unpack("<I4s", file.read(8))
        if magic != b"PAR1":
            raise SystemExit(f"not a complete Parquet file: {path}")
        file.seek(-8 - length, 2)
        footer = file.read(length)
    at = last = 0
    while footer[at] != STOP:
        last, kind, at = field(footer, at, last)
        if (last, kind) == (NUM_ROWS, I64):
            zigzag, _ = varint(footer, at)
            return zigzag >> 1
        at = skipped(footer, at, kind)
    raise SystemExit(f"the footer does not say how many rows there are: {path}")


def visible(folder):
    """The files below a folder that a reader sees: neither they nor a folder on the way begin with `_` or `.`."""
    for path in sorted(pathlib.Path(folder).rglob("*")):
        if path.is_file() and not any(part[0] in "_." for part in path.relative_to(folder).parts):
            yield path


def csv_rows(path):
    """The lines of a CSV file without its head: no cell of ours has a line break in it."""
    with open(path, "rb") as file:
        lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
        file.seek(0)
        head = file.readline()
    return lines - (1 if b"events" in head else 0)


def rows(folder):
    """The rows of an output, which has to be the same in all its formats."""
    found = sum(parquet_rows(path) for path in visible(folder / "parquet"))
    if (folder / "csv").is_dir():
        written = sum(csv_rows(path) for path in visible(folder / "csv"))
        if written != found:
            raise SystemExit(f"{folder}: {found} rows in Parquet, {written} in CSV")
    return found


def counted(output):
    """The rows by output."""
    return {name: rows(pathlib.Path(output) / folder) for name, folder in OUTPUTS.items()}


def csv_cells(folder, head):
    """The rows of an output's CSV files as dictionaries; `head` names the columns where the files do not."""
    for path in visible(folder / "csv"):
        with open(path, newline="") as file:
            named = "events" in file.readline()
            file.seek(0)
            yield from csv.DictReader(file, None if named else head)


if __name__ == "__main__":
    output, events = sys.argv[1:]
    print(json.dumps({"events": int(events), **counted(output)}))

"""Reads each output below a folder with every reader there is, and compares: Parquet and CSV must give the same values.

readers.py FOLDER   where FOLDER/<output>/{parquet,csv} hold files; a column's name begins with the letter of its type:
                    i integer, t time, s text, f float, b boolean, x bytes (in CSV hexadecimal text)
The options with which CSV is read here are those of host/docs/files.md.
"""
import datetime as dt
import math
import pathlib
import sys
import warnings

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet as pq

warnings.simplefilter("ignore")
EPOCH = dt.datetime(1970, 1, 1)
TYPES = {
    "i": ("BIGINT", pa.int64(), pl.Int64),
    "t": ("TIMESTAMPTZ", pa.timestamp("us", "UTC"), pl.String),
    "s": ("VARCHAR", pa.string(), pl.String),
    "f": ("DOUBLE", pa.float64(), pl.Float64),
    "b": ("BOOLEAN", pa.bool_(), pl.Boolean),
    "x": ("VARCHAR", pa.string(), pl.String),
}


def plain(column, value):
    """A value in the one form in which readers are compared."""
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    kind = column[0]
    if kind == "t":
        if isinstance(value, str):
            value = dt.datetime.fromisoformat(value.replace("Z", "+00:00"))
        if isinstance(value, pd.Timestamp):
            value = value.to_pydatetime(warn=False)
        if value.tzinfo is not None:
            value = value.astimezone(dt.timezone.utc).replace(tzinfo=None)
        return (value - EPOCH) // dt.timedelta(microseconds=1)
    if kind == "x":
        return bytes(value).hex() if isinstance(value, (bytes, bytearray)) else value
    if kind == "f":
        return None if math.isnan(value) else float(value).hex()
    if kind == "b":
        return bool(value)
    if kind == "i":
        return int(value)
    return value


def rows(columns, values):
    return columns, sorted((tuple(map(plain, columns, row)) for row in values), key=repr)


def duck(query):
    db = duckdb.connect()
    db.execute("set timezone = 'UTC'")
    # Python's own times do not reach as far as DuckDB's.
    columns = db.execute(f"select * from ({query}) limit 0").description
    times = ", ".join(f'epoch_us("{c[0]}") as "{c[0]}"' for c in columns if c[0][0] == "t")
    found = db.execute(f"select * {f'replace ({times})' if times else ''} from ({query})").fetchall()
    names = [c[0] for c in columns]
    shift = [n[0] == "t" for n in names]
    return names, [[EPOCH + dt.timedelta(microseconds=v) if s and v is not None else v for s, v in zip(shift, row)] for row in found]


def pandas_csv(folder, columns):
    numbers = {c: [""] for c in columns if c[0] in "ifbt"}
    types = {c: {"i": "Int64", "s": str, "x": str, "b": "boolean"}[c[0]] for c in columns if c[0] in "isxb"}
    frame = pd.concat(pd.read_csv(f, keep_default_na=False, na_values=numbers, dtype=types) for f in folder.rglob("*.csv"))
    return columns, frame.astype(object).where(frame.notna(), None).values.tolist()


def arrow_csv(folder, columns):
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    convert = pa.csv.ConvertOptions(
        strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""],
        column_types={c: TYPES[c[0]][1] for c in columns if c[0] != "t"},
    )
    options = pa.dataset.CsvFileFormat(parse_options=parse, convert_options=convert)
    table = pa.dataset.dataset(folder, format=options).to_table()
    return table.column_names, [tuple(row.values()) for row in table.to_pylist()]


def readers(parquet, csv, columns):
    """By name: what reads the files, and whether it can tell null from the empty text."""
    types = ", ".join(f"'{c}': '{TYPES[c[0]][0]}'" for c in columns)
    yield "duckdb parquet", True, lambda: duck(f"select * from read_parquet('{parquet}/**/*.parquet')")
    yield "pandas parquet", True, lambda: (lambda d: (list(d.columns), d.astype(object).where(d.notna(), None).values.tolist()))(pd.read_parquet(parquet))
    yield "polars parquet", True, lambda: (lambda d: (d.columns, d.rows()))(pl.read_parquet(f"{parquet}/**/*.parquet"))
    yield "duckdb csv", True, lambda: duck(f"select * from read_csv('{csv}/**/*.csv', allow_quoted_nulls = false, types = {{{types}}})")
    yield "polars csv", True, lambda: (lambda d: (d.columns, d.rows()))(pl.read_csv(f"{csv}/**/*.csv", schema={c: TYPES[c[0]][2] for c in columns}))
    yield "pyarrow csv", True, lambda: arrow_csv(csv, columns)
    yield "pandas csv", False, lambda: pandas_csv(csv, columns)


def spark(root, outputs, base):
    """Yields what Spark finds in both formats of each output."""
    from pyspark.sql import SparkSession
    session = SparkSession.builder.master("local[1]")
    for key, value in {
        "spark.ui.enabled": "false", "spark.sql.session.timeZone": "UTC", "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }.items():
        session = session.config(key, value)
    session = session.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    kinds = {"i": "bigint", "t": "timestamp", "s": "string", "f": "double", "b": "boolean", "x": "string"}
    for output in outputs:
        columns = base[output][0]
        # As whole numbers: Python's own times do not reach as far.
        cells = [f"unix_micros({c}) as {c}" if c[0] == "t" else c for c in columns]
        schema = ", ".join(f"{c} {kinds[c[0]]}" for c in columns)
        csv = dict(header=True, schema=schema, multiLine=True, escape='"', nullValue="\x01")
        for form, read in {
            "parquet": lambda f: session.read.parquet(f), "csv": lambda f: session.read.csv(f, **csv),
        }.items():
            found = read(str(root / output / form)).selectExpr(*cells).collect()
            yield output, f"spark {form}", columns, [
                [EPOCH + dt.timedelta(microseconds=v) if c[0] == "t" and v is not None else v for c, v in zip(columns, row)]
                for row in found
            ]
    session.stop()


def without_empty(found):
    columns, values = found
    return rows(columns, [[plain_again(c, v) for c, v in zip(columns, row)] for row in values])


def plain_again(column, value):
    """For readers that cannot tell null from the empty text."""
    if column[0] in "sx":
        return value or None
    if column[0] == "t" and value is not None:
        return EPOCH + dt.timedelta(microseconds=value)
    return float.fromhex(value) if column[0] == "f" and value is not None else value


def main():
    root = pathlib.Path(sys.argv[1])
    outputs = sorted(p.name for p in root.iterdir() if (p / "csv").is_dir())
    base, wrong, compared = {}, [], 0

    def compare(output, name, tells, columns, values):
        nonlocal compared
        compared += 1
        wanted, found = base[output], rows(columns, values)
        if not tells:
            wanted, found = without_empty(wanted), without_empty(found)
        if wanted[0] != found[0]:
            wrong.append(f"{output}: {name}: columns {found[0]} instead of {wanted[0]}")
        differ = [(a, b) for a, b in zip(wanted[1], found[1]) if a != b]
        if differ or len(wanted[1]) != len(found[1]):
            wrong.append(f"{output}: {name}: {len(found[1])} rows instead of {len(wanted[1])}; {differ[:2]}")

    for output in outputs:
        parquet, csv = root / output / "parquet", root / output / "csv"
        table = pq.read_table(parquet)
        base[output] = rows(table.column_names, [tuple(row.values()) for row in table.to_pylist()])
        for name, tells, read in readers(parquet, csv, table.column_names):
            try:
                compare(output, name, tells, *read())
            except Exception as error:
                wrong.append(f"{output}: {name}: {type(error).__name__}: {str(error)[:300]}")
        # Without any option: the header is found, and no row is lost, whatever the rows are.
        columns, found = duck(f"select * from read_csv('{csv}/**/*.csv')")
        if columns != base[output][0] or len(found) != len(base[output][1]):
            wrong.append(f"{output}: duckdb's sniffer: {len(found)} rows of {columns}")
    try:
        import pyspark
    except ImportError:
        print("left out: Spark (the package pyspark is missing)")
    else:
        for output, name, columns, values in spark(root, outputs, base):
            compare(output, name, True, columns, values)
    print(f"{compared} readings compared, {len(wrong)} differ")
    sys.exit("\n".join(wrong) or 0)


main()

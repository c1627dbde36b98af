"""The reference job as its reference does it: a query per output, and each reads the topic.

job.py BOOTSTRAP TOPIC OUTPUT WORK: reads what is in the topic now, and ends.
"""

import sys

from clickstream import events
from pyspark.sql import SparkSession
from pyspark.sql import functions as f


def pages(rows):
    return (
        rows.groupBy(f.window("event_ts", "1 minute").alias("w"), "page")
        .agg(
            f.count("*").alias("events"),
            f.approx_count_distinct("user_id").alias("users"),
            f.approx_count_distinct("session_id").alias("sessions"),
            f.sum((f.col("event_type") == "purchase").cast("long")).alias("purchases"),
            f.sum("revenue").alias("revenue"),
        )
        .select("w.start", "w.end", "page", "events", "users", "sessions", "purchases", "revenue")
        .withColumnsRenamed({"start": "window_start", "end": "window_end"})
    )


def geo(rows):
    return (
        rows.groupBy(f.window("event_ts", "1 minute").alias("w"), "country", "browser")
        .agg(f.count("*").alias("events"))
        .select("w.start", "w.end", "country", "browser", "events")
        .withColumnsRenamed({"start": "window_start", "end": "window_end"})
    )


def sessions(rows):
    return (
        rows.groupBy(f.session_window("event_ts", "30 seconds").alias("w"), "user_id")
        .agg(
            f.count("*").alias("events"),
            # Exact, as in wasmill; a stream has no count(distinct).
            f.size(f.collect_set("page")).alias("pages"),
            f.sum("revenue").alias("revenue"),
        )
        .select("w.start", "w.end", "user_id", "events", "pages", "revenue")
        .withColumnsRenamed({"start": "session_start", "end": "session_end"})
    )


def write(rows, name, output, work, formats):
    """Starts the query that writes an output: once evaluated, into every format."""

    def batch(frame, _):
        # The reference asks frame.rdd.isEmpty() before it keeps the rows, which reads the batch a second time.
        frame = frame.persist() if len(formats) > 1 else frame
        if len(formats) > 1 and frame.isEmpty():
            return
        for form in formats:
            options = {"header": True} if form == "csv" else {}
            frame.write.mode("append").options(**options).format(form).save(f"{output}/{name}/{form}")
        frame.unpersist()

    return (
        rows.writeStream.queryName(name)
        .foreachBatch(batch)
        .option("checkpointLocation", f"{work}/checkpoints/{name}")
        .outputMode("append")
        # All there is in one batch: the fastest that Spark has for a backlog.
        .trigger(availableNow=True)
        .start()
    )


def main(bootstrap, topic, output, work):
    spark = SparkSession.builder.appName("clickstream").getOrCreate()
    rows = events(spark, bootstrap, topic)
    timed = rows.withWatermark("event_ts", "10 seconds")
    queries = [
        write(rows, "events_raw", output, work, ["parquet"]),
        write(pages(timed), "page_metrics", output, work, ["parquet", "csv"]),
        write(geo(timed), "geo_metrics", output, work, ["parquet", "csv"]),
        write(sessions(timed), "sessions", output, work, ["parquet", "csv"]),
    ]
    for query in queries:
        query.awaitTermination()
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])

-- The reference job. ${bootstrap}, ${topic} and ${output} are the arguments of the run.

CREATE TABLE events (
    event_id STRING,
    event_time TIMESTAMP_LTZ(3),
    user_id STRING,
    session_id STRING,
    event_type STRING,
    page STRING,
    referrer STRING,
    device STRING,
    browser STRING,
    country STRING,
    campaign STRING,
    revenue DOUBLE,
    `topic` STRING METADATA VIRTUAL,
    `partition` INT METADATA VIRTUAL,
    `offset` BIGINT METADATA VIRTUAL,
    broker_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    event_ts AS COALESCE(event_time, broker_time),
    -- In the source: a watermark per partition, of which the slowest counts.
    WATERMARK FOR event_ts AS event_ts - INTERVAL '10' SECOND
) WITH (
    'connector' = 'kafka',
    'properties.bootstrap.servers' = '${bootstrap}',
    'properties.group.id' = 'flink-clickstream',
    'topic' = '${topic}',
    'scan.startup.mode' = 'earliest-offset',
    -- The run ends with what is in the topic now.
    'scan.bounded.mode' = 'latest-offset',
    'format' = 'json',
    -- What cannot be read is null, a bad time as well as a malformed record.
    'json.ignore-parse-errors' = 'true',
    'json.timestamp-format.standard' = 'ISO-8601'
);

-- What wasmill's parser asks for. Flink's reader is laxer with types and keys told twice: that event_id is there, too,
-- sets aside just the records that the generator made malformed.
CREATE TEMPORARY VIEW parsed AS
SELECT * FROM events
WHERE event_id IS NOT NULL AND user_id IS NOT NULL AND event_type IS NOT NULL AND page IS NOT NULL;

CREATE TABLE events_raw (
    event_id STRING, event_time TIMESTAMP_LTZ(3), user_id STRING, session_id STRING, event_type STRING, page STRING,
    referrer STRING, device STRING, browser STRING, country STRING, campaign STRING, revenue DOUBLE,
    event_ts TIMESTAMP_LTZ(3), `topic` STRING, `partition` INT, `offset` BIGINT
) WITH (
    'connector' = 'filesystem', 'path' = '${output}/events_raw/parquet', 'format' = 'parquet',
    'parquet.compression' = 'ZSTD', 'parquet.compression.codec.zstd.level' = '1', 'parquet.utc-timezone' = 'true'
);

CREATE TABLE page_metrics (
    window_start TIMESTAMP(3), window_end TIMESTAMP(3), page STRING, events BIGINT, users BIGINT, sessions BIGINT,
    purchases BIGINT, revenue DOUBLE
) WITH (
    'connector' = 'filesystem', 'path' = '${output}/page_metrics/parquet', 'format' = 'parquet',
    'parquet.compression' = 'ZSTD', 'parquet.utc-timezone' = 'true'
);

CREATE TABLE page_metrics_csv WITH (
    'connector' = 'filesystem', 'path' = '${output}/page_metrics/csv', 'format' = 'csv'
) LIKE page_metrics (EXCLUDING OPTIONS);

CREATE TABLE geo_metrics (
    window_start TIMESTAMP(3), window_end TIMESTAMP(3), country STRING, browser STRING, events BIGINT
) WITH (
    'connector' = 'filesystem', 'path' = '${output}/geo_metrics/parquet', 'format' = 'parquet',
    'parquet.compression' = 'ZSTD', 'parquet.utc-timezone' = 'true'
);

CREATE TABLE geo_metrics_csv WITH (
    'connector' = 'filesystem', 'path' = '${output}/geo_metrics/csv', 'format' = 'csv'
) LIKE geo_metrics (EXCLUDING OPTIONS);

CREATE TABLE sessions (
    session_start TIMESTAMP(3), session_end TIMESTAMP(3), user_id STRING, events BIGINT, pages BIGINT, revenue DOUBLE
) WITH (
    'connector' = 'filesystem', 'path' = '${output}/sessions/parquet', 'format' = 'parquet',
    'parquet.compression' = 'ZSTD', 'parquet.utc-timezone' = 'true'
);

CREATE TABLE sessions_csv WITH (
    'connector' = 'filesystem', 'path' = '${output}/sessions/csv', 'format' = 'csv'
) LIKE sessions (EXCLUDING OPTIONS);

-- A stream has no approximate distinct count in Flink SQL: these are exact.
CREATE TEMPORARY VIEW pages AS
SELECT window_start, window_end, page, COUNT(*) AS events, COUNT(DISTINCT user_id) AS users,
    COUNT(DISTINCT session_id) AS sessions, COUNT(*) FILTER (WHERE event_type = 'purchase') AS purchases,
    SUM(revenue) AS revenue
FROM TABLE(TUMBLE(TABLE parsed, DESCRIPTOR(event_ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, page;

CREATE TEMPORARY VIEW geo AS
SELECT window_start, window_end, country, browser, COUNT(*) AS events
FROM TABLE(TUMBLE(TABLE parsed, DESCRIPTOR(event_ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, country, browser;

CREATE TEMPORARY VIEW visits AS
SELECT window_start, window_end, user_id, COUNT(*) AS events, COUNT(DISTINCT page) AS pages, SUM(revenue) AS revenue
FROM TABLE(SESSION(TABLE parsed PARTITION BY user_id, DESCRIPTOR(event_ts), INTERVAL '30' SECOND))
GROUP BY window_start, window_end, user_id;

INSERT INTO events_raw
SELECT event_id, event_time, user_id, session_id, event_type, page, referrer, device, browser, country, campaign,
    revenue, event_ts, `topic`, `partition`, `offset`
FROM parsed;

INSERT INTO page_metrics SELECT * FROM pages;
INSERT INTO page_metrics_csv SELECT * FROM pages;
INSERT INTO geo_metrics SELECT * FROM geo;
INSERT INTO geo_metrics_csv SELECT * FROM geo;
INSERT INTO sessions SELECT * FROM visits;
INSERT INTO sessions_csv SELECT * FROM visits;

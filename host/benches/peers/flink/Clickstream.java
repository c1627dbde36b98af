import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.StatementSet;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;

/**
 * The reference job in Flink SQL, in one JVM with two slots.
 *
 * <p>{@code Clickstream BOOTSTRAP TOPIC OUTPUT WORK JOB.sql}: reads what is in the topic now, and ends. The statements
 * of the file are separated by a semicolon at the end of a line; its inserts run as one job.
 */
public final class Clickstream {
    private Clickstream() {}

    /** The settings of the cluster within this process. */
    private static Configuration settings(String work) {
        return Configuration.fromMap(Map.ofEntries(
                Map.entry("parallelism.default", "2"),
                Map.entry("taskmanager.numberOfTaskSlots", "2"),
                // Buffers of the network and of the local aggregation: as in a cluster, not as in a test.
                Map.entry("taskmanager.memory.network.min", "256m"),
                Map.entry("taskmanager.memory.network.max", "256m"),
                Map.entry("taskmanager.memory.managed.size", "512m"),
                // Exactly once, with a checkpoint as often as wasmill's.
                Map.entry("execution.checkpointing.interval", "10s"),
                Map.entry("execution.checkpointing.mode", "EXACTLY_ONCE"),
                Map.entry("execution.checkpointing.storage", "filesystem"),
                Map.entry("execution.checkpointing.dir", Path.of(work, "checkpoints").toUri().toString()),
                Map.entry("io.tmp.dirs", work),
                // The state is small: on the heap it is several times faster than in RocksDB.
                Map.entry("state.backend.type", "hashmap"),
                // Operators that are chained hand over the row instead of a copy.
                Map.entry("pipeline.object-reuse", "true"),
                Map.entry("table.local-time-zone", "UTC"),
                // The source, and an aggregate that two files are made of, run once.
                Map.entry("table.optimizer.reuse-sub-plan-enabled", "true"),
                Map.entry("table.optimizer.reuse-source-enabled", "true"),
                // Sums of a bundle of rows at a time, and those of a subtask before rows are exchanged.
                Map.entry("table.exec.mini-batch.enabled", "true"),
                Map.entry("table.exec.mini-batch.allow-latency", "1s"),
                Map.entry("table.exec.mini-batch.size", "20000"),
                Map.entry("table.optimizer.agg-phase-strategy", "AUTO")));
    }

    /** What stands for the job's arguments in the statements. */
    private static String filled(String sql, String bootstrap, String topic, String output) {
        return sql.replace("${bootstrap}", bootstrap)
                .replace("${topic}", topic)
                .replace("${output}", Path.of(output).toUri().toString());
    }

    public static void main(String[] arguments) throws Exception {
        String work = arguments[3];
        String sql = filled(Files.readString(Path.of(arguments[4])), arguments[0], arguments[1], arguments[2]);
        var tables = StreamTableEnvironment.create(StreamExecutionEnvironment.getExecutionEnvironment(settings(work)));
        StatementSet inserts = tables.createStatementSet();
        for (String statement : sql.split(";\\s*\n")) {
            String code = statement.replaceAll("(?m)^\\s*--.*$", "").strip();
            if (code.startsWith("INSERT")) {
                inserts.addInsertSql(code);
            } else if (!code.isEmpty()) {
                tables.executeSql(code);
            }
        }
        if (System.getenv("EXPLAIN") != null) {
            System.err.println(inserts.explain());
        }
        inserts.execute().await();
    }
}

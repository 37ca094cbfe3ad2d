// A transformation for Kafka Connect: an event, as the row that a table of the lake has of it.
//
// `install.py` compiles it. It comes after a converter that reads Avro, and before a sink. Kafka
// Connect has no type for times in microseconds: converters give such a field as a number, and the
// Iceberg sink takes a number as milliseconds. So times become texts here, which it reads exactly.

package tapewire;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.common.config.AbstractConfig;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigException;
import org.apache.kafka.connect.data.Field;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.header.Header;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.transforms.Transformation;

/** Drops tombstones and records of other classes; all others become rows. */
public final class EventRow implements Transformation<SinkRecord> {
    private static final String RECORD = "record";
    private static final String TIMES = "times";
    private static final String DEFAULTS = "defaults";
    private static final String EPOCH = "epoch";
    private static final String TENANT_HEADER = "tenant";
    private static final int DATE_CHARS = 10;

    private String record;
    private Set<String> times;
    /** Values of fields that older versions lack, by the path of the record and the field. */
    private Map<String, Map<String, Object>> defaults;
    private String epoch;

    @Override
    public ConfigDef config() {
        return new ConfigDef()
                .define(
                        RECORD,
                        ConfigDef.Type.STRING,
                        ConfigDef.Importance.HIGH,
                        "The full name of the Avro record; others in the same topic are no rows.")
                .define(
                        TIMES,
                        ConfigDef.Type.LIST,
                        "",
                        ConfigDef.Importance.HIGH,
                        "Fields that hold microseconds since 1970, with a dot before nested ones.")
                .define(
                        DEFAULTS,
                        ConfigDef.Type.STRING,
                        "{}",
                        ConfigDef.Importance.MEDIUM,
                        "A JSON object: values of fields that older versions of the record lack.")
                .define(
                        EPOCH,
                        ConfigDef.Type.STRING,
                        "",
                        ConfigDef.Importance.LOW,
                        "The topic's id, for the column _epoch.");
    }

    @Override
    public void configure(Map<String, ?> settings) {
        var given = new AbstractConfig(config(), settings, false);
        record = given.getString(RECORD);
        times = Set.copyOf(given.getList(TIMES));
        defaults = defaults(given.getString(DEFAULTS));
        epoch = given.getString(EPOCH);
    }

    private static Map<String, Map<String, Object>> defaults(String json) {
        Map<String, Map<String, Object>> found = new HashMap<>();
        try {
            Map<?, ?> given = new ObjectMapper().readValue(json, Map.class);
            given.forEach(
                    (path, value) -> {
                        String name = path.toString();
                        int dot = name.lastIndexOf('.');
                        found.computeIfAbsent(name.substring(0, dot + 1), key -> new HashMap<>())
                                .put(name.substring(dot + 1), value);
                    });
        } catch (JsonProcessingException error) {
            throw new ConfigException(DEFAULTS, json, "it is no JSON object");
        }
        return found;
    }

    @Override
    public SinkRecord apply(SinkRecord event) {
        if (!(event.value() instanceof Struct) || !record.equals(event.valueSchema().name())) {
            return null;
        }
        Map<String, Object> row = row((Struct) event.value(), "");
        String ingested = text(event.timestamp() * 1_000);
        row.put("_topic", event.originalTopic());
        row.put("_partition", event.originalKafkaPartition());
        row.put("_offset", event.originalKafkaOffset());
        row.put("_ingested_at", ingested);
        row.put("_day", ingested.substring(0, DATE_CHARS));
        row.put("_epoch", epoch.isEmpty() ? null : epoch);
        row.put("_tenant", tenant(event));
        return event.newRecord(
                event.topic(),
                event.kafkaPartition(),
                event.keySchema(),
                event.key(),
                null,
                row,
                event.timestamp());
    }

    /** Return the tenant, which is a header in UTF-8; converters give it as bytes or as a text. */
    private static String tenant(SinkRecord event) {
        Header header = event.headers().lastWithName(TENANT_HEADER);
        if (header == null || header.value() == null) {
            return null;
        }
        return header.value() instanceof byte[] bytes
                ? new String(bytes, StandardCharsets.UTF_8)
                : header.value().toString();
    }

    private Map<String, Object> row(Struct struct, String path) {
        Map<String, Object> row = new HashMap<>();
        for (Field field : struct.schema().fields()) {
            row.put(field.name(), value(struct.get(field), path + field.name()));
        }
        defaults.getOrDefault(path, Map.of())
                .forEach(
                        (name, value) -> {
                            if (!row.containsKey(name)) {
                                row.put(name, value(value, path + name));
                            }
                        });
        return row;
    }

    private Object value(Object value, String path) {
        if (value instanceof Struct struct) {
            return row(struct, path + ".");
        }
        if (value instanceof List<?> list) {
            List<Object> values = new ArrayList<>(list.size());
            list.forEach(element -> values.add(value(element, path)));
            return values;
        }
        if (value instanceof Map<?, ?> map) {
            Map<Object, Object> values = new HashMap<>();
            map.forEach((key, element) -> values.put(key, value(element, path)));
            return values;
        }
        return value instanceof Number time && times.contains(path) ? text(time.longValue()) : value;
    }

    private static String text(long microseconds) {
        return Instant.EPOCH.plus(microseconds, ChronoUnit.MICROS).toString();
    }

    @Override
    public void close() {}
}

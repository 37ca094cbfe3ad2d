// Reports a training and sends returns of a portfolio, with Kafka's Java client and Apache Avro.
//
// Usage: java --class-path "$(.venv/bin/python examples/12-java/class_path.py)" \
//            examples/12-java/Producer.java TASK_ID PORTFOLIO_ID
//
// It needs a JDK 17 or newer. In a project of your own, depend on org.apache.kafka:kafka-clients
// and org.apache.avro:avro, and copy the schemas that you write.

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.generic.GenericRecordBuilder;
import org.apache.avro.message.BinaryMessageEncoder;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.Utils;

public final class Producer {
    private static final Path SCHEMAS = Path.of(environment("TAPEWIRE_SCHEMAS", "schemas/avro"));
    private static final String PREFIX = environment("TAPEWIRE_TOPIC_PREFIX", "");
    private static final String SOURCE = "/examples/java";
    private static final int NAME_CHARS_MAX = 256;
    private static final int VALUE_BYTES_MAX = 1 << 20;

    private final KafkaProducer<byte[], byte[]> kafka;

    private Producer(KafkaProducer<byte[], byte[]> kafka) {
        this.kafka = kafka;
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Object> settings =
                Map.of(
                        "bootstrap.servers",
                        environment("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"),
                        // Both are the defaults; without them a record can be lost or written twice.
                        "acks",
                        "all",
                        "enable.idempotence",
                        true,
                        "compression.type",
                        "zstd",
                        "delivery.timeout.ms",
                        60_000);
        var serializer = new ByteArraySerializer();
        try (var kafka = new KafkaProducer<>(settings, serializer, serializer)) {
            var producer = new Producer(kafka);
            producer.reportTraining(arguments[0]);
            producer.sendReturns(arguments[1], 150);
        }
    }

    /** Report a training from its start to its end. */
    private void reportTraining(String taskId) throws Exception {
        Schema schema = schema("TrainingProgress", 3);
        String[] statuses = {"started", "running", "running", "running", "completed"};
        for (int step = 0; step < statuses.length; step++) {
            Instant now = Instant.now();
            GenericRecord event =
                    new GenericRecordBuilder(schema)
                            .set("task_id", name(taskId))
                            .set("progress", 25.0 * step)
                            .set("status", statuses[step])
                            .set("message", "epoch " + step)
                            .set("metrics", Map.of("loss", 1.0 / (step + 1)))
                            .set("event_time_us", microseconds(now))
                            .build();
            RecordMetadata written = send("training.events", null, taskId, event, now);
            System.out.printf("%s %s in partition %d%n", taskId, statuses[step], written.partition());
        }
    }

    /** Send daily returns of a portfolio with a standard deviation of 2 %, in one batch. */
    private void sendReturns(String portfolioId, int days) throws Exception {
        Instant today = Instant.now().truncatedTo(ChronoUnit.DAYS);
        var random = new Random(7);
        List<String> portfolios = new ArrayList<>();
        List<Long> times = new ArrayList<>();
        List<Double> values = new ArrayList<>();
        for (int day = days; day > 0; day--) {
            portfolios.add(name(portfolioId));
            times.add(microseconds(today.minus(day, ChronoUnit.DAYS)));
            values.add(random.nextGaussian() * 0.02);
        }
        GenericRecord batch =
                new GenericRecordBuilder(schema("ReturnBatch", 3))
                        .set("portfolio_ids", portfolios)
                        .set("times_us", times)
                        .set("values", values)
                        .build();
        // A batch has no key. All of its portfolios must have this partition.
        byte[] key = portfolioId.getBytes(StandardCharsets.UTF_8);
        int count = kafka.partitionsFor(PREFIX + "portfolio.returns").size();
        int partition = Utils.toPositive(Utils.murmur2(key)) % count;
        send("portfolio.returns", partition, null, batch, today);
        System.out.printf("%d returns of %s in partition %d%n", days, portfolioId, partition);
    }

    /** Send an event, and wait until Kafka has it. The default partitioner takes the key's partition. */
    private RecordMetadata send(
            String topic, Integer partition, String key, GenericRecord event, Instant time)
            throws IOException, InterruptedException {
        byte[] value = encoded(event);
        byte[] keyBytes = key == null ? null : key.getBytes(StandardCharsets.UTF_8);
        var record = new ProducerRecord<>(PREFIX + topic, partition, keyBytes, value);
        // A program that sends an event again after a crash must give it the same id.
        header(record, "ce_id", UUID.nameUUIDFromBytes(value).toString());
        header(record, "ce_type", "tapewire." + event.getSchema().getName());
        header(record, "ce_source", SOURCE);
        header(record, "ce_specversion", "1.0");
        header(record, "ce_time", time.toString());
        header(record, "ce_recordedtime", Instant.now().toString());
        try {
            return kafka.send(record).get();
        } catch (ExecutionException error) {
            String advice =
                    error.getCause() instanceof RetriableException
                            ? "Kafka did not answer within delivery.timeout.ms; send it again later"
                            : "Kafka will never take it; correct the record, the topic or the rights";
            throw new IOException(topic + ": " + error.getCause().getMessage() + ". " + advice, error);
        }
    }

    /** Return a record in Avro's single-object encoding: a marker, the fingerprint, the body. */
    private static byte[] encoded(GenericRecord event) throws IOException {
        ByteBuffer buffer =
                new BinaryMessageEncoder<GenericRecord>(GenericData.get(), event.getSchema())
                        .encode(event);
        byte[] value = new byte[buffer.remaining()];
        buffer.get(value);
        if (value.length > VALUE_BYTES_MAX) {
            throw new IllegalArgumentException(
                    value.length + " bytes are too many; a value has at most " + VALUE_BYTES_MAX);
        }
        return value;
    }

    /** Return a name; check here what would become a dead letter later. */
    private static String name(String text) {
        if (text.codePointCount(0, text.length()) > NAME_CHARS_MAX) {
            throw new IllegalArgumentException(
                    "a name has at most " + NAME_CHARS_MAX + " characters: " + text);
        }
        return text;
    }

    private static Schema schema(String record, int version) throws IOException {
        return new Schema.Parser().parse(SCHEMAS.resolve(record).resolve(version + ".avsc").toFile());
    }

    private static void header(ProducerRecord<byte[], byte[]> record, String name, String value) {
        record.headers().add(name, value.getBytes(StandardCharsets.UTF_8));
    }

    private static long microseconds(Instant time) {
        return ChronoUnit.MICROS.between(Instant.EPOCH, time);
    }

    private static String environment(String name, String otherwise) {
        String value = System.getenv(name);
        return value == null || value.isEmpty() ? otherwise : value;
    }
}

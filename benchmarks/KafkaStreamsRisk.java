import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The risk worker's work in Kafka Streams: one thread, exactly once, a store in memory with a log.
 *
 * <p>Every return gives historical VaR and ES at 95 and 99 %, is compared with the VaR before it,
 * and may raise an alert. A portfolio's window and exceptions are its state; the store's cache
 * writes the last state of each portfolio at each commit, and the last measure of each portfolio is
 * sent as often. What is left out: corrections and late returns, the tests of the model, tenants,
 * limits that change, dead letters, and the order of limits and returns.
 */
public final class KafkaStreamsRisk {
    private static final int WINDOW = 250;
    private static final int OBSERVATIONS_MIN = 100;
    private static final double HYSTERESIS = 0.1;
    private static final Duration COMMIT = Duration.ofMillis(200);
    private static final int HEAD_BYTES = 10; // Avro's marker and the schema's fingerprint
    private static final String STORE = "portfolios";

    private KafkaStreamsRisk() {}

    /** Runs until SIGTERM. Settings are those of the worker, from the environment. */
    public static void main(String[] arguments) throws IOException {
        Map<String, String> env = System.getenv();
        String prefix = env.get("TAPEWIRE_TOPIC_PREFIX");
        double limit = Double.parseDouble(env.get("TAPEWIRE_VAR_LIMIT"));
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, prefix + "streams");
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, env.get("KAFKA_BOOTSTRAP_SERVERS"));
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, COMMIT.toMillis());
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64L << 20);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, env.get("APP_DATADIR") + "/" + prefix);
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        settings.put(StreamsConfig.consumerPrefix("max.poll.records"), "2000");
        settings.put(StreamsConfig.producerPrefix("batch.size"), String.valueOf(1 << 19));

        Topology topology = new Topology();
        topology.addSource(
                "returns",
                Serdes.ByteArray().deserializer(),
                Serdes.ByteArray().deserializer(),
                prefix + "portfolio.returns");
        topology.addProcessor("risk", () -> new Risk(limit), "returns");
        topology.addStateStore(
                Stores.keyValueStoreBuilder(
                                Stores.inMemoryKeyValueStore(STORE),
                                Serdes.Bytes(),
                                Serdes.ByteArray())
                        .withCachingEnabled()
                        .withLoggingEnabled(Map.of("message.timestamp.type", "LogAppendTime")),
                "risk");
        for (String name : new String[] {"measures", "alerts"}) {
            topology.addSink(
                    name,
                    prefix + "risk." + name,
                    Serdes.ByteArray().serializer(),
                    Serdes.ByteArray().serializer(),
                    "risk");
        }
        KafkaStreams streams = new KafkaStreams(topology, settings);
        Path ready = Path.of(env.get("READY_FILE"));
        streams.setStateListener(
                (state, before) -> {
                    if (state == KafkaStreams.State.RUNNING) {
                        try {
                            Files.writeString(ready, "ready");
                        } catch (IOException error) {
                            throw new java.io.UncheckedIOException(error);
                        }
                    }
                });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    /** Measures the portfolios of one partition. */
    private static final class Risk implements Processor<byte[], byte[], byte[], byte[]> {
        private final double limit;
        private final Map<String, Portfolio> portfolios = new HashMap<>();
        private final Set<Portfolio> changed = new LinkedHashSet<>();
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<Bytes, byte[]> store;

        Risk(double limit) {
            this.limit = limit;
        }

        @Override
        public void init(ProcessorContext<byte[], byte[]> given) {
            context = given;
            store = context.getStateStore(STORE);
            try (var rows = store.all()) {
                rows.forEachRemaining(
                        row -> {
                            String id = new String(row.key.get(), StandardCharsets.UTF_8);
                            Portfolio portfolio = Portfolio.unpack(id, row.value);
                            portfolios.put(id, portfolio);
                            changed.add(portfolio); // its last measure may not have been sent
                        });
            }
            context.schedule(COMMIT, PunctuationType.WALL_CLOCK_TIME, this::sendMeasures);
        }

        @Override
        public void process(Record<byte[], byte[]> message) {
            ByteBuffer body = ByteBuffer.wrap(message.value()).order(java.nio.ByteOrder.LITTLE_ENDIAN);
            body.position(HEAD_BYTES);
            Batch batch = Batch.decode(body);
            Set<Portfolio> touched = new LinkedHashSet<>();
            for (int index = 0; index < batch.ids.length; index++) {
                Portfolio portfolio = portfolios.computeIfAbsent(batch.ids[index], Portfolio::new);
                if (portfolio.add(batch.timesUs[index], batch.values[index])) {
                    touched.add(portfolio);
                    if (portfolio.judge(limit)) {
                        context.forward(
                                new Record<>(portfolio.key, portfolio.alert(), message.timestamp()),
                                "alerts");
                    }
                }
            }
            for (Portfolio portfolio : touched) {
                store.put(Bytes.wrap(portfolio.key), portfolio.pack());
            }
            changed.addAll(touched);
        }

        private void sendMeasures(long nowMs) {
            for (Portfolio portfolio : changed) {
                context.forward(new Record<>(portfolio.key, portfolio.measure(), nowMs), "measures");
            }
            changed.clear();
        }
    }

    /** The columns of a batch of returns, as Avro has them. */
    private static final class Batch {
        String[] ids = new String[0];
        long[] timesUs = new long[0];
        double[] values = new double[0];

        static Batch decode(ByteBuffer body) {
            Batch batch = new Batch();
            if (number(body) != 0) {
                throw new IllegalArgumentException("returns as records are of an earlier version");
            }
            for (int count = (int) number(body); count != 0; count = (int) number(body)) {
                int start = batch.ids.length;
                batch.ids = Arrays.copyOf(batch.ids, start + count);
                for (int index = start; index < start + count; index++) {
                    int size = (int) number(body);
                    batch.ids[index] =
                            new String(body.array(), body.position(), size, StandardCharsets.UTF_8);
                    body.position(body.position() + size);
                }
            }
            for (int count = (int) number(body); count != 0; count = (int) number(body)) {
                int start = batch.timesUs.length;
                batch.timesUs = Arrays.copyOf(batch.timesUs, start + count);
                for (int index = start; index < start + count; index++) {
                    batch.timesUs[index] = number(body);
                }
            }
            for (int count = (int) number(body); count != 0; count = (int) number(body)) {
                int start = batch.values.length;
                batch.values = Arrays.copyOf(batch.values, start + count);
                for (int index = start; index < start + count; index++) {
                    batch.values[index] = body.getDouble();
                }
            }
            return batch;
        }

        /** Reads a number in Avro's variable length. */
        private static long number(ByteBuffer body) {
            long read = 0;
            for (int shift = 0; ; shift += 7) {
                byte next = body.get();
                read |= (next & 0x7FL) << shift;
                if (next >= 0) {
                    return (read >>> 1) ^ -(read & 1);
                }
            }
        }
    }

    /** The last returns of a portfolio, its measures, and its exceptions. */
    private static final class Portfolio {
        final byte[] key;
        private final long[] timesUs = new long[WINDOW];
        private final double[] values = new double[WINDOW];
        private final double[] ascending = new double[WINDOW];
        private final byte[] exceptions = new byte[WINDOW];
        private final double[] risk = new double[4]; // VaR and ES at 95 %, then at 99 %
        private long accepted;
        private int count;
        private int next; // the place of the oldest return, which the next one replaces
        private boolean isMeasured;
        private boolean isOver;

        Portfolio(String id) {
            key = id.getBytes(StandardCharsets.UTF_8);
        }

        /** Adds a return that is newer than all others; returns whether it is. */
        boolean add(long timeUs, double value) {
            int newest = (next + WINDOW - 1) % WINDOW;
            if (!Double.isFinite(value) || (count > 0 && timeUs <= timesUs[newest])) {
                return false;
            }
            byte exceeded = 0;
            if (isMeasured) {
                exceeded = (byte) ((-value > risk[0] ? 1 : 0) | (-value > risk[2] ? 2 : 0));
            }
            double lowestMoved = Double.NEGATIVE_INFINITY;
            if (count == WINDOW) {
                double oldest = values[next];
                int at = Arrays.binarySearch(ascending, oldest);
                System.arraycopy(ascending, at + 1, ascending, at, WINDOW - at - 1);
                count--;
                lowestMoved = Math.min(value, oldest);
            }
            int at = Arrays.binarySearch(ascending, 0, count, value);
            at = at < 0 ? -at - 1 : at;
            System.arraycopy(ascending, at, ascending, at + 1, count - at);
            ascending[at] = value;
            count++;
            timesUs[next] = timeUs;
            values[next] = value;
            exceptions[next] = exceeded;
            next = (next + 1) % WINDOW;
            accepted++;
            if (count >= OBSERVATIONS_MIN && !(isMeasured && lowestMoved > -risk[0])) {
                measure(0.95, 0);
                measure(0.99, 2);
                isMeasured = true;
            }
            return true;
        }

        private void measure(double confidence, int into) {
            int worse = count - (int) Math.ceil(count * confidence - 1e-9);
            double scenario = ascending[worse];
            double excess = worse * scenario;
            for (int index = 0; index < worse; index++) {
                excess -= ascending[index];
            }
            risk[into] = -scenario;
            risk[into + 1] = -scenario + Math.max(excess, 0) / (count * (1 - confidence));
        }

        /** Judges the VaR at 95 %; returns whether an alert begins or ends. */
        boolean judge(double limit) {
            boolean before = isOver;
            if (isMeasured) {
                isOver = risk[0] > (isOver ? limit * (1 - HYSTERESIS) : limit);
            }
            return before != isOver;
        }

        byte[] alert() {
            return ByteBuffer.allocate(17).put((byte) (isOver ? 1 : 0)).putLong(accepted)
                    .putDouble(risk[0]).array();
        }

        byte[] measure() {
            int[] days = new int[3];
            for (int index = 0; index < count; index++) {
                days[1] += exceptions[index] & 1;
                days[2] += exceptions[index] >> 1;
            }
            ByteBuffer packed = ByteBuffer.allocate(64);
            packed.putLong(accepted).putLong(timesUs[(next + WINDOW - 1) % WINDOW]).putInt(count);
            for (double number : risk) {
                packed.putDouble(number);
            }
            return packed.putInt(days[1]).putInt(days[2]).array();
        }

        byte[] pack() {
            ByteBuffer packed = ByteBuffer.allocate(8 + 4 + 4 + 1 + 1 + 17 * WINDOW + 32);
            packed.putLong(accepted).putInt(count).putInt(next);
            packed.put((byte) (isMeasured ? 1 : 0)).put((byte) (isOver ? 1 : 0));
            packed.asLongBuffer().put(timesUs);
            packed.position(packed.position() + 8 * WINDOW);
            packed.asDoubleBuffer().put(values);
            packed.position(packed.position() + 8 * WINDOW);
            packed.put(exceptions);
            packed.asDoubleBuffer().put(risk);
            return packed.array();
        }

        static Portfolio unpack(String id, byte[] row) {
            Portfolio portfolio = new Portfolio(id);
            ByteBuffer packed = ByteBuffer.wrap(row);
            portfolio.accepted = packed.getLong();
            portfolio.count = packed.getInt();
            portfolio.next = packed.getInt();
            portfolio.isMeasured = packed.get() == 1;
            portfolio.isOver = packed.get() == 1;
            packed.asLongBuffer().get(portfolio.timesUs);
            packed.position(packed.position() + 8 * WINDOW);
            packed.asDoubleBuffer().get(portfolio.values);
            packed.position(packed.position() + 8 * WINDOW);
            packed.get(portfolio.exceptions);
            packed.asDoubleBuffer().get(portfolio.risk);
            System.arraycopy(portfolio.values, 0, portfolio.ascending, 0, portfolio.count);
            Arrays.sort(portfolio.ascending, 0, portfolio.count);
            return portfolio;
        }
    }
}

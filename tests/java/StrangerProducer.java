// Writes the records that standard input names, one a line, and waits for each.
//
// Usage: java StrangerProducer SERVERS
// A line: CODEC none|commit|abort TOPIC PARTITION KEY VALUE; - for no partition, key or value, and
// Base64 for key and value.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class StrangerProducer {
    private static final String NONE = "-";

    public static void main(String[] arguments) throws Exception {
        var producers = new HashMap<String, KafkaProducer<byte[], byte[]>>();
        var lines = new BufferedReader(new InputStreamReader(System.in));
        int count = 0;
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ");
            boolean isTransaction = !words[1].equals("none");
            var producer =
                    producers.computeIfAbsent(
                            words[0] + isTransaction,
                            name -> open(arguments[0], words[0], isTransaction));
            Integer partition = words[3].equals(NONE) ? null : Integer.valueOf(words[3]);
            var record =
                    new ProducerRecord<>(words[2], partition, bytes(words[4]), bytes(words[5]));
            if (isTransaction) {
                producer.beginTransaction();
            }
            producer.send(record).get();
            if (words[1].equals("commit")) {
                producer.commitTransaction();
            } else if (isTransaction) {
                producer.abortTransaction();
            }
            count++;
        }
        producers.values().forEach(KafkaProducer::close);
        System.out.println(count);
    }

    private static KafkaProducer<byte[], byte[]> open(
            String servers, String codec, boolean isTransaction) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", servers);
        settings.put("compression.type", codec);
        settings.put("max.request.size", 4_000_000);
        settings.put("buffer.memory", 8_000_000);
        if (isTransaction) {
            settings.put("transactional.id", "stranger-" + codec + "-" + System.nanoTime());
        }
        var serializer = new ByteArraySerializer();
        var producer = new KafkaProducer<>(settings, serializer, serializer);
        if (isTransaction) {
            producer.initTransactions();
        }
        return producer;
    }

    private static byte[] bytes(String text) {
        return text.equals(NONE) ? null : Base64.getDecoder().decode(text);
    }
}

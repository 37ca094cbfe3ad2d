// Decodes values in Confluent's framing by the schemas of a registry, with Apache Avro's reader: a
// line of hexadecimal digits each on standard input, and a line of JSON each on standard output.
//
// Usage: java ConfluentReader REGISTRY_URL

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.ByteBuffer;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;

public final class ConfluentReader {
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        Map<Integer, Schema> schemas = new HashMap<>();
        var lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            ByteBuffer value = ByteBuffer.wrap(HexFormat.of().parseHex(line));
            if (value.get() != 0) {
                throw new IllegalArgumentException("no zero byte is at the start: " + line);
            }
            int id = value.getInt();
            Schema schema = schemas.get(id);
            if (schema == null) {
                schema = schema(arguments[0], id);
                schemas.put(id, schema);
            }
            var decoder =
                    DecoderFactory.get()
                            .binaryDecoder(value.array(), value.position(), value.remaining(), null);
            GenericRecord event = new GenericDatumReader<GenericRecord>(schema).read(null, decoder);
            if (!decoder.isEnd()) {
                throw new IllegalArgumentException("bytes follow the record: " + line);
            }
            System.out.println(event);
        }
    }

    private static Schema schema(String registry, int id) throws IOException {
        try (var answer = URI.create(registry + "/schemas/ids/" + id).toURL().openStream()) {
            return new Schema.Parser().parse(JSON.readTree(answer).get("schema").asText());
        }
    }
}

// Follows a durable stream to its end and prints each message: node reader.mjs URL MODE
import { stream } from "@durable-streams/client";

const [url, live] = process.argv.slice(2);
const answer = await stream({ url, offset: "-1", live });
for await (const item of answer.jsonStream()) {
  console.log(JSON.stringify(item));
}

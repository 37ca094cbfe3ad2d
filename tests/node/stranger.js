// Writes the records that standard input names, one a line, by the client's own partitioner.
//
// Usage: node stranger.js SERVERS
// A line: CODEC none TOPIC PARTITION KEY VALUE; - for no partition, key or value, and Base64 for
// key and value.

import { createInterface } from 'node:readline'
import { ProduceAcks, Producer } from '@platformatic/kafka'

const NONE = '-'
const producer = new Producer({
  clientId: 'stranger',
  bootstrapBrokers: process.argv[2].split(','),
  acks: ProduceAcks.ALL,
})
const bytes = (text) => (text === NONE ? undefined : Buffer.from(text, 'base64'))
let count = 0
for await (const line of createInterface({ input: process.stdin })) {
  const [codec, , topic, partition, key, value] = line.split(' ')
  const message = {
    topic,
    key: bytes(key),
    value: bytes(value),
    ...(partition === NONE ? {} : { partition: Number(partition) }),
  }
  await producer.send({ messages: [message], ...(codec === 'none' ? {} : { compression: codec }) })
  count += 1
}
await producer.close()
console.log(count)

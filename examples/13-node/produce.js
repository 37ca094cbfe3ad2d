// Reports a training and sends returns of a portfolio, from Node 24 or newer.
//
// Usage: npm ci --prefix examples/13-node
//        node examples/13-node/produce.js TASK_ID PORTFOLIO_ID

import { createHash } from 'node:crypto'
import {
  compatibilityPartitioner,
  findErrorBy,
  ProduceAcks,
  Producer,
  stringSerializers,
} from '@platformatic/kafka'
import { encoder } from './avro.js'

const environment = process.env
const SERVERS = environment.KAFKA_BOOTSTRAP_SERVERS || 'localhost:9092'
const PREFIX = environment.TAPEWIRE_TOPIC_PREFIX || ''
const SCHEMAS = environment.TAPEWIRE_SCHEMAS || 'schemas/avro'
const NAME_CHARS_MAX = 256
const DAY_MS = 86_400_000

const producer = new Producer({
  clientId: 'example-node',
  bootstrapBrokers: SERVERS.split(','),
  serializers: { ...stringSerializers, value: (bytes) => bytes },
  idempotent: true,
  acks: ProduceAcks.ALL,
  compression: 'gzip',
  // Not the default one, which puts half of all keys into other partitions than Kafka's own client.
  partitioner: compatibilityPartitioner,
})

/** Send an event, and wait until Kafka has it; return the partition. */
async function send({ topic, record, key, partition, value, timeMs }) {
  const headers = {
    // A program that sends an event again after a crash must give it the same id.
    ce_id: createHash('sha256').update(value).digest('hex'),
    ce_type: `tapewire.${record}`,
    ce_source: '/examples/node',
    ce_specversion: '1.0',
    ce_time: new Date(timeMs).toISOString(),
    ce_recordedtime: new Date().toISOString(),
  }
  try {
    const sent = await producer.send({ messages: [{ topic: PREFIX + topic, key, partition, value, headers }] })
    return sent.offsets[0].partition
  } catch (error) {
    const advice = findErrorBy(error, 'canRetry', true)
      ? 'Kafka did not answer; send it again later'
      : 'Kafka will never take it; correct the record, the topic or the rights'
    throw new Error(`${topic}: ${error.message} ${advice}`, { cause: error })
  }
}

/** Report a training from its start to its end. */
async function reportTraining(taskId) {
  const encode = encoder(`${SCHEMAS}/TrainingProgress/3.avsc`)
  const statuses = ['started', 'running', 'running', 'running', 'completed']
  for (const [step, status] of statuses.entries()) {
    const timeMs = Date.now()
    const value = encode({
      task_id: name(taskId),
      progress: 25 * step,
      status,
      message: `epoch ${step}`,
      metrics: { loss: 1 / (step + 1) },
      event_time_us: timeMs * 1000,
    })
    const partition = await send({ topic: 'training.events', record: 'TrainingProgress', key: taskId, value, timeMs })
    console.log(`${taskId} ${status} in partition ${partition}`)
  }
}

/** Send daily returns of a portfolio with a standard deviation of 2 %, in one batch. */
async function sendReturns(portfolioId, days) {
  const encode = encoder(`${SCHEMAS}/ReturnBatch/3.avsc`)
  const timeMs = Math.floor(Date.now() / DAY_MS) * DAY_MS
  const numbers = Array.from({ length: days }, (_, day) => day)
  const value = encode({
    portfolio_ids: numbers.map(() => name(portfolioId)),
    times_us: numbers.map((day) => (timeMs - (days - day) * DAY_MS) * 1000),
    values: numbers.map(gaussian),
  })
  // A batch has no key. All of its portfolios must have this partition.
  const topic = PREFIX + 'portfolio.returns'
  const { topics } = await producer.metadata({ topics: [topic] })
  const hash = compatibilityPartitioner(undefined, Buffer.from(portfolioId))
  const partition = hash % topics.get(topic).partitionsCount
  await send({ topic: 'portfolio.returns', record: 'ReturnBatch', partition, value, timeMs })
  console.log(`${days} returns of ${portfolioId} in partition ${partition}`)
}

/** Return a name; check here what would become a dead letter later. */
function name(text) {
  if ([...text].length > NAME_CHARS_MAX) {
    throw new RangeError(`a name has at most ${NAME_CHARS_MAX} characters: ${text}`)
  }
  return text
}

function gaussian() {
  return 0.02 * Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random())
}

const [taskId, portfolioId] = process.argv.slice(2)
try {
  await reportTraining(taskId)
  await sendReturns(portfolioId, 150)
} finally {
  await producer.close()
}

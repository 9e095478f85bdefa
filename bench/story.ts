/**
 * One process of the story: it takes contributions from a RabbitMQ queue and adds each to a total in Redis, until
 * nothing has come for a while.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { setTimeout } from 'node:timers/promises';
import { LockManager } from 'leasehold';
import { type BatchMessage, CONSUMER_CHANNELS, consume as consumeKeyed } from 'leasehold/consumer';
import { partitioned, rabbitmq } from 'leasehold/rabbitmq';
import { redis, redisState } from 'leasehold/redis';
import { type Contender, connect, NO_LOCK, OURS, openContender } from './contenders.ts';
import type { Consume, ConsumeResult } from './jobs.ts';

export interface Contribution {
  readonly account: string;
  readonly amount: number;
}

/** So long after the last message nothing comes any more. */
const IDLE_MS = 1_500;
const POLL_MS = 50;

interface Progress {
  count: number;
  firstAtMs: number;
  lastAtMs: number;
}

export async function consume(job: Consume): Promise<ConsumeResult> {
  if (job.contender.package === OURS) return consumeOurs(job);
  return consumePlain(job);
}

/** Each partition has a prefetch of its own, and each of two processes reads half of them. */
function placeOf({ queue, prefetch, partitions }: Consume) {
  if (partitions === 0) return { queue, prefetch };
  return {
    queue: partitioned(queue, partitions),
    prefetch: Math.ceil((2 * prefetch) / partitions),
  };
}

async function consumeOurs(job: Consume): Promise<ConsumeResult> {
  const client = connect(job.port);
  const locks = new LockManager({ store: redis(client) });
  const progress: Progress = { count: 0, firstAtMs: 0, lastAtMs: 0 };
  const worker = consumeKeyed<Contribution, number>({
    source: rabbitmq({ url: job.amqpUrl, ...placeOf(job) }),
    locks,
    keyOf: (message) => {
      begin(progress);
      return message.body.account;
    },
    state: redisState(client),
    keepState: job.partitions > 0,
    reduce: (total, messages) => messages.reduce((sum, { body }) => sum + body.amount, total ?? 0),
    waitMs: 60_000,
  });
  // As for the others, a message counts once it is acknowledged.
  const onBatch = (batch: unknown): void => note(progress, (batch as BatchMessage).messages);
  subscribe(CONSUMER_CHANNELS.batch, onBatch);
  await worker.ready;
  await idle(progress);
  unsubscribe(CONSUMER_CHANNELS.batch, onBatch);
  const { latency } = worker.metrics();
  const p99 = latency.buckets.find(({ count }) => count >= latency.count * 0.99);
  await worker.stop();
  await locks.close();
  client.disconnect();
  return { ...progress, p99Ms: p99?.leMs ?? Number.NaN };
}

interface Delivery {
  readonly content: Buffer;
}
interface Channel {
  prefetch(count: number): Promise<unknown>;
  consume(queue: string, on: (message: Delivery | null) => void): Promise<unknown>;
  ack(message: Delivery): void;
}
interface Amqp {
  connect(url: string): Promise<{ createChannel(): Promise<Channel>; close(): Promise<void> }>;
}

/** As a consumer is usually written: each message by itself, its effect, its acknowledgement. */
async function consumePlain(job: Consume): Promise<ConsumeResult> {
  const { port, amqpUrl, queue, prefetch, contender } = job;
  const packageName = 'amqplib';
  const amqp = (await import(packageName)) as { default: Amqp };
  const client = connect(port);
  const add = await effectOf(contender, client);
  const connection = await amqp.default.connect(amqpUrl);
  const channel = await connection.createChannel();
  await channel.prefetch(prefetch);
  const progress: Progress = { count: 0, firstAtMs: 0, lastAtMs: 0 };
  const timesMs: number[] = [];
  const handle = async (message: Delivery): Promise<void> => {
    const startMs = performance.now();
    begin(progress);
    await add(JSON.parse(message.content.toString()) as Contribution);
    channel.ack(message);
    timesMs.push(performance.now() - startMs);
    note(progress, 1);
  };
  await channel.consume(queue, (message) => {
    if (message !== null) void handle(message);
  });
  await idle(progress);
  await connection.close();
  client.disconnect();
  timesMs.sort((a, b) => a - b);
  return { ...progress, p99Ms: timesMs[Math.floor(timesMs.length * 0.99)] ?? Number.NaN };
}

async function effectOf(
  contender: Contender,
  client: ReturnType<typeof connect>,
): Promise<(contribution: Contribution) => Promise<void>> {
  if (contender.package === NO_LOCK) {
    return async ({ account, amount }) => {
      await client.incrby(`total:${account}`, amount);
    };
  }
  const locker = await openContender(contender, [client]);
  return async ({ account, amount }) => {
    await locker.withLock(account, async () => {
      const before = Number((await client.get(`total:${account}`)) ?? 0);
      await client.set(`total:${account}`, before + amount);
    });
  };
}

function begin(progress: Progress): void {
  if (progress.firstAtMs === 0) progress.firstAtMs = Date.now();
}

function note(progress: Progress, count: number): void {
  progress.lastAtMs = Date.now();
  progress.count += count;
}

async function idle(progress: Progress): Promise<void> {
  const openedAtMs = Date.now();
  for (;;) {
    await setTimeout(POLL_MS);
    // The first message of a queue that others drain may never come here.
    const sinceMs = Date.now() - Math.max(progress.lastAtMs, openedAtMs);
    if (sinceMs > IDLE_MS) return;
  }
}

/**
 * Worker processes of the consumer on real engines, what they have to work on, and the books at the end: every message
 * is applied once, or is a dead letter.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { connect } from 'amqplib';
import type { Redis } from 'ioredis';
import type { ConsumerMetrics } from 'leasehold/consumer';
import { deadLetters, publisher } from 'leasehold/rabbitmq';
import { expect } from 'vitest';
import { until } from '../servers/processes.ts';

const PROGRAM = join(import.meta.dirname, 'consumer-worker.mjs');
const PATIENCE_MS = 50_000;

export type CrashPoint =
  | 'after commit'
  | 'after publish'
  | 'after confirm'
  | 'in mid-batch'
  | 'after marking as dead'
  | 'after dead-lettering';

export interface Order {
  readonly amqp: string;
  readonly redisUrl: string;
  readonly queue: string;
  readonly crash?: { readonly point: CrashPoint; readonly times: number };
  readonly minReplicas?: number;
  readonly ttlMs?: number;
  /** How long a batch takes. */
  readonly workMs?: number;
}

export class WorkerProcess {
  readonly #child: ChildProcess;
  readonly exited: Promise<unknown>;
  metrics: ConsumerMetrics | null = null;
  /** How many batches it has begun. */
  batches = 0;

  constructor(order: Order) {
    this.#child = fork(PROGRAM, [], {
      env: { ...process.env, LEASEHOLD_WORKER: JSON.stringify(order) },
      execArgv: [],
    });
    this.exited = once(this.#child, 'exit');
    this.#child.on('message', (message: { is: string; metrics: ConsumerMetrics }) => {
      if (message.is === 'working') this.batches += 1;
      else this.metrics = message.metrics;
    });
  }

  get exitCode(): number | null {
    return this.#child.exitCode;
  }

  get wasKilled(): boolean {
    return this.#child.signalCode === 'SIGKILL';
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child.kill(signal);
  }

  async stop(): Promise<void> {
    if (this.#child.connected) this.#child.send('stop');
    await this.exited;
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    await this.exited;
  }
}

/** What was published, and what has to come of it. */
export class Books {
  readonly queue: string;
  readonly #amqp: string;
  readonly #redis: () => Redis;
  readonly #totals = new Map<string, number>();
  readonly #dead = new Set<string>();

  constructor(queue: string, amqp: string, redis: () => Redis) {
    this.queue = queue;
    this.#amqp = amqp;
    this.#redis = redis;
  }

  /** Contributions to four accounts, every tenth published twice; poison, and bodies that do not parse. */
  async publish(count: number, from = 0): Promise<void> {
    const producer = publisher({ url: this.#amqp, queue: this.queue });
    const published: Promise<unknown>[] = [];
    for (let index = from; index < from + count; index += 1) {
      const account = `account-${index % 4}`;
      const content = JSON.stringify({ account, amount: index });
      const id = `m-${index}`;
      published.push(producer.publish({ id, content }));
      if (index % 10 === 0) published.push(producer.publish({ id, content }));
      this.#totals.set(account, (this.#totals.get(account) ?? 0) + index);
      if (index % 40 !== 20) continue;
      const poison = JSON.stringify({ account, amount: -1 });
      published.push(producer.publish({ id: `poison-${index}`, content: poison }));
      published.push(producer.publish({ id: `malformed-${index}`, content: '{' }));
      this.#dead.add(`poison-${index}`).add(`malformed-${index}`);
    }
    await Promise.all(published);
    await producer.close();
  }

  /** Waits until every message is applied, or dead; and then until nothing is in the queue any more. */
  async balance(): Promise<void> {
    const letters = deadLetters({ url: this.#amqp, queue: this.queue });
    const redis = this.#redis();
    try {
      await until('the totals are right', () => this.#hasTotals(redis), PATIENCE_MS);
      const lettersAreThere = async (): Promise<boolean> => {
        const ids = new Set((await letters.list(1_000)).map(({ envelope }) => String(envelope.id)));
        const missing = [...this.#dead].filter((id) => !ids.has(id));
        if (missing.length > 0) throw new Error(`missing: ${missing.join(', ')}`);
        return true;
      };
      await until('the dead letters are there', lettersAreThere, PATIENCE_MS);
      await until('the queue is empty', () => this.#isEmpty(), PATIENCE_MS);
    } finally {
      redis.disconnect();
      await letters.close();
    }
  }

  /** Once all workers have stopped: nothing more than what has to be. */
  async check(): Promise<void> {
    const letters = deadLetters({ url: this.#amqp, queue: this.queue });
    const redis = this.#redis();
    try {
      const ids = (await letters.list(1_000)).map(({ envelope }) => String(envelope.id));
      // A crash between a copy and its acknowledgement makes a second one.
      expect(new Set(ids)).toEqual(this.#dead);
      expect(await this.#readTotals(redis)).toEqual(this.#totals);
      expect(await this.#isEmpty()).toBe(true);
    } finally {
      redis.disconnect();
      await letters.close();
    }
  }

  async #hasTotals(redis: Redis): Promise<boolean> {
    const totals = await this.#readTotals(redis);
    return [...this.#totals].every(([account, total]) => totals.get(account) === total);
  }

  async #readTotals(redis: Redis): Promise<Map<string, number>> {
    const totals = new Map<string, number>();
    for (const account of this.#totals.keys()) {
      const text = await redis.hget(`${this.queue}:${account}`, 'v');
      if (text !== null) totals.set(account, Number(text));
    }
    return totals;
  }

  /** Nothing waits, nothing is unsettled. */
  async #isEmpty(): Promise<boolean> {
    const connection = await connect(this.#amqp);
    try {
      const channel = await connection.createChannel();
      return (await channel.checkQueue(this.queue)).messageCount === 0;
    } finally {
      await connection.close();
    }
  }
}

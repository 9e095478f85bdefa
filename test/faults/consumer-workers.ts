/**
 * Worker processes of the consumer on real engines, what they have to work on, and the books at the end: every message
 * is applied once, or is a dead letter, and nothing is left in a queue or an outbox.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { connect } from 'amqplib';
import type { Redis } from 'ioredis';
import type { ConsumerMetrics, DeadLetters, Publisher } from 'leasehold/consumer';
import {
  embeddedDeadLetters,
  embeddedOutbox,
  embeddedPublisher,
  embeddedState,
} from 'leasehold/embedded';
import { deadLetters, partitioned, publisher } from 'leasehold/rabbitmq';
import { redisOutbox } from 'leasehold/redis';
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
  | 'after dead-lettering'
  | 'after putting'
  | 'after claiming'
  | 'after putting back'
  | 'before removing';

export interface Order {
  readonly queue: string;
  /** Either these two, or a folder. */
  readonly amqp?: string | readonly string[];
  readonly redisUrl?: string;
  readonly folder?: string;
  /** Of the queue on RabbitMQ. */
  readonly partitions?: number;
  readonly crash?: { readonly point: CrashPoint; readonly times: number };
  readonly minReplicas?: number;
  readonly ttlMs?: number;
  readonly waitMs?: number;
  readonly retainMs?: number;
  /** False: each lock is taken. */
  readonly elideLock?: boolean;
  readonly keepState?: boolean;
  /** Busy messages go to an outbox, whose claims end after this. */
  readonly outboxLeaseMs?: number;
  /** How long a batch takes. */
  readonly workMs?: number;
}

export class WorkerProcess {
  readonly #child: ChildProcess;
  readonly exited: Promise<unknown>;
  metrics: ConsumerMetrics | null = null;
  /** How many batches it has begun. */
  batches = 0;
  /** How often its gate was closed. Its metrics are not older than that. */
  closings = 0;

  constructor(order: Order) {
    this.#child = fork(PROGRAM, [], {
      env: { ...process.env, LEASEHOLD_WORKER: JSON.stringify(order) },
      execArgv: [],
    });
    this.exited = once(this.#child, 'exit');
    this.#child.on('message', (message: { is: string; metrics: ConsumerMetrics }) => {
      if (message.is === 'working') {
        this.batches += 1;
        return;
      }
      if (message.is === 'closed') this.closings += 1;
      this.metrics = message.metrics;
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

  /** While its gate is closed, its reducers wait. */
  async closeGate(): Promise<void> {
    const before = this.closings;
    this.#child.send('close the gate');
    await until('its gate is closed', () => this.closings > before);
  }

  openGate(): void {
    this.#child.send('open the gate');
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
export abstract class Bookkeeping {
  readonly queue: string;
  readonly #totals = new Map<string, number>();
  readonly #dead = new Set<string>();
  #published = 0;

  constructor(queue: string) {
    this.queue = queue;
  }

  protected abstract publisher(): Publisher;
  protected abstract letters(): DeadLetters;
  /** How many are in the outbox. */
  protected abstract entries(): Promise<number>;
  /** By account, as text; `null` for one that there is nothing of. */
  protected abstract read(accounts: readonly string[]): Promise<readonly (string | null)[]>;
  /** Whether nothing waits in the queue; a folder does not say. */
  protected abstract isQueueEmpty(): Promise<boolean>;

  /** Contributions to four accounts, every tenth published twice; poison, and bodies that do not parse. */
  async publish(count: number): Promise<void> {
    const producer = this.publisher();
    const sent: Promise<void>[] = [];
    const send = (id: string, content: string, key: string): void => {
      // A queue has no leader while its nodes elect one.
      const publish = (): Promise<boolean> =>
        producer.publish({ id, content, key }).then(() => true);
      sent.push(until(`${id} is published`, publish, PATIENCE_MS));
    };
    const first = this.#published;
    this.#published += count;
    for (let index = first; index < first + count; index += 1) {
      const account = `account-${index % 4}`;
      const content = JSON.stringify({ account, amount: index });
      const id = `m-${index}`;
      send(id, content, account);
      if (index % 10 === 0) send(id, content, account);
      this.#totals.set(account, (this.#totals.get(account) ?? 0) + index);
      if (index % 40 !== 20) continue;
      const poison = JSON.stringify({ account, amount: -1 });
      send(`poison-${index}`, poison, account);
      send(`malformed-${index}`, '{', account);
      this.#dead.add(`poison-${index}`).add(`malformed-${index}`);
    }
    await Promise.all(sent);
    await producer.close();
  }

  get accounts(): readonly string[] {
    return [...this.#totals.keys()];
  }

  /** Waits until every message is applied, or dead; and then until nothing is in the queue any more. */
  async balance(): Promise<void> {
    const letters = this.letters();
    try {
      await until('the totals are right', () => this.#hasTotals(), PATIENCE_MS);
      const lettersAreThere = async (): Promise<boolean> => {
        const ids = new Set((await letters.list(1_000)).map(({ envelope }) => String(envelope.id)));
        const missing = [...this.#dead].filter((id) => !ids.has(id));
        if (missing.length > 0) throw new Error(`missing: ${missing.join(', ')}`);
        return true;
      };
      await until('the dead letters are there', lettersAreThere, PATIENCE_MS);
      await until('nothing is left', () => this.#isEmpty(), PATIENCE_MS);
    } finally {
      await letters.close();
    }
  }

  /** Once all workers have stopped: nothing more than what has to be. */
  async check(): Promise<void> {
    const letters = this.letters();
    try {
      const ids = (await letters.list(1_000)).map(({ envelope }) => String(envelope.id));
      // A crash between a copy and its acknowledgement makes a second one.
      expect(new Set(ids)).toEqual(this.#dead);
      expect(await this.#readTotals()).toEqual(this.#totals);
      expect(await this.#isEmpty()).toBe(true);
    } finally {
      await letters.close();
    }
  }

  async #hasTotals(): Promise<boolean> {
    const totals = await this.#readTotals();
    return [...this.#totals].every(([account, total]) => totals.get(account) === total);
  }

  async #readTotals(): Promise<Map<string, number>> {
    const totals = new Map<string, number>();
    const { accounts } = this;
    for (const [index, text] of (await this.read(accounts)).entries()) {
      if (text !== null) totals.set(accounts[index] as string, Number(text));
    }
    return totals;
  }

  async #isEmpty(): Promise<boolean> {
    return (await this.isQueueEmpty()) && (await this.entries()) === 0;
  }
}

/** Of workers on RabbitMQ and Redis. */
export class Books extends Bookkeeping {
  readonly #amqp: string;
  readonly #redis: () => Redis;
  readonly #partitions: number;

  constructor(queue: string, amqp: string, redis: () => Redis, partitions = 0) {
    super(queue);
    this.#amqp = amqp;
    this.#redis = redis;
    this.#partitions = partitions;
  }

  get #place() {
    const { queue } = this;
    const place = this.#partitions === 0 ? queue : partitioned(queue, this.#partitions);
    return { url: this.#amqp, queue: place };
  }

  protected override publisher(): Publisher {
    return publisher(this.#place);
  }

  protected override letters(): DeadLetters {
    return deadLetters(this.#place);
  }

  protected override async entries(): Promise<number> {
    const redis = this.#redis();
    const outbox = redisOutbox(redis, { name: `${this.queue}-outbox` });
    try {
      await outbox.open();
      return (await outbox.depth()).entries;
    } finally {
      await outbox.close();
      redis.disconnect();
    }
  }

  protected override async read(accounts: readonly string[]): Promise<readonly (string | null)[]> {
    const redis = this.#redis();
    try {
      return await Promise.all(
        accounts.map((account) => redis.hget(`${this.queue}:${account}`, 'v')),
      );
    } finally {
      redis.disconnect();
    }
  }

  protected override async isQueueEmpty(): Promise<boolean> {
    const { queue } = this.#place;
    const connection = await connect(this.#amqp);
    try {
      const channel = await connection.createChannel();
      for (const name of typeof queue === 'string' ? [queue] : queue.queues) {
        if ((await channel.checkQueue(name)).messageCount > 0) return false;
      }
      return true;
    } finally {
      await connection.close();
    }
  }
}

/** Of workers in a folder. */
export class FolderBooks extends Bookkeeping {
  readonly #path: string;

  constructor(queue: string, path: string) {
    super(queue);
    this.#path = path;
  }

  protected override publisher(): Publisher {
    return embeddedPublisher({ path: this.#path, queue: this.queue });
  }

  protected override letters(): DeadLetters {
    return embeddedDeadLetters({ path: this.#path, queue: this.queue });
  }

  protected override async entries(): Promise<number> {
    const outbox = embeddedOutbox({ path: this.#path });
    try {
      await outbox.open();
      return (await outbox.depth()).entries;
    } finally {
      await outbox.close();
    }
  }

  protected override async read(accounts: readonly string[]): Promise<readonly (string | null)[]> {
    const state = embeddedState({ path: this.#path });
    await state.open();
    try {
      return await Promise.all(accounts.map((account) => state.peek(account)));
    } finally {
      await state.close();
    }
  }

  protected override isQueueEmpty(): Promise<boolean> {
    return Promise.resolve(true);
  }
}

/**
 * An outbox on Redis: a stream for the entries, a consumer group for who has them, a sorted set for when they are due.
 */
import type { Delivery, Envelope, Outbox, OutboxDepth } from '../consumer/contracts.ts';
import { envelopeFromText, envelopeToText } from '../consumer/envelope-text.ts';
import { isWhole, numberOf, UnreadableAnswerError } from './answers.ts';
import type { RedisClient } from './clients/client.ts';
import { DAY_MS } from './fence.ts';
import { Layout } from './layout.ts';
import { readPrefix, readReplicas } from './options.ts';
import { Replicas } from './replicas.ts';
import { evaluateWithin } from './rights.ts';
import { CLAIM, DEPTH, FORGET, PUT, SETTLE } from './scripts/outbox.ts';
import type { Script } from './scripts/script.ts';
import { explain, warnOfEviction } from './setup.ts';
import { within } from './within.ts';

export interface RedisOutboxOptions {
  /** Which outbox: workers with the same name share one. Default `outbox`. */
  readonly name?: string;
  /** What is put is safe only when so many replicas have it. Default 0. Not for a cluster. */
  readonly minReplicas?: number;
  /** How long to wait for those replicas, in milliseconds. Default 1,000. */
  readonly replicaTimeoutMs?: number;
  /** How long one request may take, in milliseconds, before its outcome counts as unknown. Default 2,000. */
  readonly requestTimeoutMs?: number;
}

export type OutboxSettings = Required<RedisOutboxOptions>;

export function readOutboxOptions(options: RedisOutboxOptions): OutboxSettings {
  return { name: readPrefix(options?.name, 'outbox'), ...readReplicas(options) };
}

/** A server does nothing else meanwhile; more travel in several steps. */
const ENTRIES_A_STEP = 100;

class Claimed implements Delivery {
  readonly id: string;
  readonly envelope: Envelope;
  readonly isRedelivered: boolean;
  readonly #endsMs: number;

  constructor(id: string, text: string, isRedelivered: boolean, endsMs: number) {
    this.id = id;
    this.envelope = envelopeFromText(text);
    this.isRedelivered = isRedelivered;
    this.#endsMs = endsMs;
  }

  isLive(): boolean {
    return performance.now() < this.#endsMs;
  }
}

interface Session {
  readonly client: RedisClient;
  readonly keys: readonly string[];
  readonly replicas: Replicas;
}

export class RedisOutbox implements Outbox {
  readonly name: string = 'redis';
  readonly #connect: () => RedisClient | Promise<RedisClient>;
  readonly #settings: OutboxSettings;
  readonly #owner = crypto.randomUUID();
  #session: Session | null = null;

  constructor(connect: () => RedisClient | Promise<RedisClient>, settings: OutboxSettings) {
    this.#connect = connect;
    this.#settings = settings;
  }

  async open(): Promise<void> {
    if (this.#session !== null) throw new Error('the redis outbox is open already');
    const { name, requestTimeoutMs } = this.#settings;
    const client = await this.#connect();
    const layout = new Layout({ prefix: '', isCluster: client.isCluster, nonce: '' });
    const keys = layout.outboxNamesOf(name);
    const session = { client, keys, replicas: new Replicas(client, this.#settings) };
    try {
      await within(client.connect(), requestTimeoutMs, 'a new connection');
      await this.#run(session, FORGET, [this.#owner, String(DAY_MS)]);
      await warnOfEviction(client, requestTimeoutMs, 'messages');
    } catch (cause) {
      await client.close();
      throw explain(cause, 'scripts (+@scripting +@read +@write)');
    }
    this.#session = session;
  }

  async put(envelopes: readonly Envelope[], delayMs: number): Promise<void> {
    const texts = envelopes.map(envelopeToText);
    await this.#inSteps(PUT, [wholeMs(delayMs)], texts, 1);
  }

  async claim(
    most: number,
    leaseMs: number,
  ): Promise<{ deliveries: readonly Delivery[]; nextDueMs: number | null }> {
    const sentMs = performance.now();
    const args = [this.#owner, String(most), wholeMs(leaseMs)];
    const answer = await this.#run(this.#opened(), CLAIM, args);
    const [next, ...entries] = Array.isArray(answer) ? answer : [];
    if (!isWhole(next, -1)) throw new UnreadableAnswerError('a claim');
    const deliveries: Claimed[] = [];
    for (let at = 0; at < entries.length; at += 3) {
      const [id, text, before] = entries.slice(at, at + 3) as unknown[];
      if (typeof id !== 'string' || typeof text !== 'string') {
        throw new UnreadableAnswerError('a claim');
      }
      deliveries.push(new Claimed(id, text, Number(before) === 1, sentMs + leaseMs));
    }
    const nextDueMs = numberOf(next);
    return { deliveries, nextDueMs: nextDueMs < 0 ? null : nextDueMs };
  }

  acknowledge(deliveries: readonly Delivery[]): Promise<void> {
    return this.#settle(deliveries, '');
  }

  release(deliveries: readonly Delivery[]): Promise<void> {
    return this.#settle(deliveries, '0');
  }

  putBack(
    deliveries: readonly Delivery[],
    envelopes: readonly Envelope[],
    delayMs: number,
  ): Promise<void> {
    return this.#settle(deliveries, wholeMs(delayMs), envelopes);
  }

  async depth(): Promise<OutboxDepth> {
    const answer = await this.#run(this.#opened(), DEPTH, []);
    const [entries, oldestAgeMs] = Array.isArray(answer) ? answer : [];
    if (!isWhole(entries, 0) || !isWhole(oldestAgeMs, 0)) {
      throw new UnreadableAnswerError('a look');
    }
    return { entries: numberOf(entries), oldestAgeMs: numberOf(oldestAgeMs) };
  }

  /** What is claimed stays claimed until its lease ends. */
  async close(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    if (session === null) return;
    try {
      await this.#run(session, FORGET, [this.#owner, String(DAY_MS)]);
    } catch {
      // Somebody forgets it later.
    }
    await session.client.close();
  }

  #settle(
    deliveries: readonly Delivery[],
    delay: string,
    envelopes?: readonly Envelope[],
  ): Promise<void> {
    const args = deliveries.flatMap((delivery, index) => {
      if (!(delivery instanceof Claimed) || !delivery.isLive()) return [];
      const envelope = envelopes?.[index];
      return [delivery.id, envelope === undefined ? '' : envelopeToText(envelope)];
    });
    return this.#inSteps(SETTLE, [this.#owner, delay], args, 2);
  }

  /** Resolves when all of it is safe. */
  async #inSteps(
    script: Script,
    head: readonly string[],
    rest: readonly string[],
    argsEach: number,
  ): Promise<void> {
    const session = this.#opened();
    const steps: Promise<void>[] = [];
    for (let from = 0; from < rest.length; from += ENTRIES_A_STEP * argsEach) {
      steps.push(
        this.#step(session, script, [
          ...head,
          ...rest.slice(from, from + ENTRIES_A_STEP * argsEach),
        ]),
      );
    }
    await Promise.all(steps);
  }

  async #step(session: Session, script: Script, args: readonly string[]): Promise<void> {
    const { connections } = session.client;
    await this.#run(session, script, args);
    await session.replicas.confirm(connections);
  }

  async #run({ client, keys }: Session, script: Script, args: readonly string[]): Promise<unknown> {
    const { requestTimeoutMs: timeoutMs } = this.#settings;
    const what = `'${script.name}' of an outbox`;
    return evaluateWithin(client, { script, keys, args, timeoutMs, what });
  }

  #opened(): Session {
    if (this.#session === null) throw new Error('the redis outbox is not open');
    return this.#session;
  }
}

function wholeMs(ms: number): string {
  return String(Math.max(0, Math.ceil(ms)));
}

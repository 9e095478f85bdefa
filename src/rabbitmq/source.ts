/**
 * A RabbitMQ queue as a source of messages.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type {
  DeadLetterNote,
  Delivery,
  Envelope,
  MessageSource,
  SourceEvents,
} from '../consumer/contracts.ts';
import { loadAmqplib, unavailable } from './client.ts';
import { Delays } from './delays.ts';
import { publishOptions, queueOf } from './envelope.ts';
import { BrokerUnavailableError, QueueUnusableError } from './errors.ts';
import { checkDelay, type SourceSettings } from './options.ts';
import { Sender } from './sender.ts';
import { type RabbitDelivery, Session } from './session.ts';
import { prepareQueues } from './topology.ts';

/** Between two attempts to connect again: doubled each time, and jittered. */
const FIRST_RETRY_MS = 50;
const LAST_RETRY_MS = 5_000;
/** With these a broker ends a connection over something that it cannot do, or that one must not ask. */
const PROTOCOL_ERRORS: ReadonlySet<unknown> = new Set([501, 502, 503, 504, 505, 530, 540]);
/** How often a source of partitions looks whether it has more than its share: at first sooner, as many begin at once. */
const FIRST_BALANCE_MS = 100;
const BALANCE_MS = 1_000;

export class RabbitSource implements MessageSource {
  readonly name: string;
  readonly #settings: SourceSettings;
  readonly #sender: Sender;
  readonly #delays: Delays;
  readonly #stopped = new AbortController();
  #events: SourceEvents | null = null;
  #session: Session | null = null;
  #run: Promise<void> = Promise.resolve();

  constructor(settings: SourceSettings) {
    this.name = `rabbitmq:${settings.name}`;
    this.#settings = settings;
    this.#sender = new Sender(settings, (channel) => prepareQueues(channel, settings));
    this.#delays = new Delays(this.#sender, settings.delayPeriodMs);
  }

  /**
   * Rejects with `BrokerUnavailableError` when the broker refuses, or could not be reached for `openTimeoutMs`, and with
   * `QueueUnusableError` when a queue cannot be used.
   */
  async open(events: SourceEvents): Promise<void> {
    if (this.#events !== null) throw new Error('the source was opened already');
    this.#events = events;
    await loadAmqplib();
    this.#run = this.#keepRunning(await this.#beginFirst());
  }

  /** Not `async`, since it is called for each batch. */
  acknowledge(deliveries: readonly Delivery[]): Promise<void> {
    let flushed = Promise.resolve();
    for (const { ledger, tag } of deliveries as readonly RabbitDelivery[]) {
      flushed = ledger.acknowledge(tag);
    }
    return flushed;
  }

  async release(deliveries: readonly Delivery[]): Promise<void> {
    for (const { ledger, tag } of deliveries as readonly RabbitDelivery[]) ledger.release(tag);
  }

  async republish(envelopes: readonly Envelope[], delayMs: number): Promise<void> {
    checkDelay(delayMs);
    await Promise.all(envelopes.map((envelope) => this.#sendDelayed(envelope, delayMs)));
  }

  async deadLetter(envelopes: readonly Envelope[], note: DeadLetterNote): Promise<void> {
    const { deadQueue } = this.#settings;
    await Promise.all(envelopes.map((envelope) => this.#send(deadQueue, envelope, note)));
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#session?.stop();
  }

  async close(): Promise<void> {
    await this.stop();
    await this.#session?.close();
    await this.#run;
    await this.#sender.close();
  }

  #sendDelayed(envelope: Envelope, delayMs: number): Promise<void> {
    const { name, queues } = this.#settings;
    // What an outbox had of another queue would be sent there with this process's rights.
    const named = queueOf(envelope, name);
    const home = queues.includes(named) ? named : (queues[0] ?? name);
    return this.#delays.put(home, delayMs, (queue) => this.#send(queue, envelope));
  }

  #send(queue: string, envelope: Envelope, note?: DeadLetterNote): Promise<void> {
    const { content } = envelope;
    const options = publishOptions(envelope, note);
    return this.#sender.publish({ queue, exchange: '', routingKey: queue, content, options });
  }

  async #begin(attempt: number): Promise<Session> {
    const events = this.#events as SourceEvents;
    const session = await Session.begin(this.#settings, attempt, (delivery) =>
      events.delivered(delivery),
    );
    this.#session = session;
    try {
      // It was stopped meanwhile.
      this.#stopped.signal.throwIfAborted();
      for (const queue of this.#settings.queues) await session.consume(queue);
      return session;
    } catch (error) {
      await session.close();
      throw error;
    }
  }

  /** The broker may still be on its way, as when all is started at once. */
  async #beginFirst(): Promise<Session> {
    const { openTimeoutMs, urls } = this.#settings;
    const { signal } = this.#stopped;
    const deadlineMs = performance.now() + openTimeoutMs;
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#begin(attempt);
      } catch (error) {
        signal.throwIfAborted();
        if (!mayPass(error)) throw error;
        const leftMs = deadlineMs - performance.now();
        if (leftMs <= 0) {
          throw error instanceof BrokerUnavailableError ? error : unavailable(urls, error);
        }
        await delay(Math.min(leftMs, retryMs(attempt)), undefined, { signal });
      }
    }
  }

  async #balanceRegularly(session: Session, signal: AbortSignal): Promise<void> {
    const { partitions } = this.#settings;
    if (partitions === null) return;
    for (let waitMs = FIRST_BALANCE_MS; ; waitMs = Math.min(2 * waitMs, BALANCE_MS)) {
      try {
        await delay(waitMs, undefined, { signal });
        await session.balance(partitions);
      } catch {
        // What else fails here ends the session, which is looked after elsewhere.
        if (signal.aborted) return;
      }
    }
  }

  /** Begins a session after the other. Ends when the source is stopped, or when a person has to do something. */
  async #keepRunning(first: Session): Promise<void> {
    const { signal } = this.#stopped;
    let session: Session | null = first;
    for (let attempt = 1; ; attempt += 1) {
      if (session !== null) {
        const over = new AbortController();
        void this.#balanceRegularly(session, over.signal);
        await session.ended;
        over.abort();
        if (signal.aborted) return;
        await session.close();
        attempt = 1;
      }
      try {
        await delay(retryMs(attempt), undefined, { signal });
        session = await this.#begin(attempt);
      } catch (error) {
        if (signal.aborted) return;
        session = null;
        if (!(error instanceof QueueUnusableError)) continue;
        this.#events?.failed(error);
        return;
      }
    }
  }
}

/** Whether time may change it. What is none of our errors is about a connection that ended while it was being used. */
function mayPass(error: unknown): boolean {
  if (error instanceof BrokerUnavailableError) return error.fault === 'unreachable';
  const { code } = error as { readonly code?: unknown };
  return !(error instanceof QueueUnusableError || PROTOCOL_ERRORS.has(code));
}

function retryMs(attempt: number): number {
  const longest = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(attempt, 10));
  return longest * (0.5 + Math.random() / 2);
}

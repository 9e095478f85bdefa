/**
 * Publishes with confirms: a message counts as published when its queue has it, and not when it was returned.
 *
 * It has a connection of its own, made when it is first needed: a broker that is short of memory stops reading from
 * connections that publish, and acknowledgements, which free memory, must not be stuck there.
 */
import { setMaxListeners } from 'node:events';
import { type AmqpChannel, type AmqpMessage, type ConnectSettings, Link } from './client.ts';
import { PUBLISH_NUMBER } from './envelope.ts';
import { ConfirmTimeout, NotPublishedError, QueueUnusableError, queueFault } from './errors.ts';

/** Published and not confirmed yet. */
const MAX_IN_FLIGHT = 1_000;
/** Waiting for one of those to be confirmed. */
const MAX_WAITING = 10_000;
/** A queue that is full refuses every connection: no more often than this another one is tried, in milliseconds. */
const REFUSED_AGAIN_MS = 1_000;

export interface Parcel {
  /** For people. */
  readonly queue: string;
  readonly exchange: string;
  /** For the default exchange, the queue's name. */
  readonly routingKey: string;
  readonly content: Uint8Array;
  readonly options: Readonly<Record<string, unknown>>;
}

export interface SenderSettings extends ConnectSettings {
  readonly confirmTimeoutMs: number;
}

interface Pending {
  isReturned: boolean;
  settle(error: NotPublishedError | null): void;
}

/** One connection's time. */
interface Sending {
  readonly link: Link;
  readonly channel: AmqpChannel;
  readonly pending: Map<number, Pending>;
  /** Queues that were declared over this connection, and when that was, by the monotonic clock. */
  readonly declared: Map<string, number>;
  /** By the monotonic clock. */
  readonly beganMs: number;
  /** Whether anything more is sent over it. What was sent may still be confirmed. */
  isOpen: boolean;
}

export class Sender {
  readonly #settings: SenderSettings;
  readonly #prepare: (channel: AmqpChannel) => Promise<void>;
  readonly #waiting: (() => void)[] = [];
  #sending: Promise<Sending> | null = null;
  #inFlight = 0;
  #numbers = 0;
  #attempts = 0;
  readonly #closing = new AbortController();
  #idle: (() => void) | null = null;
  #ended: Promise<void> | null = null;

  /** `prepare` makes what has to be there, over each new connection. */
  constructor(settings: SenderSettings, prepare: (channel: AmqpChannel) => Promise<void>) {
    this.#settings = settings;
    this.#prepare = prepare;
    // As many may wait as there are copies.
    setMaxListeners(0, this.#closing.signal);
  }

  /** Aborted when nothing more is taken. */
  get closed(): AbortSignal {
    return this.#closing.signal;
  }

  /** Resolves when the broker has it in a queue. Rejects with `NotPublishedError`, or `QueueUnusableError`. */
  async publish(parcel: Parcel): Promise<void> {
    await this.#takeSlot(parcel.queue);
    try {
      const sending = await this.#connected(parcel.queue);
      await this.#send(sending, parcel);
    } finally {
      this.#giveSlot();
    }
  }

  /**
   * Makes a queue, once for each connection. Resolves with the time by which it was there, by the monotonic clock. Rejects
   * with `QueueUnusableError` when it cannot be, or with `NotPublishedError`.
   */
  async declare(name: string, args: Readonly<Record<string, unknown>>): Promise<number> {
    const sending = await this.#connected(name);
    const declaredAtMs = sending.declared.get(name);
    if (declaredAtMs !== undefined) return declaredAtMs;
    try {
      // Not over the channel of messages: a refusal would end it, with all that is being published.
      await sending.link.ask((channel) =>
        channel.assertQueue(name, { durable: true, arguments: args }),
      );
      const nowMs = performance.now();
      sending.declared.set(name, nowMs);
      return nowMs;
    } catch (error) {
      const fault = queueFault(error);
      throw fault === null
        ? new NotPublishedError(name, 'unknown', error)
        : new QueueUnusableError(name, fault, error);
    }
  }

  /** A queue that was made is not there any more. */
  async forget(name: string): Promise<void> {
    (await this.#sending)?.declared.delete(name);
  }

  /** Waits for what is under way, each for no longer than its confirm may take. */
  close(): Promise<void> {
    this.#ended ??= this.#end();
    return this.#ended;
  }

  async #end(): Promise<void> {
    this.#closing.abort();
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    const sending = await this.#sending?.catch(() => null);
    this.#sending = null;
    await sending?.link.close();
  }

  async #takeSlot(queue: string): Promise<void> {
    if (this.closed.aborted) throw new NotPublishedError(queue, 'closed');
    if (this.#inFlight < MAX_IN_FLIGHT) {
      this.#inFlight += 1;
      return;
    }
    if (this.#waiting.length >= MAX_WAITING) throw new NotPublishedError(queue, 'overloaded');
    // The slot is handed over, so the count stays.
    await new Promise<void>((resolve) => void this.#waiting.push(resolve));
  }

  #giveSlot(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#inFlight -= 1;
    if (this.#inFlight === 0) this.#idle?.();
  }

  async #connected(queue: string): Promise<Sending> {
    for (;;) {
      // `close` waits for what has a slot, and for nothing else: a connection that is made now would stay.
      if (this.closed.aborted && this.#inFlight === 0) throw new NotPublishedError(queue, 'closed');
      this.#sending ??= this.#connect();
      const current = this.#sending;
      try {
        const sending = await current;
        if (sending.isOpen) return sending;
      } catch (error) {
        this.#leave(current);
        if (error instanceof QueueUnusableError) throw error;
        throw new NotPublishedError(queue, 'unavailable', error);
      }
      this.#leave(current);
    }
  }

  /** Of many that find it unusable, the first one makes another, which the others share. */
  #leave(sending: Promise<Sending>): void {
    if (this.#sending === sending) this.#sending = null;
  }

  async #connect(): Promise<Sending> {
    const link = await Link.connect(this.#settings, this.#attempts++);
    try {
      await link.ask((channel) => this.#prepare(channel));
      const channel = await link.channel();
      const pending = new Map<number, Pending>();
      const sending: Sending = {
        link,
        channel,
        pending,
        declared: new Map(),
        beganMs: performance.now(),
        isOpen: true,
      };
      channel.on('return', ({ properties }: AmqpMessage) => {
        const headers = properties['headers'] as Record<string, unknown> | undefined;
        const returned = pending.get(Number(headers?.[PUBLISH_NUMBER]));
        if (returned) returned.isReturned = true;
      });
      channel.on('close', () => {
        sending.isOpen = false;
        void link.close();
      });
      return sending;
    } catch (error) {
      await link.close();
      throw error;
    }
  }

  #send(sending: Sending, parcel: Parcel): Promise<void> {
    const { channel, pending } = sending;
    const { queue, exchange, routingKey, content, options } = parcel;
    this.#numbers += 1;
    const number = this.#numbers;
    const headers = { ...(options['headers'] as object | undefined), [PUBLISH_NUMBER]: number };
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const cause = new ConfirmTimeout(this.#settings.confirmTimeoutMs);
        // Whatever the broker has lost on this connection, what follows shall not share it.
        sending.isOpen = false;
        settle(new NotPublishedError(queue, 'unknown', cause));
      }, this.#settings.confirmTimeoutMs);
      const entry: Pending = { isReturned: false, settle };
      function settle(error: NotPublishedError | null): void {
        clearTimeout(timer);
        pending.delete(number);
        if (!sending.isOpen && pending.size === 0) void sending.link.close();
        if (error === null) resolve();
        else reject(error);
      }
      pending.set(number, entry);
      const onConfirm = (error: unknown): void => {
        const outcome = outcomeOf(entry, queue, error);
        // A channel that met a queue while no node led it may go on to ask the node that is gone: RabbitMQ 3.10 does.
        if (
          outcome?.fault === 'refused' &&
          performance.now() - sending.beganMs > REFUSED_AGAIN_MS
        ) {
          sending.isOpen = false;
        }
        settle(outcome);
      };
      try {
        channel.publish(
          exchange,
          routingKey,
          asBuffer(content),
          { ...options, headers },
          onConfirm,
        );
      } catch (error) {
        settle(new NotPublishedError(queue, 'unknown', error));
      }
    });
  }
}

/** The broker confirms what it returned as well, but says first that it is returned. */
function outcomeOf(entry: Pending, queue: string, error: unknown): NotPublishedError | null {
  if (entry.isReturned) return new NotPublishedError(queue, 'returned');
  if (!error) return null;
  const isNack = error instanceof Error && error.message === 'message nacked';
  return new NotPublishedError(queue, isNack ? 'refused' : 'unknown', error);
}

function asBuffer(content: Uint8Array): Buffer {
  return Buffer.isBuffer(content)
    ? content
    : Buffer.from(content.buffer, content.byteOffset, content.byteLength);
}

/**
 * A queue of messages in one process, with delays and dead letters: the simplest source, for tests and for trying out.
 * What is in it is gone with the process.
 */

import type {
  DeadLetter,
  DeadLetterNote,
  DeadLetters,
  Delivery,
  Envelope,
  MessageSource,
  SourceEvents,
} from '../consumer/contracts.ts';
import { newEnvelope, type Publication, type Publisher } from '../consumer/publication.ts';
import { type Clock, systemClock, type Timer } from '../core/clock.ts';
import { InvalidArgumentError } from '../core/errors.ts';
import { checkClock } from '../core/options.ts';

export interface MemoryQueueOptions {
  /** Default: the system's. */
  readonly clock?: Clock;
}

export interface MemorySourceOptions {
  /** How many messages may be delivered and not settled. Default 1,000. */
  readonly prefetch?: number;
}

/** A message to publish. Unlike other publishers this one can leave things out, to see what becomes of it. */
export interface MemoryPublication extends Omit<Publication, 'id'> {
  /** Default: a random UUID; `null` leaves it out. */
  readonly id?: string | null;
  /** In ms since 1970. Default now; `null` leaves it out. */
  readonly publishedAtMs?: number | null;
}

interface Entry {
  readonly envelope: Envelope;
  /** The order of arrival: what is given back returns to its place. */
  readonly order: number;
  isRedelivered: boolean;
}

interface Delayed {
  readonly dueMs: number;
  readonly envelope: Envelope;
}

/** Entries that were taken are dropped after so many. */
const MAX_TAKEN = 10_000;

/** The queue that sources share, as processes share a broker. */
export class MemoryQueue implements Publisher {
  readonly #clock: Clock;
  readonly #consumers: QueueConsumer[] = [];
  #ready: Entry[] = [];
  /** Entries before this one are taken: to take one by one from a long array would move all the others each time. */
  #head = 0;
  readonly #delayed: Delayed[] = [];
  readonly #dead: DeadLetter[] = [];
  #arrivals = 0;
  #turn = 0;
  #isPumping = false;
  #timer: Timer;

  constructor(options: MemoryQueueOptions = {}) {
    this.#clock = options?.clock ?? systemClock;
    checkClock(this.#clock);
  }

  /** What is in it: to be delivered, delivered and not settled, to come back after a delay, and dead. */
  get depth(): { ready: number; unsettled: number; delayed: number; dead: number } {
    return {
      ready: this.#ready.length - this.#head,
      unsettled: this.#consumers.reduce((sum, { unsettled }) => sum + unsettled.size, 0),
      delayed: this.#delayed.length,
      dead: this.#dead.length,
    };
  }

  /** Resolves with the id, or with the empty text when there is none. */
  async publish(publication: MemoryPublication): Promise<string> {
    const { id = crypto.randomUUID(), publishedAtMs = this.#clock.wallMs() } = publication ?? {};
    this.#arrive(newEnvelope(publication, id, publishedAtMs));
    return id ?? '';
  }

  /** Publishers are closed; this one holds nothing. */
  async close(): Promise<void> {}

  /** Takes all messages away from their consumers and delivers them again, as when connections break. */
  cut(): void {
    for (const { unsettled } of this.#consumers) {
      const entries = [...unsettled.values()];
      unsettled.clear();
      this.giveBack(entries);
    }
  }

  deadLetters(): DeadLetters {
    return {
      list: async (most) => this.#dead.slice(0, most),
      replay: async (wants) => this.#replay(wants),
      close: async () => {},
    };
  }

  /** @internal */
  attach(consumer: QueueConsumer): void {
    this.#consumers.push(consumer);
    this.#pump();
    this.#arm();
  }

  /** @internal What it has not settled returns to its place. */
  detach(consumer: QueueConsumer): void {
    const index = this.#consumers.indexOf(consumer);
    if (index === -1) return;
    this.#consumers.splice(index, 1);
    this.giveBack(consumer.unsettled.values());
    consumer.unsettled.clear();
    this.#arm();
  }

  /** @internal */
  giveBack(entries: Iterable<Entry>): void {
    for (const entry of entries) {
      entry.isRedelivered = true;
      const place = this.#ready.findIndex(
        (other, index) => index >= this.#head && other.order > entry.order,
      );
      this.#ready.splice(place === -1 ? this.#ready.length : place, 0, entry);
    }
    this.#pump();
  }

  /** @internal There is room at a consumer. */
  settled(): void {
    this.#pump();
  }

  /** @internal */
  delay(envelopes: readonly Envelope[], delayMs: number): void {
    if (!(delayMs >= 0)) throw new InvalidArgumentError('a delay is a number from 0');
    const dueMs = this.#clock.monotonicMs() + delayMs;
    for (const envelope of envelopes) this.#delayed.push({ dueMs, envelope });
    this.#delayed.sort((a, b) => a.dueMs - b.dueMs);
    this.#arm();
  }

  /** @internal */
  bury(envelopes: readonly Envelope[], note: DeadLetterNote): void {
    const deadSinceMs = this.#clock.wallMs();
    for (const envelope of envelopes) this.#dead.push({ ...note, envelope, deadSinceMs });
  }

  #replay(wants: (letter: DeadLetter) => boolean): number {
    const chosen = this.#dead.filter(wants);
    const rest = this.#dead.filter((letter) => !chosen.includes(letter));
    this.#dead.splice(0, this.#dead.length, ...rest);
    const publishedAtMs = this.#clock.wallMs();
    for (const { envelope } of chosen) {
      const counts = { busyCount: 0, failedCount: 0 };
      this.#arrive({ ...envelope, ...counts, publishedAtMs, isReplay: true });
    }
    return chosen.length;
  }

  #arrive(envelope: Envelope): void {
    this.#arrivals += 1;
    this.#ready.push({ envelope, order: this.#arrivals, isRedelivered: false });
    this.#pump();
  }

  /** Later, as from any broker: nobody is called inside the call that causes it. */
  #pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    queueMicrotask(() => {
      this.#isPumping = false;
      for (let next = this.#nextConsumer(); next; next = this.#nextConsumer()) {
        const entry = this.#take();
        if (!entry) return;
        next.deliver(entry);
      }
    });
  }

  #take(): Entry | undefined {
    const entry = this.#ready[this.#head];
    this.#head += 1;
    if (this.#head >= this.#ready.length || this.#head > MAX_TAKEN) {
      this.#ready = this.#ready.slice(this.#head);
      this.#head = 0;
    }
    return entry;
  }

  /** In turns, whoever has room. */
  #nextConsumer(): QueueConsumer | undefined {
    for (let tries = 0; tries < this.#consumers.length; tries += 1) {
      this.#turn = (this.#turn + 1) % this.#consumers.length;
      const consumer = this.#consumers[this.#turn];
      if (consumer?.hasRoom()) return consumer;
    }
    return undefined;
  }

  /** One timer, for the first that is due, and only while somebody consumes. */
  #arm(): void {
    this.#clock.clearTimer(this.#timer);
    this.#timer = undefined;
    const [first] = this.#delayed;
    if (!first || this.#consumers.length === 0) return;
    const nowMs = this.#clock.monotonicMs();
    const look = (): void => {
      const untilMs = this.#clock.monotonicMs();
      while (this.#delayed[0] && this.#delayed[0].dueMs <= untilMs) {
        this.#arrive((this.#delayed.shift() as Delayed).envelope);
      }
      this.#arm();
    };
    this.#timer = this.#clock.setTimer(look, Math.max(1, first.dueMs - nowMs), true);
  }
}

/** @internal */
interface QueueConsumer {
  readonly unsettled: Map<Delivery, Entry>;
  hasRoom(): boolean;
  deliver(entry: Entry): void;
}

class MemorySource implements MessageSource, QueueConsumer {
  readonly name: string = 'memory';
  readonly unsettled = new Map<Delivery, Entry>();
  readonly #queue: MemoryQueue;
  readonly #prefetch: number;
  #events: SourceEvents | null = null;
  #isStopped = false;

  constructor(queue: MemoryQueue, prefetch: number) {
    this.#queue = queue;
    this.#prefetch = prefetch;
  }

  async open(events: SourceEvents): Promise<void> {
    if (this.#events) throw new Error('the memory source is open already');
    this.#events = events;
    this.#queue.attach(this);
  }

  hasRoom(): boolean {
    return !this.#isStopped && this.unsettled.size < this.#prefetch;
  }

  deliver(entry: Entry): void {
    const { unsettled } = this;
    const delivery: Delivery = {
      envelope: entry.envelope,
      isRedelivered: entry.isRedelivered,
      isLive: () => unsettled.has(delivery),
    };
    unsettled.set(delivery, entry);
    this.#events?.delivered(delivery);
  }

  async acknowledge(deliveries: readonly Delivery[]): Promise<void> {
    for (const delivery of deliveries) this.unsettled.delete(delivery);
    this.#queue.settled();
  }

  async release(deliveries: readonly Delivery[]): Promise<void> {
    const entries: Entry[] = [];
    for (const delivery of deliveries) {
      const entry = this.unsettled.get(delivery);
      if (entry) entries.push(entry);
      this.unsettled.delete(delivery);
    }
    this.#queue.giveBack(entries);
  }

  async republish(envelopes: readonly Envelope[], delayMs: number): Promise<void> {
    this.#queue.delay(envelopes, delayMs);
  }

  async deadLetter(envelopes: readonly Envelope[], note: DeadLetterNote): Promise<void> {
    this.#queue.bury(envelopes, note);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
  }

  async close(): Promise<void> {
    this.#isStopped = true;
    this.#queue.detach(this);
  }
}

/** A source for one consumer. Consumers of one queue share its messages. */
export function memorySource(queue: MemoryQueue, options: MemorySourceOptions = {}): MessageSource {
  if (!(queue instanceof MemoryQueue)) throw new InvalidArgumentError('give a MemoryQueue');
  const { prefetch = 1_000 } = options ?? {};
  if (!Number.isInteger(prefetch) || prefetch < 1) {
    throw new InvalidArgumentError('prefetch is a whole number from 1');
  }
  return new MemorySource(queue, prefetch);
}

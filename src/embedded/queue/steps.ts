/**
 * A queue as records, and the steps on it. Each is made in one transaction, whole or not at all.
 *
 * A message is in one place at a time: ready, with a consumer, waiting for its delay, or among the dead letters. It
 * keeps its number when it goes back from a consumer, and thus its place.
 */
import type { DeadLetterNote, Envelope } from '../../consumer/contracts.ts';
import type { RecordKey, RecordsStep } from '../records/engine.ts';

/** An envelope as it is stored. */
export type StoredEnvelope = Omit<Envelope, 'content'> & { readonly content: Uint8Array };

interface Stored {
  readonly envelope: StoredEnvelope;
  /** It was with a consumer before. */
  readonly isRedelivered: boolean;
}

export interface StoredDeadLetter extends DeadLetterNote {
  readonly envelope: StoredEnvelope;
  readonly deadSinceMs: number;
}

export type Taken = readonly [number: number, stored: Stored];

export interface TakeAnswer {
  readonly taken: readonly Taken[];
  /** In how many milliseconds the next delay will be over; `null` when nothing waits. */
  readonly nextDueMs: number | null;
}

export type Numbered = readonly [number: number, letter: StoredDeadLetter];

export type QueueCall =
  | { readonly is: 'enter'; readonly queue: string }
  | { readonly is: 'leave'; readonly queue: string; readonly consumer: string }
  | {
      readonly is: 'take';
      readonly queue: string;
      readonly consumer: string;
      readonly most: number;
    }
  | {
      readonly is: 'acknowledge' | 'release';
      readonly queue: string;
      readonly consumer: string;
      readonly numbers: readonly number[];
    }
  | {
      readonly is: 'publish';
      readonly queue: string;
      readonly envelopes: readonly StoredEnvelope[];
      readonly delayMs: number;
    }
  | {
      readonly is: 'bury';
      readonly queue: string;
      readonly envelopes: readonly StoredEnvelope[];
      readonly note: DeadLetterNote;
    }
  | { readonly is: 'list'; readonly queue: string; readonly after: number; readonly most: number }
  | { readonly is: 'replay'; readonly queue: string; readonly numbers: readonly number[] };

/** Places of messages, which follow the queue's name in their keys. */
const READY = 'ready';
/** By consumer. */
const TAKEN = 'taken';
/** By the time when its delay is over. */
const DELAYED = 'delayed';
const DEAD = 'dead';
/** Consumers, who want to be woken. */
const CONSUMER = 'consumer';
const COUNTER: RecordKey = ['queue', 'last number'];

/** Of the messages whose delay is over, so many come back in one step: others want their turn. */
const DUE_A_STEP = 500;
const BEHIND_ALL: number = Number.MAX_VALUE;

export function queuePart(step: RecordsStep, call: QueueCall): unknown {
  const queue = new Queue(step, call.queue);
  switch (call.is) {
    case 'enter':
      return queue.enter();
    case 'leave':
      return queue.leave(call.consumer);
    case 'take':
      return queue.take(call.consumer, call.most);
    case 'acknowledge':
      for (const number of call.numbers) queue.remove(TAKEN, call.consumer, number);
      return null;
    case 'release':
      for (const number of call.numbers) queue.putBack(call.consumer, number);
      return queue.wake();
    case 'publish':
      return queue.publish(call.envelopes, call.delayMs);
    case 'bury':
      return queue.bury(call.envelopes, call.note);
    case 'list':
      return queue.list(call.after, call.most);
    case 'replay':
      return queue.replay(call.numbers);
  }
}

class Queue {
  readonly #step: RecordsStep;
  readonly #name: string;

  constructor(step: RecordsStep, name: string) {
    this.#step = step;
    this.#name = name;
  }

  /** A new consumer; the part before the last dot is the channel of its process. */
  enter(): string {
    const consumer = `${this.#step.channel}.${this.#nextNumber()}`;
    this.#put([CONSUMER, consumer], true);
    return consumer;
  }

  /** Whatever the consumer still had is ready again. */
  leave(consumer: string): null {
    for (const number of this.#numbersOf(consumer)) this.putBack(consumer, number);
    this.remove(CONSUMER, consumer);
    return this.wake();
  }

  take(consumer: string, most: number): TakeAnswer {
    this.#takeFromTheDead();
    const nextDueMs = this.#comeBack();
    const { records } = this.#step;
    const taken: Taken[] = [];
    for (const { key, value } of [...records.getRange(this.#range([READY], most))]) {
      const number = key.at(-1) as number;
      const stored = value as Stored;
      records.removeSync(key);
      this.#put([TAKEN, consumer, number], { ...stored, isRedelivered: true });
      taken.push([number, stored]);
    }
    return { taken, nextDueMs };
  }

  publish(envelopes: readonly StoredEnvelope[], delayMs: number): null {
    const dueMs = this.#step.nowMs + delayMs;
    for (const envelope of envelopes) {
      const stored: Stored = { envelope, isRedelivered: false };
      const number = this.#nextNumber();
      this.#put(delayMs > 0 ? [DELAYED, dueMs, number] : [READY, number], stored);
    }
    return this.wake();
  }

  bury(envelopes: readonly StoredEnvelope[], note: DeadLetterNote): null {
    for (const envelope of envelopes) {
      const letter: StoredDeadLetter = { ...note, envelope, deadSinceMs: this.#step.nowMs };
      this.#put([DEAD, this.#nextNumber()], letter);
    }
    return null;
  }

  list(after: number, most: number): readonly Numbered[] {
    const entries = this.#step.records.getRange(this.#range([DEAD], most, after + 1));
    return [...entries].map(({ key, value }) => [key.at(-1) as number, value as StoredDeadLetter]);
  }

  replay(numbers: readonly number[]): number {
    let count = 0;
    for (const number of numbers) {
      const letter = this.#get<StoredDeadLetter>([DEAD, number]);
      if (letter === undefined) continue;
      this.remove(DEAD, number);
      const again = {
        isReplay: true,
        publishedAtMs: this.#step.nowMs,
        busyCount: 0,
        failedCount: 0,
      };
      this.publish([{ ...letter.envelope, ...again }], 0);
      count += 1;
    }
    return count;
  }

  putBack(consumer: string, number: number): void {
    const stored = this.#get<Stored>([TAKEN, consumer, number]);
    if (stored === undefined) return;
    this.remove(TAKEN, consumer, number);
    this.#put([READY, number], stored);
  }

  remove(...place: RecordKey): void {
    this.#step.records.removeSync(this.#key(place));
  }

  wake(): null {
    for (const consumer of this.#consumers()) {
      this.#step.tell(channelOf(consumer), { is: 'available', key: this.#name });
    }
    return null;
  }

  /** What the consumers of ended processes had is ready again. */
  #takeFromTheDead(): void {
    for (const consumer of this.#consumers()) {
      if (this.#step.isGone(channelOf(consumer))) this.leave(consumer);
    }
  }

  /** Whatever has waited long enough goes behind what is ready. */
  #comeBack(): number | null {
    const { records, nowMs } = this.#step;
    for (const { key, value } of [...records.getRange(this.#range([DELAYED], DUE_A_STEP))]) {
      const dueMs = key.at(-2) as number;
      if (dueMs > nowMs) return dueMs - nowMs;
      records.removeSync(key);
      this.#put([READY, this.#nextNumber()], value);
    }
    const [next] = [...records.getKeys(this.#range([DELAYED], 1))];
    return next === undefined ? null : Math.max(0, (next.at(-2) as number) - nowMs);
  }

  #consumers(): string[] {
    const keys = this.#step.records.getKeys(this.#range([CONSUMER], Number.POSITIVE_INFINITY, ''));
    return [...keys].map((key) => key.at(-1) as string);
  }

  #numbersOf(consumer: string): number[] {
    const range = this.#range([TAKEN, consumer], Number.POSITIVE_INFINITY);
    return [...this.#step.records.getKeys(range)].map((key) => key.at(-1) as number);
  }

  #nextNumber(): number {
    const { records } = this.#step;
    const next = ((records.get([...COUNTER]) as number | undefined) ?? 0) + 1;
    records.putSync([...COUNTER], next);
    return next;
  }

  #get<Value>(place: RecordKey): Value | undefined {
    return this.#step.records.get(this.#key(place)) as Value | undefined;
  }

  #put(place: RecordKey, value: unknown): void {
    this.#step.records.putSync(this.#key(place), value);
  }

  #key(place: RecordKey): (string | number)[] {
    return ['queue', this.#name, ...place];
  }

  /** All below this place. Numbers sort before texts, and texts by their characters. */
  #range(
    place: RecordKey,
    limit: number,
    from: string | number = 0,
  ): { start: (string | number)[]; end: (string | number)[]; limit?: number } {
    const end = typeof from === 'string' ? '\u{10ffff}' : BEHIND_ALL;
    const range = { start: this.#key([...place, from]), end: this.#key([...place, end]) };
    return Number.isFinite(limit) ? { ...range, limit } : range;
  }
}

function channelOf(consumer: string): string {
  return consumer.slice(0, consumer.lastIndexOf('.'));
}

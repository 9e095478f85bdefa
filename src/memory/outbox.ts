/**
 * An outbox in one process: the simplest one. Entries are claimed for a while, so that a consumer which was stopped or
 * has failed does not keep them.
 */

import type { Delivery, Envelope, Outbox, OutboxDepth } from '../consumer/contracts.ts';
import { type Clock, systemClock } from '../core/clock.ts';
import { checkClock } from '../core/options.ts';

export interface MemoryOutboxOptions {
  /** Default: the system's. */
  readonly clock?: Clock;
}

interface Entry {
  readonly envelope: Envelope;
  readonly putAtMs: number;
  dueMs: number;
  /** Who has it, if its time is not over. */
  claim: { readonly delivery: Delivery; readonly untilMs: number } | null;
  wasClaimed: boolean;
}

class MemoryOutbox implements Outbox {
  readonly name: string = 'memory';
  readonly #clock: Clock;
  readonly #entries = new Set<Entry>();
  /** Of claims, while they stand. */
  readonly #claimed = new Map<Delivery, Entry>();

  constructor(options: MemoryOutboxOptions) {
    this.#clock = options?.clock ?? systemClock;
    checkClock(this.#clock);
  }

  async open(): Promise<void> {}

  async put(envelopes: readonly Envelope[], delayMs: number): Promise<void> {
    for (const envelope of envelopes) this.#add(envelope, this.#clock.monotonicMs(), delayMs);
  }

  async claim(
    most: number,
    leaseMs: number,
  ): Promise<{ deliveries: readonly Delivery[]; nextDueMs: number | null }> {
    const nowMs = this.#clock.monotonicMs();
    // What is claimed is due when the claim is over.
    const dueMs = ({ claim, dueMs }: Entry): number => Math.max(dueMs, claim?.untilMs ?? 0);
    const inOrder = [...this.#entries].sort((a, b) => dueMs(a) - dueMs(b));
    const due = inOrder.filter((entry) => dueMs(entry) <= nowMs).slice(0, most);
    const next = inOrder[due.length];
    return {
      deliveries: due.map((entry) => this.#deliver(entry, nowMs + leaseMs)),
      nextDueMs: next ? Math.max(0, dueMs(next) - nowMs) : null,
    };
  }

  async acknowledge(deliveries: readonly Delivery[]): Promise<void> {
    for (const entry of this.#end(deliveries)) this.#entries.delete(entry);
  }

  async release(deliveries: readonly Delivery[]): Promise<void> {
    for (const entry of this.#end(deliveries)) entry.dueMs = this.#clock.monotonicMs();
  }

  async putBack(
    deliveries: readonly Delivery[],
    envelopes: readonly Envelope[],
    delayMs: number,
  ): Promise<void> {
    for (const [index, delivery] of deliveries.entries()) {
      const [entry] = this.#end([delivery]);
      const envelope = envelopes[index];
      if (!entry || !envelope) continue;
      this.#entries.delete(entry);
      this.#add(envelope, entry.putAtMs, delayMs);
    }
  }

  async depth(): Promise<OutboxDepth> {
    const nowMs = this.#clock.monotonicMs();
    const ages = [...this.#entries].map(({ putAtMs }) => nowMs - putAtMs);
    return { entries: ages.length, oldestAgeMs: ages.reduce((a, b) => Math.max(a, b), 0) };
  }

  async close(): Promise<void> {}

  #add(envelope: Envelope, putAtMs: number, delayMs: number): void {
    const dueMs = this.#clock.monotonicMs() + delayMs;
    this.#entries.add({ envelope, putAtMs, dueMs, claim: null, wasClaimed: false });
  }

  #deliver(entry: Entry, untilMs: number): Delivery {
    if (entry.claim) this.#claimed.delete(entry.claim.delivery);
    const delivery: Delivery = {
      envelope: entry.envelope,
      isRedelivered: entry.wasClaimed,
      isLive: () => this.#claimed.has(delivery) && this.#clock.monotonicMs() < untilMs,
    };
    entry.claim = { delivery, untilMs };
    entry.wasClaimed = true;
    this.#claimed.set(delivery, entry);
    return delivery;
  }

  /** The entries of claims that still stand. */
  #end(deliveries: readonly Delivery[]): Entry[] {
    const entries: Entry[] = [];
    for (const delivery of deliveries) {
      const entry = this.#claimed.get(delivery);
      if (!entry || !delivery.isLive()) continue;
      this.#claimed.delete(delivery);
      entry.claim = null;
      entries.push(entry);
    }
    return entries;
  }
}

/** An outbox for one process; all of its consumers may share it. What is in it is gone with the process. */
export function memoryOutbox(options: MemoryOutboxOptions = {}): Outbox {
  return new MemoryOutbox(options);
}

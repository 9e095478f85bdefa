/**
 * An outbox in a folder, for the processes of one machine.
 */
import { randomUUID } from 'node:crypto';
import type { Delivery, Envelope, Outbox, OutboxDepth } from '../../consumer/contracts.ts';
import { InvalidArgumentError } from '../../core/errors.ts';
import {
  type RecordsOptions,
  type RecordsSettings,
  RecordsUser,
  readRecordsOptions,
} from '../records/client.ts';
import type { ClaimAnswer, OutboxCall, Settled } from './steps.ts';

export interface EmbeddedOutboxOptions extends RecordsOptions {
  /** Which outbox: workers with the same name share one. Default `outbox`. */
  readonly name?: string;
}

const MAX_NAME_LENGTH = 100;

class Claimed implements Delivery {
  readonly number: number;
  readonly envelope: Envelope;
  readonly isRedelivered: boolean;
  readonly #endsMs: number;

  constructor(number: number, envelope: Envelope, isRedelivered: boolean, endsMs: number) {
    this.number = number;
    this.envelope = envelope;
    this.isRedelivered = isRedelivered;
    this.#endsMs = endsMs;
  }

  isLive(): boolean {
    return performance.now() < this.#endsMs;
  }
}

type PartOf<Call> = Call extends OutboxCall ? Omit<Call, 'name'> : never;

export class EmbeddedOutbox implements Outbox {
  readonly name: string = 'embedded';
  readonly #space: string;
  readonly #settings: RecordsSettings;
  readonly #owner = randomUUID();
  #records: RecordsUser | null = null;

  constructor(options: EmbeddedOutboxOptions) {
    this.#settings = readRecordsOptions(options);
    const { name = 'outbox' } = options;
    if (typeof name !== 'string' || name === '' || name.length > MAX_NAME_LENGTH) {
      throw new InvalidArgumentError(`name is text of 1 to ${MAX_NAME_LENGTH} characters`);
    }
    this.#space = name;
  }

  async open(): Promise<void> {
    if (this.#records !== null) throw new Error('the embedded outbox is open already');
    this.#records = await RecordsUser.open(this.#settings);
  }

  async put(envelopes: readonly Envelope[], delayMs: number): Promise<void> {
    if (envelopes.length === 0) return;
    await this.#call({ is: 'put', envelopes, delayMs: wholeMs(delayMs) });
  }

  async claim(
    most: number,
    leaseMs: number,
  ): Promise<{ deliveries: readonly Delivery[]; nextDueMs: number | null }> {
    const endsMs = performance.now() + leaseMs;
    const { entries, nextDueMs } = await this.#call<ClaimAnswer>({
      is: 'claim',
      owner: this.#owner,
      most,
      leaseMs: wholeMs(leaseMs),
    });
    const deliveries = entries.map(
      ([number, envelope, wasClaimed]) => new Claimed(number, envelope, wasClaimed, endsMs),
    );
    return { deliveries, nextDueMs };
  }

  async acknowledge(deliveries: readonly Delivery[]): Promise<void> {
    const entries = liveOnes(deliveries);
    if (entries.length > 0) await this.#call({ is: 'remove', owner: this.#owner, entries });
  }

  release(deliveries: readonly Delivery[]): Promise<void> {
    return this.#return(liveOnes(deliveries), 0);
  }

  putBack(
    deliveries: readonly Delivery[],
    envelopes: readonly Envelope[],
    delayMs: number,
  ): Promise<void> {
    return this.#return(liveOnes(deliveries, envelopes), delayMs);
  }

  depth(): Promise<OutboxDepth> {
    return this.#call({ is: 'depth' });
  }

  /** What is claimed stays claimed until its lease ends. */
  async close(): Promise<void> {
    const records = this.#records;
    this.#records = null;
    await records?.close();
  }

  async #return(entries: readonly Settled[], delayMs: number): Promise<void> {
    if (entries.length === 0) return;
    const owner = this.#owner;
    await this.#call({ is: 'return', owner, entries, delayMs: wholeMs(delayMs) });
  }

  async #call<Answer>(call: PartOf<OutboxCall>): Promise<Answer> {
    if (this.#records === null) throw new Error('the embedded outbox is not open');
    return this.#records.call('outbox', { ...call, name: this.#space });
  }
}

function liveOnes(
  deliveries: readonly Delivery[],
  envelopes: readonly Envelope[] = [],
): readonly Settled[] {
  return deliveries.flatMap((delivery, index) => {
    if (!(delivery instanceof Claimed) || !delivery.isLive()) return [];
    const envelope = envelopes[index];
    return [envelope === undefined ? [delivery.number] : [delivery.number, envelope]];
  });
}

function wholeMs(ms: number): number {
  return Math.max(0, Math.ceil(ms));
}

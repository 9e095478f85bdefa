/**
 * A durable queue that several processes share: a small stand-in for the broker of the story.
 *
 * A message is delivered to one instance and stays here until it is acknowledged. What a dead instance had not
 * acknowledged is delivered again to the others.
 */
import type { Database, RootDatabase } from 'lmdb';
import type { Contribution } from './input.ts';

/** How often one message may be delivered. More than that is a fault of the program, not of its surroundings. */
const MAX_DELIVERIES = 100;

/** A message as it is stored. Cents are decimal text, because the encoding has no whole numbers of any size. */
interface Message {
  readonly account: string;
  readonly cents: string;
  readonly deliveries: number;
}

export interface Delivery {
  readonly id: number;
  readonly account: string;
  readonly cents: bigint;
  /** The instance that it was delivered to. */
  readonly to: number;
}

export class Queue {
  readonly #environment: RootDatabase;
  /** By number of arrival. */
  readonly #ready: Database<Message, number>;
  /** Delivered and not yet acknowledged, by instance and number of arrival. */
  readonly #unacknowledged: Database<Message, [number, number]>;

  constructor(environment: RootDatabase) {
    this.#environment = environment;
    this.#ready = environment.openDB('ready', {});
    this.#unacknowledged = environment.openDB('unacknowledged', {});
  }

  /** Puts contributions at the end, numbered from `firstId`, all or none. */
  async publish(contributions: readonly Contribution[], firstId: number): Promise<void> {
    await this.#environment.transaction(() => {
      for (const [index, { account, cents }] of contributions.entries()) {
        this.#ready.putSync(firstId + index, { account, cents: cents.toString(), deliveries: 0 });
      }
    });
  }

  /** Delivers up to `limit` messages to an instance; `null` when there is nothing left, not even with others. */
  take(to: number, limit: number): Promise<Delivery[] | null> {
    return this.#environment.transaction(() => {
      const taken = [...this.#ready.getRange({ limit })];
      if (taken.length === 0 && isEmpty(this.#unacknowledged)) return null;
      const hopeless = taken.find(({ value }) => value.deliveries >= MAX_DELIVERIES);
      if (hopeless) {
        throw new Error(`message ${hopeless.key} was delivered ${MAX_DELIVERIES} times in vain`);
      }
      for (const { key: id, value: message } of taken) {
        this.#ready.removeSync(id);
        const deliveries = message.deliveries + 1;
        this.#unacknowledged.putSync([to, id], { ...message, deliveries });
      }
      return taken.map(({ key: id, value: { account, cents } }) => {
        return { id, account, cents: BigInt(cents), to };
      });
    });
  }

  /** Only inside a transaction: whether this delivery still waits for its acknowledgement. */
  isUnacknowledged(delivery: Delivery): boolean {
    return this.#unacknowledged.doesExist([delivery.to, delivery.id]);
  }

  /** Only inside a transaction: the message is done, and leaves the queue for good. */
  acknowledge(delivery: Delivery): void {
    this.#unacknowledged.removeSync([delivery.to, delivery.id]);
  }

  /** Gives a message back, to be delivered again. A message that was acknowledged meanwhile stays away. */
  async putBack(delivery: Delivery): Promise<void> {
    await this.#environment.transaction(() => this.#makeReady([delivery.to, delivery.id]));
  }

  /** Gives back all that a dead instance had not acknowledged; says how many. Call it after the process has ended. */
  putBackAllOf(instance: number): Promise<number> {
    return this.#environment.transaction(() => {
      const range = { start: [instance], end: [instance + 1] } as unknown as {
        start: [number, number];
        end: [number, number];
      };
      const keys = [...this.#unacknowledged.getKeys(range)];
      for (const key of keys) this.#makeReady(key);
      return keys.length;
    });
  }

  /** The messages that nobody has taken yet, in order of arrival. */
  *contents(limit: number): Generator<Contribution> {
    for (const { value } of this.#ready.getRange({ limit })) {
      yield { account: value.account, cents: BigInt(value.cents) };
    }
  }

  /** How many messages are not yet done. */
  remaining(): number {
    return countOf(this.#ready) + countOf(this.#unacknowledged);
  }

  #makeReady(key: [number, number]): void {
    const message = this.#unacknowledged.get(key);
    if (!message) return;
    this.#unacknowledged.removeSync(key);
    this.#ready.putSync(key[1], message);
  }
}

function isEmpty(database: Database<unknown, [number, number]>): boolean {
  return [...database.getKeys({ limit: 1 })].length === 0;
}

function countOf(database: Pick<Database, 'getStats'>): number {
  return (database.getStats() as { entryCount: number }).entryCount;
}

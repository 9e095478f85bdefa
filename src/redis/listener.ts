/**
 * The store's ear: connections of its own that are subscribed to its channels, one to each node that is needed.
 *
 * A channel lives in the slot of the locks that it speaks of, so that it moves with them. When a connection is lost, or
 * a slot goes to another node, everything that it heard is subscribed anew, and then the store is told that messages may
 * have been missed. A connection that dies in silence is found by a ping.
 */
import type { RedisClient, Subscriber } from './clients/client.ts';
import { LOCATE } from './scripts/locate.ts';
import { within } from './within.ts';

/** How often a connection is tried, in milliseconds. */
const PING_INTERVAL_MS = 1_000;
/** The first attempt to hear again comes after about this time, in milliseconds; each later one after twice as long. */
const REVIVE_FLOOR_MS = 20;
/** Later attempts come at the latest after this time, in milliseconds. */
const REVIVE_CEILING_MS = 1_000;

interface Ear {
  readonly node: string;
  readonly slots: Set<number>;
  readonly subscriber: Promise<Subscriber>;
  pinger: NodeJS.Timeout | null;
}

export interface ListenerEvents {
  message(text: string): void;
  /** Everything is heard again after a gap. */
  reset(): void;
}

export class Listener {
  readonly #client: RedisClient;
  readonly #channelOf: (slot: number) => string;
  readonly #events: ListenerEvents;
  readonly #timeoutMs: number;
  readonly #ears = new Map<string, Ear>();
  /** What is subscribed, and where. */
  readonly #heard = new Map<number, Ear>();
  readonly #pending = new Map<number, Promise<void>>();
  /** What was heard and is not any more. */
  readonly #lost = new Set<number>();
  #reviveTimer: NodeJS.Timeout | null = null;
  #attempt = 0;
  #isClosed = false;

  constructor(parts: {
    readonly client: RedisClient;
    readonly channelOf: (slot: number) => string;
    readonly events: ListenerEvents;
    readonly timeoutMs: number;
  }) {
    this.#client = parts.client;
    this.#channelOf = parts.channelOf;
    this.#events = parts.events;
    this.#timeoutMs = parts.timeoutMs;
  }

  /** `null` when the slot is heard already; otherwise settles when it is, or with the reason why it is not. */
  listen(slot: number): Promise<void> | null {
    const ear = this.#heard.get(slot);
    if (ear !== undefined && ear.node === this.#client.nodeOf(slot)) return null;
    let pending = this.#pending.get(slot);
    if (pending === undefined) {
      pending = this.#subscribe(slot).finally(() => this.#pending.delete(slot));
      // Whoever needs the answer waits for it; the others must not be hurt by it.
      pending.catch(() => {});
      this.#pending.set(slot, pending);
    }
    return pending;
  }

  /** As `listen`, but what was lost is left to the attempts that are under way: `null` as well. */
  listenFirst(slot: number): Promise<void> | null {
    return this.#lost.has(slot) ? null : this.listen(slot);
  }

  /** What hears the slot now, for `distrust` later. */
  heardBy(slot: number): object | null {
    return this.#heard.get(slot) ?? null;
  }

  /**
   * The server says that nobody listened, although `trusted` did when it was asked: begin anew. What began to listen
   * only afterwards is not meant, or answers that were under way would end it again and again.
   */
  distrust(slot: number, trusted: unknown = this.heardBy(slot)): void {
    const ear = this.#heard.get(slot);
    if (ear !== undefined && ear === trusted) this.#gone(ear);
  }

  close(): void {
    this.#isClosed = true;
    if (this.#reviveTimer !== null) clearTimeout(this.#reviveTimer);
    for (const ear of this.#ears.values()) this.#discard(ear);
    this.#ears.clear();
    this.#heard.clear();
    this.#lost.clear();
  }

  async #subscribe(slot: number): Promise<void> {
    const node = this.#client.nodeOf(slot);
    if (node === null) throw new Error(`no node is known for slot ${slot} at the moment`);
    const ear = this.#ears.get(node) ?? this.#open(node);
    ear.slots.add(slot);
    try {
      const subscriber = await ear.subscriber;
      await within(subscriber.subscribe(this.#channelOf(slot)), this.#timeoutMs, 'a subscription');
    } catch (cause) {
      if (!isMoved(cause)) this.#gone(ear);
      else this.#moved(slot, ear);
      throw cause;
    }
    if (this.#ears.get(node) !== ear) throw new Error('the subscriber was lost');
    this.#heard.set(slot, ear);
    this.#lost.delete(slot);
  }

  #open(node: string): Ear {
    const events = {
      message: (text: string): void => this.#events.message(text),
      gone: (): void => this.#gone(ear),
    };
    const ear: Ear = {
      node,
      slots: new Set(),
      subscriber: this.#client.subscriber(node, events, this.#timeoutMs),
      pinger: null,
    };
    this.#ears.set(node, ear);
    ear.subscriber.then(
      (subscriber) => {
        if (this.#ears.get(node) !== ear) return;
        ear.pinger = setInterval(() => this.#ping(ear, subscriber), PING_INTERVAL_MS);
        ear.pinger.unref();
      },
      () => this.#gone(ear),
    );
    return ear;
  }

  #ping(ear: Ear, subscriber: Subscriber): void {
    within(subscriber.ping(), this.#timeoutMs, 'a ping').catch(() => this.#gone(ear));
  }

  #gone(ear: Ear): void {
    if (this.#ears.get(ear.node) !== ear) return;
    this.#ears.delete(ear.node);
    this.#discard(ear);
    for (const slot of ear.slots) {
      if (this.#heard.get(slot) === ear) this.#heard.delete(slot);
      this.#lost.add(slot);
    }
    this.#reviveLater();
  }

  /** The slot is elsewhere, and the client does not know it yet. What else the connection hears, it goes on hearing. */
  #moved(slot: number, ear: Ear): void {
    ear.slots.delete(slot);
    if (this.#isClosed) return;
    this.#lost.add(slot);
    // Asking for a key of the slot makes the client look where it went.
    const asked = this.#client.evaluate(LOCATE, [this.#channelOf(slot)], []);
    within(asked, this.#timeoutMs, 'where a slot is').catch(() => {});
    this.#reviveLater();
  }

  #discard(ear: Ear): void {
    if (ear.pinger !== null) clearInterval(ear.pinger);
    ear.subscriber.then(
      (subscriber) => subscriber.close(),
      () => {},
    );
  }

  #reviveLater(): void {
    if (this.#isClosed || this.#reviveTimer !== null) return;
    const ceilingMs = Math.min(
      REVIVE_CEILING_MS,
      REVIVE_FLOOR_MS * 2 ** Math.min(this.#attempt, 10),
    );
    this.#attempt += 1;
    // Jittered: a server that is back must not meet all its clients at once.
    this.#reviveTimer = setTimeout(
      () => void this.#revive(),
      ceilingMs * (0.5 + Math.random() / 2),
    );
    this.#reviveTimer.unref();
  }

  async #revive(): Promise<void> {
    const subscriptions = [...this.#lost].map(async (slot) => this.listen(slot));
    const settled = await Promise.allSettled(subscriptions);
    this.#reviveTimer = null;
    if (this.#isClosed) return;
    if (settled.some((one) => one.status === 'rejected') || this.#lost.size > 0) {
      this.#reviveLater();
      return;
    }
    this.#attempt = 0;
    this.#events.reset();
  }
}

function isMoved(cause: unknown): boolean {
  return cause instanceof Error && cause.message.startsWith('MOVED ');
}

/**
 * Messages as handlers see them, and what the consumer has to remember of each until it is settled.
 */
import type { CommitMessage, Delivery, DeliveryOrigin, Envelope } from './contracts.ts';

/** What is known of a message before it has a key: what `keyOf`, `idOf` and `publishedAtOf` are given. */
export interface Incoming<Body> {
  readonly body: Body;
  /** The message as it travels: headers, content type, counts. */
  readonly envelope: Envelope;
  /** It was delivered before, and not acknowledged. */
  readonly isRedelivered: boolean;
}

/** A message, as reducers and handlers get it. */
export interface Message<Body> extends Incoming<Body> {
  readonly id: string;
  readonly key: string;
  /** When it was first published, in ms since 1970. `null` only for `handle`, when its producer did not say. */
  readonly publishedAtMs: number | null;
}

/** A source or an outbox, and how many of its deliveries are not settled. */
export interface Origin {
  readonly engine: DeliveryOrigin;
  inFlight: number;
}

/** One object for each message: it is the handler's message and the commit's at once. */
export class Item implements Message<unknown>, CommitMessage {
  readonly delivery: Delivery;
  readonly origin: Origin;
  /** By the monotonic clock, for latencies. */
  readonly deliveredAtMs: number;
  body: unknown;
  id = '';
  key = '';
  /** A commit sees a number: without one, a message gets to no reducer. */
  publishedAtMs: number = null as unknown as number;
  /** Other deliveries of the same message in the same batch. They end as this one does. */
  copies: Item[] | null = null;

  constructor(delivery: Delivery, origin: Origin, deliveredAtMs: number) {
    this.delivery = delivery;
    this.origin = origin;
    this.deliveredAtMs = deliveredAtMs;
  }

  get envelope(): Envelope {
    return this.delivery.envelope;
  }

  get isRedelivered(): boolean {
    return this.delivery.isRedelivered;
  }

  get isReplay(): boolean {
    return this.delivery.envelope.isReplay;
  }

  /** Whether settling it, or one of its copies, still means something. */
  isLive(): boolean {
    return this.delivery.isLive() || (this.copies?.some((copy) => copy.isLive()) ?? false);
  }
}

/** Every delivery by itself, copies included. */
export function withCopies(items: readonly Item[]): readonly Item[] {
  if (!items.some((item) => item.copies)) return items;
  return items.flatMap((item) => [item, ...withCopies(item.copies ?? [])]);
}

/** Each message once, in order of arrival. Copies stay with the first, or with a replay: that one clears a mark. */
export function foldCopies(items: readonly Item[]): readonly Item[] {
  if (items.length < 2) return items;
  const byId = new Map<string, Item>();
  for (const item of items) {
    const first = byId.get(item.id);
    const [main, copy] = first?.isReplay || !item.isReplay ? [first ?? item, item] : [item, first];
    byId.set(item.id, main);
    if (copy && copy !== main) {
      main.copies ??= [];
      main.copies.push(copy);
    }
  }
  return byId.size === items.length ? items : [...byId.values()];
}

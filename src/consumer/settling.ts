/**
 * How messages end: acknowledged, copied to come back later, dead-lettered, or given back. Whatever needs a copy is
 * acknowledged only when the copy is safe. So a crash in between makes a second copy, and never none.
 */
import type { Calls } from './calls.ts';
import type {
  DeadLetterNote,
  DeadLetterReason,
  Delivery,
  Envelope,
  Mark,
  MessageSource,
  Outbox,
  StateStore,
} from './contracts.ts';
import * as diagnostics from './diagnostics.ts';
import { type Item, type Origin, withCopies } from './message.ts';
import type { Metrics } from './metrics.ts';
import type { Settings } from './options.ts';
import type { Attempts } from './policies.ts';

/** A message and the error that its handler threw. */
export interface Failure {
  readonly item: Item;
  readonly cause: unknown;
}

interface Group {
  readonly origin: Origin;
  readonly deliveries: Delivery[];
}

/** Characters of an error that go with a dead letter. */
const MAX_DETAIL = 2_000;

export class Settling {
  readonly #calls: Calls;
  readonly #metrics: Metrics;
  readonly #settings: Settings;
  readonly #source: MessageSource;
  readonly #state: StateStore | null;

  constructor(settings: Settings, calls: Calls, metrics: Metrics) {
    this.#settings = settings;
    this.#calls = calls;
    this.#metrics = metrics;
    this.#source = settings.source;
    this.#state = settings.reduction?.state ?? null;
  }

  /** They took effect. */
  applied(items: readonly Item[]): void {
    this.#metrics.applied += items.length;
    this.#acknowledge(items);
  }

  /** They took effect before. */
  duplicates(items: readonly Item[]): void {
    this.#metrics.duplicates += items.length;
    this.#acknowledge(items);
  }

  /** Settles those that are known, and gives what is left. */
  known(items: readonly Item[], marks: ReadonlyMap<string, Mark>): readonly Item[] {
    if (marks.size === 0) return items;
    const applied = items.filter((item) => marks.get(item.id) === 'applied');
    const dead = items.filter((item) => marks.get(item.id) === 'dead-lettered' && !item.isReplay);
    if (applied.length > 0) this.duplicates(applied);
    if (dead.length > 0) {
      // Acknowledging it would lose it, if whoever marked it died before the letter was safe.
      this.dead(dead, 'dead-before', 'it is marked as dead-lettered; this copy came again');
    }
    const settled = new Set([...applied, ...dead]);
    return items.filter((item) => !settled.has(item));
  }

  /** Dead-letters those that the state refuses for their age, and gives what is left. */
  tooOld(items: readonly Item[], ids: readonly string[]): readonly Item[] {
    const refused = new Set(ids);
    const detail =
      `its time of first publishing is more than ${this.#state?.windowMs} ms away from now, ` +
      'and ids are remembered for no longer';
    this.dead(
      items.filter((item) => refused.has(item.id)),
      'too-old',
      detail,
    );
    return items.filter((item) => !refused.has(item.id));
  }

  /** They come again by themselves: nothing that is done about these deliveries would have an effect. */
  gone(item: Item): void {
    for (const { origin } of withCopies([item])) {
      this.#metrics.gone += 1;
      origin.inFlight -= 1;
    }
  }

  busy(key: string, items: readonly Item[], cause: Error): void {
    this.#metrics.busy += items.length;
    if (diagnostics.busy.hasSubscribers) {
      diagnostics.busy.publish({ key, messages: items.length, cause });
    }
    const { attempts } = this.#settings.busy;
    const later = new Map<number, Item[]>();
    const over: Item[] = [];
    for (const item of items) {
      const delayMs = nextDelayMs(attempts, item.envelope.busyCount + 1);
      const group = delayMs === null ? over : later.get(delayMs);
      if (group) group.push(item);
      else later.set(delayMs as number, [item]);
    }
    for (const [delayMs, group] of later) this.#calls.track(this.#defer('busy', group, delayMs));
    if (over.length > 0) this.dead(over, 'busy', cause.message);
  }

  failed(failures: readonly Failure[]): void {
    const { attempts } = this.#settings.failed;
    for (const { item, cause } of failures) {
      const failedCount = item.envelope.failedCount + 1;
      this.#metrics.failed += 1;
      if (diagnostics.failed.hasSubscribers) {
        diagnostics.failed.publish({ key: item.key, id: item.id, failedCount, cause });
      }
      const delayMs = nextDelayMs(attempts, failedCount);
      if (delayMs === null) this.dead([item], 'failed', describe(cause));
      else this.#calls.track(this.#defer('failed', [item], delayMs));
    }
  }

  /** Messages for a person, all of one key or without one. */
  dead(items: readonly Item[], reason: DeadLetterReason, detail: string): void {
    this.#calls.track(this.#bury(items, { reason, detail: detail.slice(0, MAX_DETAIL) }));
  }

  /** Gives back what was not worked on. */
  release(items: readonly Item[]): void {
    const all = withCopies(items);
    this.#metrics.released += all.length;
    for (const { origin, deliveries } of this.#settle(all)) {
      const release = () => origin.engine.release(deliveries);
      this.#calls.track(this.#calls.done('release', release, () => deliveries.some(isLive)));
    }
  }

  #acknowledge(items: readonly Item[]): void {
    const all = withCopies(items);
    this.#metrics.duplicates += all.length - items.length;
    this.#acknowledgeEach(all);
  }

  #acknowledgeEach(all: readonly Item[]): void {
    const nowMs = this.#settings.clock.monotonicMs();
    for (const item of all) this.#metrics.tookMs(nowMs - item.deliveredAtMs);
    for (const { origin, deliveries } of this.#settle(all)) {
      const acknowledge = () => origin.engine.acknowledge(deliveries);
      const done = this.#calls.done('acknowledge', acknowledge, () => deliveries.some(isLive));
      this.#calls.track(done);
    }
  }

  /** Their deliveries, by the place that they came from: nearly always one. */
  #settle(items: readonly Item[]): readonly Group[] {
    const groups: Group[] = [];
    let group: Group | undefined;
    for (const { origin, delivery } of items) {
      if (origin !== group?.origin) group = groups.find((one) => one.origin === origin);
      if (group === undefined) {
        group = { origin, deliveries: [] };
        groups.push(group);
      }
      group.deliveries.push(delivery);
      origin.inFlight -= 1;
    }
    return groups;
  }

  /** Copies that come back after the delay, one for each message, through where they came from or the policy's place. */
  async #defer(why: 'busy' | 'failed', items: readonly Item[], delayMs: number): Promise<void> {
    const outbox = this.#settings.busy.outbox?.engine ?? null;
    const fromOutbox = items.filter((item) => item.origin.engine === outbox);
    const fromSource = items.filter((item) => item.origin.engine !== outbox);
    if (fromSource.length > 0) await this.#copy(why, fromSource, delayMs, outbox);
    if (outbox && fromOutbox.length > 0) await this.#putBack(why, fromOutbox, delayMs, outbox);
  }

  async #copy(
    why: 'busy' | 'failed',
    items: readonly Item[],
    delayMs: number,
    outbox: Outbox | null,
  ): Promise<void> {
    const envelopes = items.map((item) => counted(item.envelope, why));
    const isSafe = outbox
      ? await this.#persist('put', () => outbox.put(envelopes, delayMs), items)
      : await this.#persist('republish', () => this.#source.republish(envelopes, delayMs), items);
    if (!isSafe) return;
    this.#metrics[`${why}Deferred`] += items.length;
    this.#acknowledge(items);
  }

  async #putBack(
    why: 'busy' | 'failed',
    items: readonly Item[],
    delayMs: number,
    outbox: Outbox,
  ): Promise<void> {
    // Copies as well, not the messages alone: of two deliveries of one entry only the later one still counts, and to
    // acknowledge that one would remove what is to come back.
    const all = withCopies(items);
    const entries = all.filter(({ origin }) => origin.engine === outbox);
    const others = all.filter(({ origin }) => origin.engine !== outbox);
    const deliveries = entries.map((entry) => entry.delivery);
    const envelopes = entries.map((entry) => counted(entry.envelope, why));
    const putBack = () => outbox.putBack(deliveries, envelopes, delayMs);
    if (!(await this.#persist('put-back', putBack, items))) return;
    this.#metrics[`${why}Deferred`] += entries.length;
    this.#settle(entries);
    this.#metrics.duplicates += others.length;
    this.#acknowledgeEach(others);
  }

  /** The mark first, so that no other copy is applied any more; then the letter; then the acknowledgement. */
  async #bury(items: readonly Item[], note: DeadLetterNote): Promise<void> {
    const letters = await this.#markDead(items);
    if (letters.length === 0) return;
    const envelopes = letters.map((item) => item.envelope);
    const deadLetter = () => this.#source.deadLetter(envelopes, note);
    if (!(await this.#persist('dead-letter', deadLetter, letters))) return;
    this.#metrics.deadLettered[note.reason] += letters.length;
    if (diagnostics.deadLettered.hasSubscribers) {
      diagnostics.deadLettered.publish({ ids: envelopes.map((one) => one.id), ...note });
    }
    this.#acknowledge(letters);
  }

  /** What is left to dead-letter: whatever had taken effect is acknowledged instead. */
  async #markDead(items: readonly Item[]): Promise<readonly Item[]> {
    const state = this.#state;
    const key = items[0]?.key;
    // Without a key, an id or a time no copy of it can be applied.
    if (!state || !key) return items;
    const marks = await this.#calls.insist(
      'mark-dead',
      () => state.markDead(key, items),
      () => items.some((item) => item.isLive()),
    );
    if (!marks) {
      this.#giveUp(items);
      return [];
    }
    const applied = items.filter((item) => marks.get(item.id) === 'applied');
    if (applied.length === 0) return items;
    this.duplicates(applied);
    return items.filter((item) => marks.get(item.id) !== 'applied');
  }

  /** Whether a copy of them is safe now. Otherwise they are not: they come again. */
  async #persist(
    operation: 'put' | 'republish' | 'put-back' | 'dead-letter',
    call: () => Promise<void>,
    items: readonly Item[],
  ): Promise<boolean> {
    const isSafe = await this.#calls.done(operation, call, () =>
      items.some((item) => item.isLive()),
    );
    if (!isSafe) this.#giveUp(items);
    return isSafe;
  }

  #giveUp(items: readonly Item[]): void {
    const isHere = (item: Item): boolean => item.isLive();
    this.release(items.filter(isHere));
    for (const item of items) if (!isHere(item)) this.gone(item);
  }
}

function isLive(delivery: Delivery): boolean {
  return delivery.isLive();
}

/** `null` when there is no further attempt. */
function nextDelayMs({ maxAttempts, delayMs }: Attempts, made: number): number | null {
  return made >= maxAttempts ? null : delayMs(made);
}

function counted(envelope: Envelope, why: 'busy' | 'failed'): Envelope {
  const { busyCount, failedCount } = envelope;
  return why === 'busy'
    ? { ...envelope, busyCount: busyCount + 1 }
    : { ...envelope, failedCount: failedCount + 1 };
}

/** Errors can be anything that was thrown. */
export function describe(cause: unknown): string {
  try {
    return cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
  } catch {
    // Not everything has a text.
    return typeof cause;
  }
}

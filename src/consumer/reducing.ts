/**
 * Exactly-once effect: load, leave out what is known, reduce, and commit in one atomic step; then acknowledge.
 *
 * A crash at any line leaves either no commit, and the messages are delivered again, or a commit that knows their ids.
 */
import type { Lease } from '../core/lease.ts';
import type { Calls } from './calls.ts';
import type { Commit, CommitOutcome, Mark } from './contracts.ts';
import type { Setback } from './diagnostics.ts';
import * as diagnostics from './diagnostics.ts';
import { type Base, KeptStates } from './kept.ts';
import type { Item } from './message.ts';
import type { Metrics } from './metrics.ts';
import type { Reduction, Settings } from './options.ts';
import type { Failure, Settling } from './settling.ts';
import { epochOf, isLost, isPromise, type Unfinished, type Work } from './work.ts';

/** Loads and commits for one batch, before its messages wait for the next lease. */
const MAX_ROUNDS = 16;

/** What the reducer made of some messages. */
interface Reduced {
  readonly text: string;
  readonly state: unknown;
  readonly done: readonly Item[];
  readonly failures: readonly Failure[];
}

export class Reducing implements Work {
  readonly #reduction: Reduction;
  readonly #calls: Calls;
  readonly #settling: Settling;
  readonly #metrics: Metrics;
  readonly #kept: KeptStates | null;
  readonly #commitPrefix: string = `${crypto.randomUUID()}:`;
  #commits = 0;

  constructor(
    reduction: Reduction,
    settings: Settings,
    calls: Calls,
    settling: Settling,
    metrics: Metrics,
  ) {
    this.#reduction = reduction;
    this.#calls = calls;
    this.#settling = settling;
    this.#metrics = metrics;
    // An unused lock is given back within twice its retention.
    const turnMs = Math.max(1_000, 2 * settings.acquire.retainMs);
    this.#kept = reduction.keepState ? new KeptStates(settings.clock, turnMs) : null;
  }

  close(): void {
    this.#kept?.clear();
  }

  async run(key: string, batch: readonly Item[], lease: Lease): Promise<Unfinished | null> {
    let items = batch;
    // Taken out: whatever goes wrong from here on, the kept state is dropped.
    let base = this.#kept?.take(key, epochOf(lease)) ?? null;
    const isKept = base !== null;
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      if (!base) {
        const loaded = await this.#load(key, lease, items);
        if ('setback' in loaded) return { items, setback: loaded.setback };
        base = loaded.base;
        items = this.#leaveOut(items, loaded.marks);
      }
      const reduced = items.length === 0 ? null : await this.#reduce(base, items);
      if (!reduced || reduced.done.length === 0) {
        if (isLost(lease)) return { items, setback: 'lost' };
        // Nothing was written, and what the reducer did to the state in its hands does not matter.
        this.#kept?.put(key, { ...base, state: undefined });
        this.#settling.failed(reduced?.failures ?? []);
        return null;
      }
      const outcome = await this.#commit(key, lease, base, reduced);
      if (outcome?.is === 'committed') {
        this.#committed(key, lease, outcome.version, reduced, isKept);
        return null;
      }
      if (!outcome || outcome.is === 'stale') {
        return { items, setback: outcome ? 'stale' : 'lost' };
      }
      items = this.#afterRefusal(items, outcome);
      base = outcome.is === 'moved' ? null : { ...base, state: undefined };
    }
    return { items, setback: 'moved' };
  }

  async #load(
    key: string,
    lease: Lease,
    items: readonly Item[],
  ): Promise<{ base: Base; marks: ReadonlyMap<string, Mark> } | { setback: Setback }> {
    const { state } = this.#reduction;
    const load = () => state.load(key, lease, items);
    const loaded = await this.#calls.insist('load', load, () => !isLost(lease));
    if (!loaded) return { setback: 'lost' };
    if (loaded.is === 'stale') return { setback: 'stale' };
    const { version, value, marks } = loaded;
    return { base: { epoch: epochOf(lease), version, text: value, state: undefined }, marks };
  }

  /** What is left after those that are known have been settled. */
  #leaveOut(items: readonly Item[], marks: ReadonlyMap<string, Mark>): readonly Item[] {
    if (marks.size === 0) return items;
    const applied = items.filter((item) => marks.get(item.id) === 'applied');
    const dead = items.filter((item) => marks.get(item.id) === 'dead-lettered' && !item.isReplay);
    if (applied.length > 0) this.#settling.duplicates(applied);
    if (dead.length > 0) {
      // Acknowledging it would lose it, if whoever marked it died before the letter was safe.
      const detail = 'it is marked as dead-lettered; this copy came again';
      this.#settling.dead(dead, 'dead-before', detail);
    }
    const settled = new Set([...applied, ...dead]);
    return items.filter((item) => !settled.has(item));
  }

  #afterRefusal(
    items: readonly Item[],
    outcome: Extract<CommitOutcome, { is: 'known' | 'too-old' | 'moved' }>,
  ): readonly Item[] {
    if (outcome.is === 'known') return this.#leaveOut(items, outcome.marks);
    if (outcome.is === 'moved') return items;
    const tooOld = new Set(outcome.ids);
    const { windowMs } = this.#reduction.state;
    const detail =
      `its time of first publishing is more than ${windowMs} ms away from now, ` +
      'and ids are remembered for no longer';
    this.#settling.dead(
      items.filter((item) => tooOld.has(item.id)),
      'too-old',
      detail,
    );
    return items.filter((item) => !tooOld.has(item.id));
  }

  /** All at once, and if the reducer throws, one after the other: so only those fail that throw by themselves. */
  async #reduce(base: Base, items: readonly Item[]): Promise<Reduced> {
    try {
      const state = base.state === undefined ? this.#decode(base.text) : base.state;
      return { ...(await this.#step(state, items)), done: items, failures: [] };
    } catch (cause) {
      if (items.length === 1) {
        return { text: '', state: null, done: [], failures: [{ item: items[0] as Item, cause }] };
      }
    }
    let { text } = base;
    const done: Item[] = [];
    const failures: Failure[] = [];
    for (const item of items) {
      try {
        // From the text each time: a reducer that threw may have left a state half changed.
        ({ text } = await this.#step(this.#decode(text), [item]));
        done.push(item);
      } catch (cause) {
        failures.push({ item, cause });
      }
    }
    return { text: text ?? '', state: undefined, done, failures };
  }

  async #step(
    before: unknown,
    items: readonly Item[],
  ): Promise<{ readonly text: string; readonly state: unknown }> {
    const result = this.#reduction.reduce(before, items);
    const state = isPromise(result) ? await result : result;
    const text = this.#reduction.codec.encode(state);
    if (typeof text !== 'string') throw new TypeError('the reducer returned what cannot be stored');
    return { text, state };
  }

  #decode(text: string | null): unknown {
    return text === null ? null : this.#reduction.codec.decode(text);
  }

  /** `null` when the outcome is not known and the lease is over: the next load tells. */
  #commit(
    key: string,
    lease: Lease,
    { version }: Base,
    { text, done }: Reduced,
  ): Promise<CommitOutcome | null> {
    this.#commits += 1;
    const commit: Commit = {
      key,
      lease,
      id: `${this.#commitPrefix}${this.#commits}`,
      expectedVersion: version,
      value: text,
      messages: done,
    };
    const { state } = this.#reduction;
    return this.#calls.insist(
      'commit',
      () => state.commit(commit),
      () => !isLost(lease),
    );
  }

  #committed(
    key: string,
    lease: Lease,
    version: number,
    { text, state, done, failures }: Reduced,
    isKept: boolean,
  ): void {
    this.#kept?.put(key, { epoch: epochOf(lease), version, text, state });
    this.#metrics.batches += 1;
    if (isKept) this.#metrics.kept += 1;
    if (diagnostics.batch.hasSubscribers) {
      const { token } = lease;
      diagnostics.batch.publish({ key, token, messages: done.length, isKept });
    }
    this.#settling.applied(done);
    this.#settling.failed(failures);
  }
}

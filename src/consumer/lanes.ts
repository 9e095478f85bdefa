/**
 * A lane for each key that has messages: they wait in it, in order of arrival, for the lock, and are worked on in
 * batches. All lanes run side by side.
 */
import { AcquireTimeoutError, ManagerClosedError, StoreUnavailableError } from '../core/errors.ts';
import type { Lease } from '../core/lease.ts';
import type { AcquireOptions } from '../core/options.ts';
import type { Calls } from './calls.ts';
import * as diagnostics from './diagnostics.ts';
import type { Eliding } from './eliding.ts';
import { foldCopies, type Item } from './message.ts';
import type { Metrics } from './metrics.ts';
import type { Settings } from './options.ts';
import { Retention } from './retention.ts';
import type { Settling } from './settling.ts';
import { epochOf, type Work } from './work.ts';

export interface Lane {
  readonly key: string;
  readonly lockName: string;
  waiting: Item[];
  /** How often in a row its work came to nothing. */
  setbacks: number;
}

/** A first setback is tried again at once. */
function needsPause({ setbacks }: Lane): boolean {
  return setbacks > 1;
}

export interface LanesOptions {
  readonly settings: Settings;
  readonly calls: Calls;
  readonly settling: Settling;
  readonly metrics: Metrics;
  readonly work: Work;
  /** Ends the waits for locks. */
  readonly signal: AbortSignal;
  /** The consumer cannot go on. */
  readonly fail: (error: unknown) => void;
}

export class Lanes {
  readonly #settings: Settings;
  readonly #calls: Calls;
  readonly #settling: Settling;
  readonly #metrics: Metrics;
  readonly #work: Work;
  readonly #keeping: AcquireOptions;
  readonly #notKeeping: AcquireOptions;
  /** Null where locks are always kept, or never. */
  readonly #retention: Retention | null;
  readonly #fail: (error: unknown) => void;
  readonly #lanes = new Map<string, Lane>();
  /** Those that are run from the end of this turn on. */
  #opened: Lane[] = [];

  constructor({ settings, calls, settling, metrics, work, signal, fail }: LanesOptions) {
    this.#settings = settings;
    this.#calls = calls;
    this.#settling = settling;
    this.#metrics = metrics;
    this.#work = work;
    const { acquire, retention, clock, random } = settings;
    this.#keeping = { ...acquire, signal };
    this.#notKeeping = { ...acquire, signal, retainMs: 0 };
    this.#retention =
      retention === 'adaptive' ? new Retention(acquire.retainMs, clock, random) : null;
    this.#fail = fail;
  }

  /** Lanes that have work. */
  get size(): number {
    return this.#lanes.size;
  }

  get(key: string): Lane | undefined {
    return this.#lanes.get(key);
  }

  open(key: string, lockName: string): Lane {
    const lane: Lane = { key, lockName, waiting: [], setbacks: 0 };
    this.#lanes.set(key, lane);
    // What arrives in the same turn belongs to the first batch, and the caller has yet to put the first message in.
    if (this.#opened.length === 0) queueMicrotask(() => this.#start());
    this.#opened.push(lane);
    return lane;
  }

  /** Every message that waits, taken out. */
  drain(): Item[] {
    return [...this.#lanes.values()].flatMap((lane) => lane.waiting.splice(0));
  }

  #start(): void {
    const lanes = this.#opened;
    this.#opened = [];
    const { eliding } = this.#work;
    for (const lane of lanes) {
      this.#calls.track(eliding ? this.#runEliding(lane, eliding) : this.#runLocked(lane));
    }
  }

  #goesOn(lane: Lane): boolean {
    return lane.waiting.length > 0 && !this.#calls.isHalted;
  }

  async #runEliding(lane: Lane, eliding: Eliding): Promise<void> {
    const takeBatch = (): readonly Item[] => this.#takeBatch(lane);
    try {
      while (this.#goesOn(lane)) {
        const left = await eliding.run(lane.key, lane.lockName, takeBatch);
        if (left.length === 0) continue;
        lane.waiting.unshift(...left);
        // A lock that is kept would have to be asked for, where otherwise there is none to take.
        const lease = await this.#acquire(lane, this.#notKeeping);
        try {
          if (lease) await this.#workOnce(lane, lease);
        } finally {
          // The end waits for it: afterwards nobody else need wait for the ttl.
          if (lease) this.#calls.track(lease.release());
        }
        if (needsPause(lane)) await this.#pause(lane);
      }
    } catch (error) {
      this.#fail(error);
    }
    this.#end(lane);
  }

  async #runLocked(lane: Lane): Promise<void> {
    let lease: Lease | null = null;
    const isKeeping = this.#retention?.wants() !== false;
    const options = isKeeping ? this.#keeping : this.#notKeeping;
    let isFirst = true;
    // A single attempt would find the key taken by this lane itself.
    const isOnce = this.#settings.acquire.waitMs === 0;
    try {
      while (this.#goesOn(lane)) {
        // Asked for before the other is given back, so that the lock is passed on, or swapped for a place in the line.
        const next = isOnce ? null : this.#acquire(lane, options);
        void lease?.release();
        lease = await (next ?? this.#acquire(lane, options));
        if (isFirst && lease) this.#retention?.needed(lane.key, epochOf(lease));
        isFirst = false;
        if (lease) await this.#workOnce(lane, lease);
        if (needsPause(lane)) {
          void lease?.release();
          lease = null;
          await this.#pause(lane);
        }
      }
    } catch (error) {
      this.#fail(error);
    }
    this.#end(lane);
    if (lease && isKeeping) this.#retention?.kept(lane.key, epochOf(lease));
    // The end waits for this: afterwards nobody else need wait for the ttl.
    await lease?.release();
  }

  #pause(lane: Lane): Promise<void> {
    return this.#calls.sleep(this.#calls.retryMs(lane.setbacks - 2));
  }

  #end(lane: Lane): void {
    this.#lanes.delete(lane.key);
    if (lane.waiting.length > 0) this.#settling.release(lane.waiting.splice(0));
  }

  async #workOnce(lane: Lane, lease: Lease): Promise<void> {
    const items = this.#takeBatch(lane);
    if (items.length === 0) return;
    const unfinished = await this.#work.run(lane.key, items, lease);
    if (!unfinished) {
      lane.setbacks = 0;
      return;
    }
    const { setback } = unfinished;
    lane.waiting.unshift(...unfinished.items);
    lane.setbacks += 1;
    this.#metrics.setbacks[setback] += 1;
    if (diagnostics.setback.hasSubscribers) {
      diagnostics.setback.publish({ key: lane.key, token: lease.token, setback });
    }
  }

  /** Messages whose connection is gone come again by themselves, to whomever. */
  #takeBatch(lane: Lane): readonly Item[] {
    const { maxBatch } = this.#settings;
    const taken = lane.waiting.length <= maxBatch ? lane.waiting : lane.waiting.splice(0, maxBatch);
    if (taken === lane.waiting) lane.waiting = [];
    if (taken.every((item) => item.isLive())) return foldCopies(taken);
    const live: Item[] = [];
    for (const item of taken) {
      if (item.isLive()) live.push(item);
      else this.#settling.gone(item);
    }
    return foldCopies(live);
  }

  /** `null` when there is no lease now: what could not be done about that is done. Never rejects. */
  async #acquire(lane: Lane, options: AcquireOptions): Promise<Lease | null> {
    // Who came later has not waited for long enough yet.
    const asked = lane.waiting.length;
    try {
      return await this.#settings.locks.acquire(lane.lockName, options);
    } catch (error) {
      if (this.#calls.isHalted) return null;
      if (error instanceof ManagerClosedError) {
        // Until all is halted: without the pause of a setback, this would be tried again and again in one turn.
        lane.setbacks += 2;
        this.#fail(error);
      } else if (error instanceof StoreUnavailableError) {
        // Nobody knows whether the key is busy, and no message is to blame.
        this.#calls.notAnswered('acquire', error);
        lane.setbacks += 1;
      } else if (error instanceof AcquireTimeoutError) {
        this.#settling.busy(lane.key, lane.waiting.splice(0, asked), error);
      } else {
        const items = lane.waiting.splice(0, asked);
        this.#settling.failed(items.map((item) => ({ item, cause: error })));
      }
      return null;
    }
  }
}

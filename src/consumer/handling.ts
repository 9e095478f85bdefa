/**
 * At least once: a handler with effects elsewhere, under the lock of the key.
 */
import type { Lease } from '../core/lease.ts';
import type { Calls } from './calls.ts';
import * as diagnostics from './diagnostics.ts';
import type { Item, Message } from './message.ts';
import type { Metrics } from './metrics.ts';
import type { Failure, Settling } from './settling.ts';
import { isLost, type Unfinished, type Work } from './work.ts';

type Handle = (messages: readonly Message<unknown>[], lease: Lease) => void | Promise<void>;

export class Handling implements Work {
  readonly eliding = null;
  readonly #handle: Handle;
  readonly #calls: Calls;
  readonly #settling: Settling;
  readonly #metrics: Metrics;

  constructor(handle: Handle, calls: Calls, settling: Settling, metrics: Metrics) {
    this.#handle = handle;
    this.#calls = calls;
    this.#settling = settling;
    this.#metrics = metrics;
  }

  async run(key: string, items: readonly Item[], lease: Lease): Promise<Unfinished | null> {
    const failure = await this.#try(key, items, lease);
    // What a handler did after its lease was lost counts as not done, whatever it says: others may have worked as well.
    if (isLost(lease)) return { items, setback: 'lost' };
    if (!failure) return null;
    if (items.length === 1)
      this.#settling.failed([{ item: items[0] as Item, cause: failure.cause }]);
    else return this.#runSingly(key, items, lease);
    return null;
  }

  /** Which of them threw is not known: each is tried by itself. */
  async #runSingly(key: string, items: readonly Item[], lease: Lease): Promise<Unfinished | null> {
    const failures: Failure[] = [];
    for (const [index, item] of items.entries()) {
      const failure = await this.#try(key, [item], lease);
      if (isLost(lease) || this.#calls.isHalted) {
        this.#settling.failed(failures);
        // What was handled is acknowledged already, also when all was halted meanwhile.
        const isDone = failure === null && !isLost(lease);
        const left = items.slice(isDone ? index + 1 : index);
        return left.length > 0 ? { items: left, setback: 'lost' } : null;
      }
      if (failure) failures.push({ item, cause: failure.cause });
    }
    this.#settling.failed(failures);
    return null;
  }

  /** `null` when all is well, and the messages are acknowledged. */
  async #try(
    key: string,
    items: readonly Item[],
    lease: Lease,
  ): Promise<{ readonly cause: unknown } | null> {
    try {
      await this.#handle(items as readonly Message<unknown>[], lease);
    } catch (cause) {
      return { cause };
    }
    if (isLost(lease)) return null;
    this.#metrics.batches += 1;
    if (diagnostics.batch.hasSubscribers) {
      const { token } = lease;
      diagnostics.batch.publish({ key, token, messages: items.length, isKept: false });
    }
    this.#settling.applied(items);
    return null;
  }

  close(): void {}
}

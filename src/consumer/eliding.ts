/**
 * Commits that take no lock, where states stand beside their locks: look at the state, reduce, and commit in a step that is
 * refused unless the lock is free and the state is still the one that was seen. The look is left out where the state is
 * expected to be known: it is what this process has committed last, or there is none.
 *
 * Nothing rests on luck. What does not succeed at once is worked on under the lock: that the key is wanted by others, that the
 * reducer throws (what it throws about has to be a state under the lock), or that an engine does not answer, after which the
 * ids tell what was committed. Source: lock elision (Rajwar and Goodman, MICRO 2001); see docs/adr/0083, 0110 and 0111.
 */
import type { Calls } from './calls.ts';
import type { Commits } from './commits.ts';
import type { Elision, Sight } from './contracts.ts';
import type { Base } from './kept.ts';
import type { Item } from './message.ts';
import type { Metrics } from './metrics.ts';
import type { Reducer } from './reducer.ts';
import type { Settling } from './settling.ts';
import { isPromise } from './work.ts';

/**
 * Commits that are tried for one batch, before it waits for the lock, under which nobody else is faster. Against one other
 * process every second one is made; the lock costs both of them more than a few that are not.
 */
const MAX_ATTEMPTS = 8;

/** Of so many states that were not known here, the last ones count most for what is expected of the next one. */
const RECENT = 16;

/** A key that has no state yet. */
const NEW: Base = { epoch: null, version: 0, fence: '', text: null, state: undefined };

const NONE: readonly Item[] = [];

/** What has to be worked on under the lock, and what a batch left, for the next one to begin with. */
interface Result {
  readonly left: readonly Item[];
  readonly base: Base | null;
}

export interface ElidingParts {
  readonly elision: Elision;
  readonly reducer: Reducer;
  readonly commits: Commits;
  readonly calls: Calls;
  readonly settling: Settling;
  readonly metrics: Metrics;
}

export class Eliding {
  readonly #parts: ElidingParts;
  /** How many of the states that were not known here did not exist, from 0 to 1. */
  #newShare = 0;

  constructor(parts: ElidingParts) {
    this.#parts = parts;
  }

  /**
   * Works on batches until none is left to take, and gives back what has to be worked on under the lock. Never rejects.
   *
   * Each batch goes on from what the one before has made, without another look; the first one, while most states do not exist
   * yet, from none. The commit is refused if the state is another one, or if it knows a message. Messages that were delivered
   * before are likely to be known: unless the state is kept, they are looked at first.
   */
  async run(
    key: string,
    lockName: string,
    takeBatch: () => readonly Item[],
  ): Promise<readonly Item[]> {
    const { kept } = this.#parts.commits;
    let made: Base | null = null;
    for (let batch = takeBatch(); batch.length > 0; batch = takeBatch()) {
      // Taken out: only a commit that was made puts one in again.
      const before = kept?.take(key) ?? (batch.some(wasDelivered) ? null : (made ?? this.#guess()));
      const result: Result = await this.#work(key, lockName, batch, before);
      if (result.left.length > 0) return result.left;
      made = result.base;
    }
    return NONE;
  }

  async #work(
    key: string,
    lockName: string,
    batch: readonly Item[],
    before: Base | null,
  ): Promise<Result> {
    const { elision, reducer, commits, calls, settling, metrics } = this.#parts;
    let items = batch;
    let base = before;
    let attempts = 0;
    try {
      while (items.length > 0 && attempts < MAX_ATTEMPTS) {
        if (!base) {
          const seen = await elision.look(key, lockName, items);
          if (seen.is === 'locked') break;
          base = baseOf(seen);
          this.#learn(base.version === 0);
          items = settling.known(items, seen.marks);
          continue;
        }
        attempts += 1;
        // Nearly every reducer gives its state at once: what need not be waited for costs no turn.
        const reduction = reducer.reduce(base, items);
        const reduced = isPromise(reduction) ? await reduction : reduction;
        const { text, state, done, failures } = reduced;
        if (failures.length > 0) {
          if (base !== NEW) break;
          // What it threw about may be that there was no state.
          this.#learn(false);
          base = null;
          continue;
        }
        const outcome = await elision.commit({
          key,
          lockName,
          id: commits.newId(),
          expectedVersion: base.version,
          expectedFence: base.fence,
          value: text,
          messages: done,
        });
        switch (outcome.is) {
          case 'committed': {
            const { version, fence } = outcome;
            metrics.elided += 1;
            const made = { epoch: null, version, fence, text, state };
            if (base === NEW) this.#learn(true);
            const isKept = before !== null && before !== NEW;
            commits.made(key, { base: made, done, failures, isKept });
            return { left: NONE, base: { ...made, state: undefined } };
          }
          case 'moved':
            if (base === NEW) this.#learn(outcome.version === 0);
            else metrics.conflicts += 1;
            base = baseOf(outcome);
            items = settling.known(items, outcome.marks);
            break;
          case 'known':
            base = { ...base, state: undefined };
            items = settling.known(items, outcome.marks);
            break;
          case 'too-old':
            base = { ...base, state: undefined };
            items = settling.tooOld(items, outcome.ids);
            break;
          default:
            metrics.conflicts += 1;
            return { left: items, base };
        }
      }
    } catch (cause) {
      calls.notAnswered(base ? 'commit' : 'look', cause);
    }
    return { left: items, base };
  }

  #guess(): Base | null {
    return this.#newShare > 1 / 2 ? NEW : null;
  }

  #learn(isNew: boolean): void {
    this.#newShare += (Number(isNew) - this.#newShare) / RECENT;
  }
}

function wasDelivered({ isRedelivered }: Item): boolean {
  return isRedelivered;
}

function baseOf({ version, fence, value }: Sight): Base {
  return { epoch: null, version, fence, text: value, state: undefined };
}

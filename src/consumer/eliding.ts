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
import type { ElidedCommitOutcome, Elision, Sight } from './contracts.ts';
import { asStored, type Base } from './kept.ts';
import type { Item } from './message.ts';
import type { Metrics } from './metrics.ts';
import { isPromise, type Reducer } from './reducer.ts';
import type { Settling } from './settling.ts';

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
    const { elision, reducer, commits, calls, settling, metrics } = this.#parts;
    const { kept } = commits;
    let last: Base | null = null;
    for (;;) {
      let items = takeBatch();
      if (items.length === 0) return NONE;
      // Taken out: only a commit that was made puts one in again.
      const before: Base | null = kept?.take(key) ?? this.#expected(items, last);
      let base: Base | null = before;
      try {
        for (let attempts = 0; items.length > 0; ) {
          if (!base) {
            const seen = await elision.look(key, lockName, items);
            if (seen.is === 'locked') return items;
            base = baseOf(seen);
            this.#learn(base.version === 0);
            items = settling.known(items, seen.marks);
            continue;
          }
          if (attempts === MAX_ATTEMPTS) return items;
          attempts += 1;
          // Nearly every reducer gives its state at once: what need not be waited for costs no turn.
          const reduction = reducer.reduce(base, items);
          const { text, state, done, failures } = isPromise(reduction)
            ? await reduction
            : reduction;
          if (failures.length > 0) {
            if (base !== NEW) return items;
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
          if (outcome.is === 'committed') {
            const { version, fence } = outcome;
            metrics.elided += 1;
            if (base === NEW) this.#learn(true);
            base = { epoch: null, version, fence, text, state };
            const isKept = before !== null && before !== NEW;
            commits.made(key, { base, done, failures, isKept });
            break;
          }
          const rest = this.#refused(base, items, outcome);
          if (!rest) return items;
          ({ base, items } = rest);
        }
      } catch (cause) {
        calls.notAnswered(base ? 'commit' : 'look', cause);
        return items;
      }
      last = base;
    }
  }

  /** What to go on with; `null` when the lock is taken. */
  #refused(
    base: Base,
    items: readonly Item[],
    outcome: Exclude<ElidedCommitOutcome, { is: 'committed' }>,
  ): { readonly base: Base; readonly items: readonly Item[] } | null {
    const { settling, metrics } = this.#parts;
    switch (outcome.is) {
      case 'moved':
        if (base === NEW) this.#learn(outcome.version === 0);
        else metrics.conflicts += 1;
        return { base: baseOf(outcome), items: settling.known(items, outcome.marks) };
      case 'known':
        return { base: asStored(base), items: settling.known(items, outcome.marks) };
      case 'too-old':
        return { base: asStored(base), items: settling.tooOld(items, outcome.ids) };
      default:
        metrics.conflicts += 1;
        return null;
    }
  }

  /** The state that a batch goes on from without a look, where it is not kept. */
  #expected(items: readonly Item[], last: Base | null): Base | null {
    if (items.some(wasDelivered)) return null;
    if (last) return asStored(last);
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

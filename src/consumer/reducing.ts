/**
 * Exactly-once effect: load, leave out what is known, reduce, and commit in one atomic step; then acknowledge.
 *
 * A crash at any line leaves either no commit, and the messages are delivered again, or a commit that knows their ids.
 */
import type { Lease } from '../core/lease.ts';
import type { Calls } from './calls.ts';
import { Commits } from './commits.ts';
import type { Commit, CommitOutcome, Mark } from './contracts.ts';
import type { Setback } from './diagnostics.ts';
import { Eliding } from './eliding.ts';
import { asStored, type Base } from './kept.ts';
import type { Item } from './message.ts';
import type { Metrics } from './metrics.ts';
import type { Reduction, Settings } from './options.ts';
import { type Reduced, Reducer } from './reducer.ts';
import type { Settling } from './settling.ts';
import { epochOf, isLost, type Unfinished, type Work } from './work.ts';

/** Loads and commits for one batch, before its messages wait for the next lease. */
const MAX_ROUNDS = 16;

export class Reducing implements Work {
  readonly eliding: Eliding | null;
  readonly #reduction: Reduction;
  readonly #reducer: Reducer;
  readonly #commits: Commits;
  readonly #calls: Calls;
  readonly #settling: Settling;

  constructor(
    reduction: Reduction,
    settings: Settings,
    calls: Calls,
    settling: Settling,
    metrics: Metrics,
  ) {
    this.#reduction = reduction;
    this.#reducer = new Reducer(reduction);
    this.#commits = new Commits(settings, settling, metrics);
    this.#calls = calls;
    this.#settling = settling;
    const { elision } = reduction;
    const parts = { reducer: this.#reducer, commits: this.#commits, calls, settling, metrics };
    this.eliding = elision && new Eliding({ elision, ...parts });
  }

  close(): void {
    this.#commits.kept?.clear();
  }

  async run(key: string, batch: readonly Item[], lease: Lease): Promise<Unfinished | null> {
    const { kept } = this.#commits;
    let items = batch;
    // Taken out: whatever goes wrong from here on, the kept state is dropped.
    let base = kept?.take(key, epochOf(lease)) ?? null;
    const isKept = base !== null;
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      if (!base) {
        const loaded = await this.#load(key, lease, items);
        if ('setback' in loaded) return { items, setback: loaded.setback };
        base = loaded.base;
        items = this.#settling.known(items, loaded.marks);
      }
      const reduced = items.length === 0 ? null : await this.#reducer.reduce(base, items);
      if (!reduced || reduced.done.length === 0) {
        if (isLost(lease)) return { items, setback: 'lost' };
        // Nothing was written, and what the reducer did to the state in its hands does not matter.
        kept?.put(key, asStored(base));
        this.#settling.failed(reduced?.failures ?? []);
        return null;
      }
      const outcome = await this.#commit(key, lease, base, reduced);
      if (outcome?.is === 'committed') {
        const { text, state, done, failures } = reduced;
        const { version } = outcome;
        const made = { epoch: epochOf(lease), version, fence: lease.tokenText, text, state };
        this.#commits.made(key, { base: made, done, failures, isKept });
        return null;
      }
      if (!outcome || outcome.is === 'stale') {
        return { items, setback: outcome ? 'stale' : 'lost' };
      }
      if (outcome.is === 'known') items = this.#settling.known(items, outcome.marks);
      if (outcome.is === 'too-old') items = this.#settling.tooOld(items, outcome.ids);
      base = outcome.is === 'moved' ? null : asStored(base);
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
    const { version, value: text, marks } = loaded;
    const fence = lease.tokenText;
    return { base: { epoch: epochOf(lease), version, fence, text, state: undefined }, marks };
  }

  /** `null` when the outcome is not known and the lease is over: the next load tells. */
  #commit(
    key: string,
    lease: Lease,
    { version }: Base,
    { text, done }: Reduced,
  ): Promise<CommitOutcome | null> {
    const commit: Commit = {
      key,
      lease,
      id: this.#commits.newId(),
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
}

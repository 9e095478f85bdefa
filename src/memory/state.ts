/**
 * States of keys in one process, with fences and remembered ids: the simplest state store.
 *
 * JavaScript runs a step to its end, so that each call is atomic as it stands.
 */

import type {
  Commit,
  CommitMessage,
  CommitOutcome,
  ElidedCommit,
  ElidedCommitOutcome,
  Elision,
  LoadOutcome,
  Mark,
  Sight,
  StateStore,
} from '../consumer/contracts.ts';
import { type Clock, systemClock } from '../core/clock.ts';
import { InvalidArgumentError } from '../core/errors.ts';
import type { Token } from '../core/fence.ts';
import { checkClock } from '../core/options.ts';
import type { LeaseStore } from '../core/store.ts';
import { type MemorySpace, MemoryStore } from './store.ts';

export interface MemoryStateOptions {
  /** How long ids are remembered after the first publishing of their message, in milliseconds. Default a day. */
  readonly windowMs?: number;
  /** Default: the system's. */
  readonly clock?: Clock;
}

interface Remembered {
  mark: Mark;
  publishedAtMs: number;
}

interface Record {
  fence: string;
  version: number;
  value: string | null;
  lastCommit: string;
  readonly ids: Map<string, Remembered>;
}

const DAY_MS = 86_400_000;

class MemoryState implements StateStore {
  readonly name: string = 'memory';
  readonly windowMs: number;
  readonly #clock: Clock;
  readonly #records = new Map<string, Record>();

  constructor(options: MemoryStateOptions) {
    const { windowMs = DAY_MS, clock = systemClock } = options ?? {};
    checkClock(clock);
    if (!Number.isInteger(windowMs) || windowMs < 1) {
      throw new InvalidArgumentError('windowMs is a whole number from 1');
    }
    this.windowMs = windowMs;
    this.#clock = clock;
  }

  async open(): Promise<void> {}

  async load(key: string, lease: Token, messages: readonly CommitMessage[]): Promise<LoadOutcome> {
    const record = this.#record(key);
    if (!raise(record, lease)) return { is: 'stale', fence: record.fence };
    const { value, version } = record;
    return { is: 'loaded', value, version, marks: marksOf(record, messages) };
  }

  async peek(key: string): Promise<string | null> {
    return this.#records.get(key)?.value ?? null;
  }

  async commit(commit: Commit): Promise<CommitOutcome> {
    const record = this.#record(commit.key);
    if (record.lastCommit === commit.id) return { is: 'committed', version: record.version };
    if (!raise(record, commit.lease)) return { is: 'stale', fence: record.fence };
    if (record.version !== commit.expectedVersion) {
      return { is: 'moved', version: record.version };
    }
    return this.#refusal(record, commit) ?? this.#write(record, commit);
  }

  elision(leases: LeaseStore): Elision | null {
    if (!(leases instanceof MemoryStore)) return null;
    const { space } = leases;
    return {
      look: async (key, lockName, messages) => {
        if (space.isTaken(lockName)) return { is: 'locked' };
        return { is: 'seen', ...sightOf(this.#record(key), messages) };
      },
      commit: async (commit) => this.#commitElided(commit, space),
    };
  }

  #commitElided(commit: ElidedCommit, space: MemorySpace): ElidedCommitOutcome {
    const record = this.#record(commit.key);
    const { version, fence } = record;
    if (record.lastCommit === commit.id) return { is: 'committed', version, fence };
    if (space.isTaken(commit.lockName)) return { is: 'locked' };
    if (version !== commit.expectedVersion || fence !== commit.expectedFence) {
      return { is: 'moved', ...sightOf(record, commit.messages) };
    }
    const refusal = this.#refusal(record, commit);
    if (refusal) return refusal;
    const token = space.mintToken();
    if (!raise(record, { tokenText: token })) return { is: 'stale', fence };
    return { ...this.#write(record, commit), fence: token };
  }

  /** Whether the messages are such that nothing may be written. */
  #refusal(
    record: Record,
    { messages }: Pick<Commit, 'messages'>,
  ): Extract<CommitOutcome, { is: 'known' | 'too-old' }> | null {
    const marks = marksOf(record, messages);
    for (const { id, isReplay } of messages) {
      if (isReplay && marks.get(id) === 'dead-lettered') marks.delete(id);
    }
    if (marks.size > 0) return { is: 'known', marks };
    const nowMs = this.#clock.wallMs();
    // What is dated far ahead would be remembered for far too long.
    const outside = messages.filter(
      ({ publishedAtMs }) =>
        publishedAtMs < nowMs - this.windowMs || publishedAtMs > nowMs + this.windowMs,
    );
    return outside.length > 0 ? { is: 'too-old', ids: outside.map(({ id }) => id) } : null;
  }

  #write(
    record: Record,
    { id, value, messages }: Pick<Commit, 'id' | 'value' | 'messages'>,
  ): Extract<CommitOutcome, { is: 'committed' }> {
    record.value = value;
    record.version += 1;
    record.lastCommit = id;
    for (const message of messages) remember(record, message, 'applied');
    forget(record, this.#clock.wallMs() - this.windowMs);
    return { is: 'committed', version: record.version };
  }

  async markDead(
    key: string,
    messages: readonly CommitMessage[],
  ): Promise<ReadonlyMap<string, Mark>> {
    const record = this.#record(key);
    const known = marksOf(record, messages);
    for (const message of messages) {
      if (!known.has(message.id)) remember(record, message, 'dead-lettered');
    }
    return marksOf(record, messages);
  }

  async close(): Promise<void> {}

  #record(key: string): Record {
    let record = this.#records.get(key);
    if (!record) {
      record = { fence: '', version: 0, value: null, lastCommit: '', ids: new Map() };
      this.#records.set(key, record);
    }
    return record;
  }
}

/** False for a lower token. Reading raises the fence as well: else a holder that stalled could write what it had read. */
function raise(record: Record, { tokenText }: Token): boolean {
  if (tokenText < record.fence) return false;
  record.fence = tokenText;
  return true;
}

/** Those that are known; a younger copy is remembered for longer. */
function marksOf(record: Record, messages: readonly CommitMessage[]): Map<string, Mark> {
  const marks = new Map<string, Mark>();
  for (const { id, publishedAtMs } of messages) {
    const known = record.ids.get(id);
    if (!known) continue;
    known.publishedAtMs = Math.max(known.publishedAtMs, publishedAtMs);
    marks.set(id, known.mark);
  }
  return marks;
}

function sightOf(record: Record, messages: readonly CommitMessage[]): Sight {
  const { value, version, fence } = record;
  return { value, version, fence, marks: marksOf(record, messages) };
}

/** Always the last in order, as it was published last, or nearly. */
function remember(record: Record, { id, publishedAtMs }: CommitMessage, mark: Mark): void {
  const earlier = record.ids.get(id)?.publishedAtMs ?? publishedAtMs;
  record.ids.delete(id);
  record.ids.set(id, { mark, publishedAtMs: Math.max(earlier, publishedAtMs) });
}

/** From the front, up to the first that is young enough: nothing is forgotten early, and each is looked at once. */
function forget(record: Record, oldestMs: number): void {
  for (const [id, { publishedAtMs }] of record.ids) {
    if (publishedAtMs >= oldestMs) return;
    record.ids.delete(id);
  }
}

/** A state store for one process; all of its consumers may share it. What is in it is gone with the process. */
export function memoryState(options: MemoryStateOptions = {}): StateStore {
  return new MemoryState(options);
}

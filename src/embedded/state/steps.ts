/**
 * States of keys as records, with what was applied to them, and the steps on them. Each is made in one transaction, whole
 * or not at all.
 *
 * | record                        | holds                                                            |
 * |-------------------------------|------------------------------------------------------------------|
 * | `state`, key                  | value, version, fence and its owner, the id of the last commit    |
 * | `id`, key, hash               | the mark of a message, and when it was published                 |
 * | `time`, published, key, hash  | the same by time: what is forgotten first comes first            |
 * | `forgotten`                   | messages published up to then may have been forgotten            |
 *
 * Commits of any key forget what is too old of all keys, some of it at a time. A message is judged only when it was
 * published after `forgotten`: so nothing is applied twice when the wall clock is set back or the window is made longer.
 */
import { hash } from 'node:crypto';
import type {
  Commit,
  CommitMessage,
  CommitOutcome,
  LoadOutcome,
  Mark,
} from '../../consumer/contracts.ts';
import type { RecordKey, Records, RecordsStep } from '../records/engine.ts';

/** Who asks, and for how long ids are remembered. */
interface Asker {
  /** The namespace of the states. */
  readonly name: string;
  /** One for each process: two of its leases never have the same token. */
  readonly owner: string;
  readonly windowMs: number;
}

export type StateCall = Asker &
  (
    | {
        readonly is: 'load';
        readonly key: string;
        readonly token: string;
        readonly messages: readonly CommitMessage[];
      }
    | { readonly is: 'peek'; readonly key: string }
    | {
        readonly is: 'commit';
        readonly token: string;
        readonly commit: Omit<Commit, 'lease'>;
      }
    | { readonly is: 'dead'; readonly key: string; readonly messages: readonly CommitMessage[] }
  );

interface State {
  readonly value: string | null;
  readonly version: number;
  readonly fence: string;
  readonly owner: string;
  readonly commit: string | null;
}

type Remembered = readonly [mark: Mark, publishedAtMs: number];

/** A commit forgets more than it remembers, so that what is too old never piles up. */
const FORGOTTEN_A_MESSAGE = 2;
const FORGOTTEN_A_COMMIT = 16;
/** Characters of a hash, six bits each: ids that differ have different hashes for all that it matters. */
const HASH_LENGTH = 16;
/** LMDB's keys have a limit; longer names are named by their hash. */
const MAX_NAME_BYTES = 512;
const NOTHING: State = { value: null, version: 0, fence: '', owner: '', commit: null };

export function statePart(step: RecordsStep, call: StateCall): unknown {
  const states = new States(step, call);
  switch (call.is) {
    case 'load':
      return states.load(call.key, call.token, call.messages);
    case 'peek':
      return states.read(call.key).value;
    case 'commit':
      return states.commit(call.commit, call.token);
    case 'dead':
      return states.markDead(call.key, call.messages);
  }
}

class States {
  readonly #records: Records;
  readonly #asker: Asker;
  readonly #nowMs: number;

  constructor({ records, nowMs }: RecordsStep, asker: Asker) {
    this.#records = records;
    this.#asker = asker;
    this.#nowMs = nowMs;
  }

  read(key: string): State {
    return this.#get<State>(['state', nameOf(key)]) ?? NOTHING;
  }

  load(key: string, token: string, messages: readonly CommitMessage[]): LoadOutcome {
    const state = this.read(key);
    if (this.#isStale(state, token)) return { is: 'stale', fence: state.fence };
    this.#raise(key, state, token);
    const { value, version } = state;
    return { is: 'loaded', value, version, marks: this.#marks(key, messages) };
  }

  commit(commit: Omit<Commit, 'lease'>, token: string): CommitOutcome {
    const { key, messages } = commit;
    const state = this.read(key);
    if (state.commit === commit.id) return { is: 'committed', version: state.version };
    if (this.#isStale(state, token)) return { is: 'stale', fence: state.fence };
    this.#raise(key, state, token);
    const { version } = state;
    if (version !== commit.expectedVersion) return { is: 'moved', version };
    const marks = this.#marks(key, messages);
    for (const { id, isReplay } of messages) {
      if (isReplay && marks.get(id) === 'dead-lettered') marks.delete(id);
    }
    if (marks.size > 0) return { is: 'known', marks };
    const ids = messages.filter((message) => !this.#isJudged(message)).map(({ id }) => id);
    if (ids.length > 0) return { is: 'too-old', ids };

    for (const message of messages) this.#remember(key, message, 'applied');
    this.#forget(FORGOTTEN_A_COMMIT + FORGOTTEN_A_MESSAGE * messages.length);
    this.#put(['state', nameOf(key)], {
      value: commit.value,
      version: version + 1,
      fence: token,
      owner: this.#asker.owner,
      commit: commit.id,
    } satisfies State);
    return { is: 'committed', version: version + 1 };
  }

  markDead(key: string, messages: readonly CommitMessage[]): ReadonlyMap<string, Mark> {
    const marks = this.#marks(key, messages);
    for (const message of messages) {
      if (marks.has(message.id)) continue;
      this.#remember(key, message, 'dead-lettered');
      marks.set(message.id, 'dead-lettered');
    }
    return marks;
  }

  #isStale({ fence, owner }: State, token: string): boolean {
    return token < fence || (token === fence && owner !== this.#asker.owner);
  }

  /** Reading raises the fence as well: whoever held the lock before can no longer write what it had read. */
  #raise(key: string, state: State, token: string): void {
    const { owner } = this.#asker;
    if (state.fence === token && state.owner === owner) return;
    this.#put(['state', nameOf(key)], { ...state, fence: token, owner });
  }

  /** Those that are known; one that was published again is remembered for as long as its latest copy asks for. */
  #marks(key: string, messages: readonly CommitMessage[]): Map<string, Mark> {
    const marks = new Map<string, Mark>();
    for (const message of messages) {
      const found = this.#get<Remembered>(['id', nameOf(key), hashOf(message.id)]);
      if (found === undefined) continue;
      const [mark, publishedAtMs] = found;
      marks.set(message.id, mark);
      if (this.#boundedMs(message) > publishedAtMs) this.#remember(key, message, mark);
    }
    return marks;
  }

  #isJudged({ publishedAtMs }: CommitMessage): boolean {
    const { windowMs } = this.#asker;
    const forgottenMs = this.#get<number>(['forgotten']) ?? 0;
    const oldestMs = Math.max(forgottenMs, this.#nowMs - windowMs);
    return publishedAtMs > oldestMs && publishedAtMs <= this.#nowMs + windowMs;
  }

  /** Nobody's clock is that far ahead; and nothing is remembered for longer than two windows. */
  #boundedMs({ publishedAtMs }: CommitMessage): number {
    return Math.min(Math.ceil(publishedAtMs), this.#nowMs + this.#asker.windowMs);
  }

  #remember(key: string, message: CommitMessage, mark: Mark): void {
    const place = [nameOf(key), hashOf(message.id)] as const;
    const publishedAtMs = this.#boundedMs(message);
    const before = this.#get<Remembered>(['id', ...place]);
    if (before !== undefined) this.#remove(['time', before[1], ...place]);
    const untilMs = Math.max(publishedAtMs, before?.[1] ?? 0);
    this.#put(['id', ...place], [mark, untilMs] satisfies Remembered);
    this.#put(['time', untilMs, ...place], true);
  }

  #forget(most: number): void {
    const oldestMs = this.#nowMs - this.#asker.windowMs;
    const start = this.#key(['time']);
    const end = this.#key(['time', oldestMs + 1]);
    const old = [...this.#records.getKeys({ start, end, limit: most })];
    let forgottenMs = 0;
    for (const key of old) {
      const [publishedAtMs, name, id] = key.slice(start.length) as [number, string, string];
      this.#remove(['time', publishedAtMs, name, id]);
      this.#remove(['id', name, id]);
      forgottenMs = publishedAtMs;
    }
    if (forgottenMs > (this.#get<number>(['forgotten']) ?? 0)) {
      this.#put(['forgotten'], forgottenMs);
    }
  }

  #key(key: RecordKey): (string | number)[] {
    return ['state', this.#asker.name, ...key];
  }

  #get<Value>(key: RecordKey): Value | undefined {
    return this.#records.get(this.#key(key)) as Value | undefined;
  }

  #put(key: RecordKey, value: unknown): void {
    void this.#records.put(this.#key(key), value);
  }

  #remove(key: RecordKey): void {
    void this.#records.remove(this.#key(key));
  }
}

function hashOf(id: string): string {
  return hash('sha256', id, 'base64').slice(0, HASH_LENGTH);
}

function nameOf(key: string): string {
  if (Buffer.byteLength(key) <= MAX_NAME_BYTES) return `=${key}`;
  return `#${hash('sha256', key, 'base64')}`;
}

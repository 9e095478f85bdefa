/**
 * One run of scripts/state.ts: its operations with their keys and arguments, and what it answered, read strictly.
 */
import type { CommitMessage } from '../consumer/contracts.ts';
import { answersTo, UnreadableAnswerError } from './answers.ts';
import { isToken } from './fence.ts';
import type { KeyNames } from './layout.ts';
import { VALUES_OF_AN_ANSWER } from './scripts/state.ts';

/** What stands where somebody has a lock, and where somebody waits for it. */
export type LockNames = Pick<KeyNames, 'lock' | 'members'>;

/** What scripts/state.ts is asked. */
export interface Operation {
  readonly key: string;
  /** Its kind, and what a commit depends on. */
  readonly text: string;
  /** Of a commit. */
  readonly value?: string;
  readonly messages: readonly CommitMessage[];
  /** Where the lock is not taken. */
  readonly lock?: LockNames;
}

/** As scripts/state.ts gives it; what an answer has not is null. */
export interface Answer {
  readonly is: unknown;
  readonly version: unknown;
  readonly value: unknown;
  readonly token: unknown;
  readonly list: readonly unknown[] | null;
}

/** The keys and arguments of one run, in the order that the script wants. */
export class Run {
  readonly #keys: string[];
  readonly #locks: string[] = [];
  readonly #settings: readonly string[];
  readonly #args: string[] = [];
  readonly #kinds: string[] = [];
  #token = '';

  constructor(epochKey: string, settings: readonly string[]) {
    this.#keys = [epochKey];
    this.#settings = settings;
  }

  get keys(): string[] {
    return [...this.#keys, ...this.#locks];
  }

  get args(): string[] {
    return [...this.#settings, String(this.#keys.length + 1), ...this.#args];
  }

  add(keys: readonly string[], { text, value, lock }: Operation, messages: string): void {
    for (const key of keys) this.#keys.push(key);
    if (lock) this.#locks.push(lock.lock, lock.members);
    this.#args.push(text + messages);
    if (value !== undefined) this.#args.push(value);
    this.#kinds.push(text[0] as string);
  }

  /** What the script gave, by operation. */
  read(values: unknown): readonly Answer[] {
    let count = 0;
    for (const kind of this.#kinds) count += isCommit(kind) ? 1 : VALUES_OF_AN_ANSWER;
    const given = answersTo(count, values);
    let at = 0;
    return this.#kinds.map((kind) => {
      const from = at;
      at += isCommit(kind) ? 1 : VALUES_OF_AN_ANSWER;
      return isCommit(kind) ? this.#readCommit(kind, given[from]) : answerAt(given, from);
    });
  }

  /** A message is acknowledged for what says that it was made. */
  #readCommit(kind: string, value: unknown): Answer {
    if (Array.isArray(value)) {
      const answer = answerAt(answersTo(VALUES_OF_AN_ANSWER, value), 0);
      return answer.is === 'committed' ? UNREADABLE : answer;
    }
    if (kind === 'c') return value === 'committed' ? committed('') : UNREADABLE;
    if (!isToken(value)) return UNREADABLE;
    // All of one run have one token, which those that are kept in memory share.
    if (value !== this.#token) this.#token = value;
    return committed(this.#token);
  }
}

function isCommit(kind: string): boolean {
  return kind === 'c' || kind === 'e';
}

/** For the caller of this one: the others of its run were answered. */
const UNREADABLE: Answer = { is: null, version: null, value: null, token: null, list: null };

function committed(token: string): Answer {
  return { is: 'committed', version: null, value: null, token, list: null };
}

function answerAt(values: readonly unknown[], at: number): Answer {
  const list = values[at + 4] ?? null;
  if (list !== null && !Array.isArray(list)) throw new UnreadableAnswerError('a script');
  return {
    is: values[at],
    version: values[at + 1],
    value: values[at + 2],
    token: values[at + 3],
    list,
  };
}

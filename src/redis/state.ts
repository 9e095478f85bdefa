/**
 * States on Redis, with what has been applied to them: the `StateStore` of a keyed consumer. Each call is one operation of
 * a script, so that it happens in one step or not at all.
 */
import { hash } from 'node:crypto';
import type {
  Commit,
  CommitMessage,
  CommitOutcome,
  ElidedCommit,
  ElidedCommitOutcome,
  Elision,
  LoadOutcome,
  LookOutcome,
  Mark,
  Sight,
  StateStore,
} from '../consumer/contracts.ts';
import { InvalidArgumentError } from '../core/errors.ts';
import type { Token } from '../core/fence.ts';
import type { LeaseStore } from '../core/store.ts';
import { answersTo, isWhole, numberOf, UnreadableAnswerError } from './answers.ts';
import { Batcher } from './batch.ts';
import type { RedisClient, Server } from './clients/client.ts';
import { DAY_MS, isToken, PROCESS } from './fence.ts';
import { isTaken, type KeyNames, Layout } from './layout.ts';
import { readPrefix, readReplicas, readWhole } from './options.ts';
import { Replicas } from './replicas.ts';
import { evaluateWithin } from './rights.ts';
import { WIDTH } from './scripts/remembered.ts';
import {
  KEYS_OF_A_STATE,
  NO_TOKEN,
  PEEK,
  STATE,
  TIME_DIGITS,
  VALUES_OF_AN_ANSWER,
} from './scripts/state.ts';
import { explain, warnOfEviction } from './setup.ts';
import { RedisStore } from './store.ts';
import { within } from './within.ts';

export interface RedisStateOptions {
  /** The start of every state's key. Default `state:`. */
  readonly prefix?: string;
  /**
   * How long the ids of messages are remembered after their first publishing, in milliseconds. Messages that are older
   * are refused. Default a day; at least a second.
   */
  readonly windowMs?: number;
  /**
   * A commit is answered only when so many replicas have it. Default 0: the master alone decides, and a failover may lose
   * a commit that was acknowledged. Not for a cluster.
   */
  readonly minReplicas?: number;
  /** How long to wait for those replicas, in milliseconds. Default 1,000. */
  readonly replicaTimeoutMs?: number;
  /** How long one request may take, in milliseconds, before its outcome counts as unknown. Default 2,000. */
  readonly requestTimeoutMs?: number;
}

export type StateSettings = Required<RedisStateOptions>;

const LOCKED = { is: 'locked' } as const;
const NO_MARKS: ReadonlyMap<string, Mark> = new Map();
/** Times are clamped to what their digits hold: what is beyond is as far out of any window. */
const MAX_TIME_MS = 10 ** TIME_DIGITS - 1;
const MIN_WINDOW_MS = 1_000;
const MAX_WINDOW_MS = 400 * DAY_MS;
/** A fence outlives everything that is remembered behind it. */
const WINDOWS_OF_A_FENCE = 3;

export function readStateOptions(options: RedisStateOptions): StateSettings {
  const prefix = readPrefix(options?.prefix, 'state:');
  if ('leasehold:'.startsWith(prefix)) {
    // Keys come with messages: one could name what stands beside locks.
    throw new InvalidArgumentError('the prefix of states is not empty, and no start of leasehold:');
  }
  return {
    prefix,
    windowMs: readWhole('windowMs', options?.windowMs ?? DAY_MS, MIN_WINDOW_MS, MAX_WINDOW_MS),
    ...readReplicas(options),
  };
}

/** What stands where somebody has a lock, and where somebody waits for it. */
type LockNames = Pick<KeyNames, 'lock' | 'members'>;

/** What scripts/state.ts is asked. */
interface Operation {
  readonly key: string;
  /** Its kind, and what a commit depends on. */
  readonly text: string;
  /** Of a commit. */
  readonly value?: string;
  readonly messages: readonly CommitMessage[];
  /** Where the lock is not taken. */
  readonly lock?: LockNames;
}

/** The keys and arguments of one run, in the order that the script wants. */
class Run {
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

interface Session {
  readonly client: RedisClient;
  readonly layout: Layout;
  readonly batcher: Batcher<Run>;
}

/** As scripts/state.ts gives it; what an answer has not is null. */
interface Answer {
  readonly is: unknown;
  readonly version: unknown;
  readonly value: unknown;
  readonly token: unknown;
  readonly list: readonly unknown[] | null;
}

export class RedisState implements StateStore {
  readonly name: string = 'redis';
  readonly windowMs: number;
  readonly #server: Server;
  readonly #settings: StateSettings;
  readonly #memoryMs: string;
  readonly #packings = new Packings();
  #session: Session | null = null;

  constructor(server: Server, settings: StateSettings) {
    this.#server = server;
    this.#settings = settings;
    this.windowMs = settings.windowMs;
    this.#memoryMs = String(Math.max(DAY_MS, WINDOWS_OF_A_FENCE * settings.windowMs));
  }

  async open(): Promise<void> {
    if (this.#session !== null) throw new Error('the redis state is open already');
    const { prefix, requestTimeoutMs } = this.#settings;
    const client = await this.#server.connect();
    const layout = new Layout({ prefix, isCluster: client.isCluster, nonce: '' });
    // A server of a cluster has to know all keys, or it would miss those that have moved to another one already.
    const named = client.isCluster ? KEYS_OF_A_STATE : 1;
    const args = [PROCESS, this.#memoryMs, String(this.windowMs), String(named)];
    const replicas = new Replicas(client, this.#settings);
    const session = {
      client,
      layout,
      batcher: new Batcher(
        (slot) => new Run(layout.epochKeyOf(slot), args),
        (run) => this.#execute({ client, replicas }, run),
      ),
    };
    try {
      await within(client.connect(), requestTimeoutMs, 'a new connection');
      await this.#peek(session, 'leasehold-probe');
      await warnOfEviction(client, requestTimeoutMs, 'states');
    } catch (cause) {
      await client.close();
      throw explain(cause, 'scripts (+@scripting +@read +@write)');
    }
    this.#session = session;
  }

  load(key: string, lease: Token, messages: readonly CommitMessage[]): Promise<LoadOutcome> {
    const operation = { key, text: `l0${lease.tokenText}`, messages };
    return this.#call(operation, ({ is, version, value, token, list }): LoadOutcome => {
      if (is === 'stale') return { is, fence: tokenOf(token) };
      if (is !== 'loaded') throw new UnreadableAnswerError('a load');
      const at = { key, version: versionOf(version) };
      const marks = this.#packings.lookedFor(at, list, messages);
      return { is, value: readValue(value, 'a load'), version: at.version, marks };
    });
  }

  async peek(key: string): Promise<string | null> {
    return readValue(await this.#peek(this.#opened(), key), 'a look');
  }

  commit(commit: Commit): Promise<CommitOutcome> {
    const { key, lease, value, messages } = commit;
    const text = `c${this.#packings.newnessOf(commit)}${lease.tokenText}${stepOf(commit)}`;
    return this.#call({ key, text, value, messages }, (answer): CommitOutcome => {
      switch (answer.is) {
        case 'committed':
          return { is: 'committed', version: commit.expectedVersion + 1 };
        case 'moved':
          return { is: 'moved', version: versionOf(answer.version) };
        default:
          return refusalOf(answer, messages);
      }
    });
  }

  elision(leases: LeaseStore): Elision | null {
    if (!(leases instanceof RedisStore) || !leases.isBeside(this.#server)) return null;
    const layout = new Layout({ prefix: leases.prefix, isCluster: false, nonce: '' });
    const lockOf = (name: string): LockNames | null => {
      const names = layout.namesOf(name, layout.slotOf(name));
      return isTaken(names.lock) ? null : names;
    };
    return {
      look: (key, lockName, messages) => this.#look(key, lockOf(lockName), messages),
      commit: (commit) => this.#commitElided(commit, lockOf(commit.lockName)),
    };
  }

  #look(
    key: string,
    lock: LockNames | null,
    messages: readonly CommitMessage[],
  ): Promise<LookOutcome> {
    if (lock === null) return Promise.resolve(LOCKED);
    return this.#call({ key, lock, text: 'f', messages }, (answer): LookOutcome => {
      if (answer.is === 'locked') return LOCKED;
      if (answer.is !== 'loaded') throw new UnreadableAnswerError('a look at a state');
      return { is: 'seen', ...this.#sightOf(key, answer, messages) };
    });
  }

  #commitElided(commit: ElidedCommit, lock: LockNames | null): Promise<ElidedCommitOutcome> {
    if (lock === null) return Promise.resolve(LOCKED);
    const { key, value, messages } = commit;
    const fence = commit.expectedFence || NO_TOKEN;
    const text = `e${this.#packings.newnessOf(commit)}${fence}${stepOf(commit)}`;
    return this.#call({ key, lock, text, value, messages }, (answer): ElidedCommitOutcome => {
      const { is, token } = answer;
      switch (is) {
        case 'committed':
          return { is, version: commit.expectedVersion + 1, fence: tokenOf(token) };
        case 'moved':
          return { is, ...this.#sightOf(key, answer, messages) };
        case 'locked':
          return LOCKED;
        default:
          return refusalOf(answer, messages);
      }
    });
  }

  #sightOf(key: string, answer: Answer, messages: readonly CommitMessage[]): Sight {
    const version = versionOf(answer.version);
    return {
      value: readValue(answer.value, 'a script'),
      version,
      fence: answer.token === null ? '' : tokenOf(answer.token),
      marks: this.#packings.lookedFor({ key, version }, answer.list, messages),
    };
  }

  async markDead(
    key: string,
    messages: readonly CommitMessage[],
  ): Promise<ReadonlyMap<string, Mark>> {
    if (messages.length === 0) return new Map();
    return this.#call({ key, text: 'm', messages }, ({ is, list }) => {
      if (is !== 'marked') throw new UnreadableAnswerError('a mark');
      return readMarks(list, messages);
    });
  }

  async close(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    await session?.client.close();
  }

  /** Not `async`: it is called for each message, and such a function costs turns of the event loop. */
  #call<T>(operation: Operation, read: (answer: Answer) => T): Promise<T> {
    if (this.#session === null) return Promise.reject(notOpen());
    const { layout, batcher } = this.#session;
    const slot = layout.slotOf(operation.key);
    const keys = layout.stateNamesOf(operation.key, slot);
    const add = (run: Run): void =>
      run.add(keys, operation, this.#packings.textOf(operation.messages));
    return batcher.submit(slot, add, (given) => {
      const answer = given as Answer;
      if (answer.is === 'failed') throw new Error(`Redis: ${String(answer.value)} (${keys[0]})`);
      return read(answer);
    });
  }

  /** One run of the script, and then the replicas when somebody may rely on an answer for good. */
  async #execute(
    { client, replicas }: { readonly client: RedisClient; readonly replicas: Replicas },
    of: Run,
  ): Promise<readonly Answer[]> {
    const { connections } = client;
    const { requestTimeoutMs: timeoutMs } = this.#settings;
    const what = 'a load, a commit or a mark';
    const { keys, args } = of;
    const run = { script: STATE, keys, args, timeoutMs, what };
    const answers = of.read(await evaluateWithin(client, run));
    if (answers.some(lasts)) await replicas.confirm(connections);
    return answers;
  }

  #peek({ client, layout }: Session, key: string): Promise<unknown> {
    const [state] = layout.stateNamesOf(key, layout.slotOf(key));
    const { requestTimeoutMs: timeoutMs } = this.#settings;
    const what = 'a look at a state';
    return evaluateWithin(client, { script: PEEK, keys: [state], args: [], timeoutMs, what });
  }

  #opened(): Session {
    if (this.#session === null) throw notOpen();
    return this.#session;
  }
}

function notOpen(): Error {
  return new Error('the redis state is not open');
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

/** Messages that are committed, or known to be, are acknowledged on the strength of that. */
function lasts({ is, list }: Answer): boolean {
  return is === 'committed' || (list !== null && is !== 'old');
}

/** Which version a commit makes of which, and its own id, with its length. */
function stepOf({ expectedVersion, id }: { expectedVersion: number; id: string }): string {
  return `${expectedVersion} ${expectedVersion + 1} ${Buffer.byteLength(id)} ${id}`;
}

/** Messages as scripts/state.ts reads them. */
interface Packed {
  readonly text: string;
  readonly length: number;
  /** The state and its version in which none of them was known. */
  newIn: { readonly key: string; readonly version: number } | null;
}

/** Lists of messages of one store: what was looked for is committed next. Nobody changes a list that was given. */
class Packings {
  readonly #packings = new WeakMap<readonly CommitMessage[], Packed>();

  textOf(messages: readonly CommitMessage[]): string {
    return this.#of(messages).text;
  }

  /** The marks of messages that were looked for. Where there are none, a commit need not look again. */
  lookedFor(
    { key, version }: { readonly key: string; readonly version: number },
    list: readonly unknown[] | null,
    messages: readonly CommitMessage[],
  ): ReadonlyMap<string, Mark> {
    if (list === null) this.#of(messages).newIn = { key, version };
    return readMarks(list, messages);
  }

  /** 1 where none of the messages was known in the version that the commit expects, else 0. */
  newnessOf({ key, expectedVersion, messages }: Omit<Commit, 'lease'>): 0 | 1 {
    const newIn = this.#find(messages)?.newIn;
    return newIn?.key === key && newIn.version === expectedVersion ? 1 : 0;
  }

  #find(messages: readonly CommitMessage[]): Packed | null {
    const packed = this.#packings.get(messages);
    return packed?.length === messages.length ? packed : null;
  }

  #of(messages: readonly CommitMessage[]): Packed {
    const packed = this.#find(messages);
    if (packed) return packed;
    const made = { text: textOf(messages), length: messages.length, newIn: null };
    this.#packings.set(messages, made);
    return made;
  }
}

function textOf(messages: readonly CommitMessage[]): string {
  let text = '';
  for (const { id, publishedAtMs, isReplay } of messages) {
    if (!Number.isFinite(publishedAtMs)) {
      throw new InvalidArgumentError(
        `publishedAtMs of '${id}' is a time in ms, not ${publishedAtMs}`,
      );
    }
    const ms = Math.min(Math.max(0, Math.floor(publishedAtMs)), MAX_TIME_MS);
    text += `${shortOf(id)}${String(ms).padStart(TIME_DIGITS, '0')}${isReplay ? 1 : 0}`;
  }
  return text;
}

/**
 * A hash of an id in `WIDTH` bytes, all of them ASCII, since texts travel as UTF-8. Of a million ids that one key
 * remembers, the next message is taken for one by mistake with a chance of 10^6 / 2^70, less than one in 10^15.
 */
function shortOf(id: string): string {
  const digest = hash('sha1', id, 'binary');
  let short = '';
  for (let at = 0; at < WIDTH; at += 1) short += String.fromCharCode(digest.charCodeAt(at) & 0x7f);
  return short;
}

function readMarks(
  pairs: readonly unknown[] | null,
  messages: readonly CommitMessage[],
): ReadonlyMap<string, Mark> {
  if (pairs === null) return NO_MARKS;
  const marks = new Map<string, Mark>();
  for (let at = 0; at < pairs.length; at += 2) {
    const said = pairs[at + 1];
    if (said !== 'a' && said !== 'd') throw new UnreadableAnswerError('a script');
    const mark = said === 'a' ? 'applied' : 'dead-lettered';
    marks.set(messageAt(messages, pairs[at]).id, mark);
  }
  return marks;
}

/** Lua counts from one. */
function messageAt(messages: readonly CommitMessage[], index: unknown): CommitMessage {
  const message = messages[numberOf(index) - 1];
  if (message === undefined) throw new UnreadableAnswerError('a script');
  return message;
}

function versionOf(value: unknown): number {
  if (isWhole(value, 0)) return numberOf(value);
  throw new UnreadableAnswerError('a script');
}

/** `null` when there is none. */
function readValue(value: unknown, what: string): string | null {
  if (value === null || typeof value === 'string') return value;
  throw new UnreadableAnswerError(what);
}

/** Somebody may have written a fence by hand. */
function tokenOf(value: unknown): string {
  if (isToken(value)) return value;
  throw new UnreadableAnswerError('a script');
}

function refusalOf(
  { is, token, list }: Answer,
  messages: readonly CommitMessage[],
): Extract<CommitOutcome, { is: 'known' | 'too-old' | 'stale' }> {
  switch (is) {
    case 'known':
      return { is, marks: readMarks(list, messages) };
    case 'old':
      return { is: 'too-old', ids: (list ?? []).map((index) => messageAt(messages, index).id) };
    case 'stale':
      return { is, fence: tokenOf(token) };
    default:
      throw new UnreadableAnswerError('a commit');
  }
}

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
import { DAY_MS, PROCESS } from './fence.ts';
import { isTaken, Layout } from './layout.ts';
import { readPrefix, readReplicas, readWhole } from './options.ts';
import { Replicas } from './replicas.ts';
import { evaluateWithin } from './rights.ts';
import { WIDTH } from './scripts/remembered.ts';
import { KEYS_OF_A_STATE, PEEK, STATE, TIME_DIGITS } from './scripts/state.ts';
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

/** The keys and arguments of one run, in the order that the script wants. */
class Run {
  readonly keys: string[];
  readonly args: string[];
  length = 0;

  constructor(epochKey: string, args: readonly string[]) {
    this.keys = [epochKey];
    this.args = [...args];
  }

  add(keys: readonly string[], texts: readonly string[]): void {
    this.keys.push(...keys);
    this.args.push(...texts);
    this.length += 1;
  }
}

interface Session {
  readonly client: RedisClient;
  readonly layout: Layout;
  readonly replicas: Replicas;
  readonly batcher: Batcher<Run>;
}

type Answer = readonly [string, ...unknown[]];

export class RedisState implements StateStore {
  readonly name: string = 'redis';
  readonly windowMs: number;
  readonly #server: Server;
  readonly #settings: StateSettings;
  readonly #memoryMs: string;
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
    const session = {
      client,
      layout,
      replicas: new Replicas(client, this.#settings),
      batcher: new Batcher(
        (slot) => new Run(layout.epochKeyOf(slot), args),
        (run) => this.#execute(client, run),
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

  async load(key: string, lease: Token, messages: readonly CommitMessage[]): Promise<LoadOutcome> {
    const texts = [`l${lease.tokenText}`, textOf(messages)];
    const answer = await this.#call(key, texts, (given) => given.length > 3);
    const [is, version, value, ...marks] = answer;
    if (is === 'stale') return { is, fence: tokenOf(answer[1]) };
    if (is !== 'loaded') throw new UnreadableAnswerError('a load');
    return {
      is,
      value: readValue(value, 'a load'),
      version: versionOf(version),
      marks: readMarks(marks, messages),
    };
  }

  async peek(key: string): Promise<string | null> {
    return readValue(await this.#peek(this.#opened(), key), 'a look');
  }

  async commit(commit: Commit): Promise<CommitOutcome> {
    const { key, lease, id, expectedVersion, value, messages } = commit;
    const operation = `c${lease.tokenText} ${expectedVersion} ${id}`;
    const answer = await this.#call(key, [operation, value, textOf(messages)], lasts);
    const [is, ...rest] = answer;
    switch (is) {
      case 'committed':
      case 'moved':
        return { is, version: versionOf(rest[0]) };
      default:
        return refusalOf(answer, messages);
    }
  }

  elision(leases: LeaseStore): Elision | null {
    if (!(leases instanceof RedisStore) || !leases.isBeside(this.#server)) return null;
    const lockOf = (name: string): string | null => {
      const lock = leases.lockOf(name);
      return isTaken(lock) ? null : lock;
    };
    return {
      look: (key, lockName, messages) => this.#look(key, lockOf(lockName), messages),
      commit: (commit) => this.#commitElided(commit, lockOf(commit.lockName)),
    };
  }

  async #look(
    key: string,
    lock: string | null,
    messages: readonly CommitMessage[],
  ): Promise<LookOutcome> {
    if (lock === null) return { is: 'locked' };
    const answer = await this.#call(
      key,
      ['f', textOf(messages)],
      (given) => given.length > 4,
      lock,
    );
    if (answer[0] === 'locked') return { is: 'locked' };
    if (answer[0] !== 'loaded') throw new UnreadableAnswerError('a look at a state');
    return { is: 'seen', ...sightOf(answer, messages) };
  }

  async #commitElided(commit: ElidedCommit, lock: string | null): Promise<ElidedCommitOutcome> {
    if (lock === null) return { is: 'locked' };
    const { key, expectedFence, expectedVersion, id, value, messages } = commit;
    const operation = `e${expectedFence} ${expectedVersion} ${id}`;
    const texts = [operation, value, textOf(messages)];
    const answer = await this.#call(key, texts, lasts, lock);
    switch (answer[0]) {
      case 'committed':
        return { is: 'committed', version: versionOf(answer[1]), fence: tokenOf(answer[2]) };
      case 'moved':
        return { is: 'moved', ...sightOf(answer, messages) };
      case 'locked':
        return { is: 'locked' };
      default:
        return refusalOf(answer, messages);
    }
  }

  async markDead(
    key: string,
    messages: readonly CommitMessage[],
  ): Promise<ReadonlyMap<string, Mark>> {
    if (messages.length === 0) return new Map();
    const [is, ...marks] = await this.#call(key, ['m', textOf(messages)], () => true);
    if (is !== 'marked') throw new UnreadableAnswerError('a mark');
    return readMarks(marks, messages);
  }

  async close(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    await session?.client.close();
  }

  /** One operation, and then the replicas when somebody may rely on its answer for good. */
  async #call(
    key: string,
    texts: readonly string[],
    hasToLast: (answer: Answer) => boolean,
    lock?: string,
  ): Promise<Answer> {
    const { client, layout, replicas, batcher } = this.#opened();
    const { connections } = client;
    const slot = layout.slotOf(key);
    const keys = layout.stateNamesOf(key, slot);
    if (lock !== undefined) keys.push(lock);
    const answer = await batcher.submit(slot, (run) => run.add(keys, texts));
    if (!Array.isArray(answer) || typeof answer[0] !== 'string') {
      throw new UnreadableAnswerError('a script');
    }
    if (answer[0] === 'failed') throw new Error(`Redis: ${String(answer[1])} (${keys[0]})`);
    if (hasToLast(answer as unknown as Answer)) await replicas.confirm(connections);
    return answer as unknown as Answer;
  }

  async #execute(client: RedisClient, { keys, args, length }: Run): Promise<readonly unknown[]> {
    const { requestTimeoutMs: timeoutMs } = this.#settings;
    const what = 'a load, a commit or a mark';
    const run = { script: STATE, keys, args, timeoutMs, what };
    return answersTo(length, await evaluateWithin(client, run));
  }

  #peek({ client, layout }: Session, key: string): Promise<unknown> {
    const [state] = layout.stateNamesOf(key, layout.slotOf(key));
    const { requestTimeoutMs: timeoutMs } = this.#settings;
    const what = 'a look at a state';
    return evaluateWithin(client, { script: PEEK, keys: [state], args: [], timeoutMs, what });
  }

  #opened(): Session {
    if (this.#session === null) throw new Error('the redis state is not open');
    return this.#session;
  }
}

/** Messages that are committed, or known to be, are acknowledged on the strength of that. */
function lasts([is, ...rest]: Answer): boolean {
  return is === 'committed' || is === 'known' || (is === 'moved' && rest.length > 3);
}

/** As scripts/state.ts reads them. */
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
  pairs: readonly unknown[],
  messages: readonly CommitMessage[],
): ReadonlyMap<string, Mark> {
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

function tokenOf(value: unknown): string {
  if (typeof value === 'string') return value;
  throw new UnreadableAnswerError('a script');
}

function sightOf(
  [, version, value, fence, ...marks]: Answer,
  messages: readonly CommitMessage[],
): Sight {
  return {
    value: readValue(value, 'a script'),
    version: versionOf(version),
    fence: tokenOf(fence),
    marks: readMarks(marks, messages),
  };
}

function refusalOf(
  answer: Answer,
  messages: readonly CommitMessage[],
): Extract<CommitOutcome, { is: 'known' | 'too-old' | 'stale' }> {
  const [is, ...rest] = answer;
  switch (is) {
    case 'known':
      return { is, marks: readMarks(rest, messages) };
    case 'old':
      return { is: 'too-old', ids: rest.map((index) => messageAt(messages, index).id) };
    case 'stale':
      return { is, fence: tokenOf(answer[1]) };
    default:
      throw new UnreadableAnswerError('a commit');
  }
}

/**
 * States on Redis, with what has been applied to them: the `StateStore` of a keyed consumer. Each call is one operation of
 * a script, so that it happens in one step or not at all.
 */
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
import { isWhole, numberOf, UnreadableAnswerError } from './answers.ts';
import { Batcher } from './batch.ts';
import type { RedisClient, Server } from './clients/client.ts';
import { DAY_MS, isToken, PROCESS } from './fence.ts';
import { isTaken, Layout } from './layout.ts';
import { readPrefix, readReplicas, readWhole } from './options.ts';
import { Replicas } from './replicas.ts';
import { evaluateWithin } from './rights.ts';
import { KEYS_OF_A_STATE, NO_TOKEN, PEEK, STATE } from './scripts/state.ts';
import { explain, warnOfEviction } from './setup.ts';
import { messageAt, Packings, readMarks } from './state-messages.ts';
import { type Answer, type LockNames, type Operation, Run } from './state-run.ts';
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

interface Session {
  readonly client: RedisClient;
  readonly layout: Layout;
  readonly batcher: Batcher<Run>;
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

/** Messages that are committed, or known to be, are acknowledged on the strength of that. */
function lasts({ is, list }: Answer): boolean {
  return is === 'committed' || (list !== null && is !== 'old');
}

/** Which version a commit makes of which, and its own id, with its length. */
function stepOf({ expectedVersion, id }: { expectedVersion: number; id: string }): string {
  return `${expectedVersion} ${expectedVersion + 1} ${Buffer.byteLength(id)} ${id}`;
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

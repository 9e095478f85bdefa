/**
 * States in a folder, with what was applied to them: the `StateStore` for the processes of one machine.
 */
import { randomUUID } from 'node:crypto';
import type {
  Commit,
  CommitMessage,
  CommitOutcome,
  LoadOutcome,
  Mark,
  StateStore,
} from '../../consumer/contracts.ts';
import { InvalidArgumentError } from '../../core/errors.ts';
import type { Token } from '../../core/fence.ts';
import {
  type RecordsOptions,
  type RecordsSettings,
  RecordsUser,
  readRecordsOptions,
} from '../records/client.ts';
import type { StateCall } from './steps.ts';

export interface EmbeddedStateOptions extends RecordsOptions {
  /** Which states: those of another name have nothing in common with them. Default `states`. */
  readonly name?: string;
  /**
   * How long the ids of messages are remembered after their first publishing, in milliseconds. Messages that are older
   * are refused. The shortest of all that use these states counts. Default a day; at least a second.
   */
  readonly windowMs?: number;
}

const DAY_MS = 86_400_000;
const MIN_WINDOW_MS = 1_000;
const MAX_WINDOW_MS = 400 * DAY_MS;
const MAX_NAME_LENGTH = 100;
const OWNER: string = randomUUID();

type PartOf<Call> = Call extends StateCall ? Omit<Call, 'name' | 'owner' | 'windowMs'> : never;

export class EmbeddedState implements StateStore {
  readonly name: string = 'embedded';
  readonly windowMs: number;
  readonly #space: string;
  readonly #settings: RecordsSettings;
  #records: RecordsUser | null = null;

  constructor(options: EmbeddedStateOptions) {
    this.#settings = readRecordsOptions(options);
    const { name = 'states', windowMs = DAY_MS } = options;
    if (typeof name !== 'string' || name === '' || name.length > MAX_NAME_LENGTH) {
      throw new InvalidArgumentError(`name is text of 1 to ${MAX_NAME_LENGTH} characters`);
    }
    if (!Number.isInteger(windowMs) || windowMs < MIN_WINDOW_MS || windowMs > MAX_WINDOW_MS) {
      throw new InvalidArgumentError(
        `windowMs is a whole number from ${MIN_WINDOW_MS} to ${MAX_WINDOW_MS}`,
      );
    }
    this.#space = name;
    this.windowMs = windowMs;
  }

  async open(): Promise<void> {
    if (this.#records !== null) throw new Error('the embedded state is open already');
    this.#records = await RecordsUser.open(this.#settings);
  }

  load(key: string, lease: Token, messages: readonly CommitMessage[]): Promise<LoadOutcome> {
    return this.#call({ is: 'load', key, token: lease.tokenText, messages: messages.map(plain) });
  }

  peek(key: string): Promise<string | null> {
    return this.#call({ is: 'peek', key });
  }

  commit({ lease, ...commit }: Commit): Promise<CommitOutcome> {
    const messages = commit.messages.map(plain);
    return this.#call({ is: 'commit', token: lease.tokenText, commit: { ...commit, messages } });
  }

  markDead(key: string, messages: readonly CommitMessage[]): Promise<ReadonlyMap<string, Mark>> {
    return this.#call({ is: 'dead', key, messages: messages.map(plain) });
  }

  async close(): Promise<void> {
    const records = this.#records;
    this.#records = null;
    await records?.close();
  }

  async #call<Answer>(call: PartOf<StateCall>): Promise<Answer> {
    if (this.#records === null) throw new Error('the embedded state is not open');
    const { windowMs } = this;
    return this.#records.call('state', { ...call, name: this.#space, owner: OWNER, windowMs });
  }
}

/** What travels to the thread has to be plain data. */
function plain({ id, publishedAtMs, isReplay }: CommitMessage): CommitMessage {
  if (Number.isFinite(publishedAtMs)) return { id, publishedAtMs, isReplay };
  throw new InvalidArgumentError(`publishedAtMs of '${id}' is a time in ms, not ${publishedAtMs}`);
}

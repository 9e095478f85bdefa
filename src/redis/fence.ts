/**
 * A fence where the data is: values on Redis that only the latest holder of a lock can write.
 *
 * A lease can end while its holder is stalled, and no lock can stop what the holder does then. The fence does: it keeps
 * the highest token that has read or written the value, and refuses every lower one. See Kleppmann, "How to do
 * distributed locking" (2016), for the idea.
 */
import { InvalidArgumentError } from '../core/errors.ts';
import { StaleTokenError, type Token } from '../core/fence.ts';
import { UnreadableAnswerError } from './answers.ts';
import type { RedisClient } from './clients/client.ts';
import { type AnyRedisClient, adapt } from './clients/connect.ts';
import { isTaken, NAME_TAKEN } from './layout.ts';
import { readWhole } from './options.ts';
import { evaluateWithin } from './rights.ts';
import { FENCE, fencedScript, RESET } from './scripts/fence.ts';
import type { Script } from './scripts/script.ts';

export interface FenceOptions {
  /** The start of every value's key. Default none: the key is used as it is given. */
  readonly prefix?: string;
  /** How long a fence is remembered after its last use and the end of its value, in milliseconds. Default a day. */
  readonly memoryMs?: number;
  /** How long one request may take, in milliseconds. Default 2,000. */
  readonly requestTimeoutMs?: number;
}

export interface FencedValue {
  /** `null` when there is none. */
  readonly value: string | null;
  /** How often the value was written; 0 when it never was. */
  readonly version: number;
}

export interface FencedSetOptions {
  /** How long the value lives, in milliseconds. Default: for ever. The fence lives longer. */
  readonly ttlMs?: number;
}

/** One name for the process: two of its leases never have the same token, and two processes never share this. */
export const PROCESS: string = crypto.randomUUID();
export const DAY_MS = 86_400_000;
/** Times are added to the server's clock in milliseconds, and have to stay exact. */
const MAX_MS: number = 1_000 * 366 * DAY_MS;
const MAX_TIMEOUT_MS = 600_000;

export class Fence {
  readonly #client: RedisClient;
  readonly #prefix: string;
  readonly #memoryMs: number;
  readonly #timeoutMs: number;

  constructor(client: RedisClient, options: FenceOptions) {
    const { prefix, memoryMs, requestTimeoutMs } = options ?? {};
    this.#client = client;
    this.#prefix = textOf('prefix', prefix ?? '');
    this.#memoryMs = readWhole('memoryMs', memoryMs ?? DAY_MS, 1, MAX_MS);
    this.#timeoutMs = readWhole('requestTimeoutMs', requestTimeoutMs ?? 2_000, 1, MAX_TIMEOUT_MS);
  }

  /**
   * Reads the value, and raises its fence to this token: whoever held the lock before can no longer write what it had
   * read. Rejects with `StaleTokenError` when somebody with a higher token was here.
   */
  async get(key: string, lease: Token): Promise<FencedValue> {
    const [version, value] = await this.#run(FENCE, [key], lease, ['get']);
    if (value !== null && typeof value !== 'string') {
      throw new UnreadableAnswerError('a fenced read');
    }
    return { value, version: Number(version) };
  }

  /** Writes the value, and returns its version. Rejects with `StaleTokenError`, and then writes nothing. */
  async set(key: string, value: string, lease: Token, options?: FencedSetOptions): Promise<number> {
    const args = ['set', textOf('a fenced value', value), ttlOf(options)];
    const [version] = await this.#run(FENCE, [key], lease, args);
    return Number(version);
  }

  /**
   * Writes the value if it still has the expected version, and returns the new version; `null` when it has not. Rejects
   * with `StaleTokenError`, and then writes nothing.
   */
  async compareAndSet(
    key: string,
    expectedVersion: number,
    value: string,
    lease: Token,
    options?: FencedSetOptions,
  ): Promise<number | null> {
    const version = readWhole('expectedVersion', expectedVersion, 0, Number.MAX_SAFE_INTEGER);
    const args = ['cas', textOf('a fenced value', value), ttlOf(options), String(version)];
    const reply = await this.#send(FENCE, [key], lease, args);
    return reply[0] === 'differs' ? null : Number(reply[1]);
  }

  /**
   * Runs a Lua script of the caller's behind the fence, in the same atomic step. It sees `KEYS` (the first is the fence
   * itself, a hash of which the field `v` is the value, if that is used) and `ARGV`, and returns what it likes. Rejects
   * with `StaleTokenError` before the script has begun.
   */
  async run(
    lua: string,
    keys: readonly [string, ...string[]],
    args: readonly string[],
    lease: Token,
  ): Promise<unknown> {
    if (!Array.isArray(keys) || keys.length === 0 || !Array.isArray(args)) {
      throw new InvalidArgumentError(
        'run takes a list of keys, the fenced one first, and a list of arguments',
      );
    }
    const texts = args.map((arg) => textOf('an argument', arg));
    const script = fencedScript(textOf('the script', lua));
    const [result] = await this.#run(script, keys, lease, ['run', ...texts]);
    return result;
  }

  /**
   * Forgets the fence and keeps the value: for a key that was moved to another lock store, whose tokens may be lower.
   * Do it while nobody holds the lock.
   */
  async reset(key: string): Promise<void> {
    await this.#evaluate(RESET, [this.#nameOf(key)], []);
  }

  async #evaluate(
    script: Script,
    keys: readonly string[],
    args: readonly string[],
  ): Promise<unknown> {
    const timeoutMs = this.#timeoutMs;
    const what = 'a fenced request';
    return evaluateWithin(this.#client, { script, keys, args, timeoutMs, what });
  }

  #nameOf(key: string): string {
    const name = this.#prefix + textOf('a key', key);
    if (isTaken(name)) throw new InvalidArgumentError(NAME_TAKEN);
    return name;
  }

  async #run(
    script: Script,
    keys: readonly string[],
    lease: Token,
    args: readonly string[],
  ): Promise<unknown[]> {
    return (await this.#send(script, keys, lease, args)).slice(1);
  }

  async #send(
    script: Script,
    keys: readonly string[],
    lease: Token,
    args: readonly string[],
  ): Promise<unknown[]> {
    const names = keys.map((key) => this.#nameOf(key));
    // Anything else would count as the highest token for ever.
    if (!isToken(lease?.tokenText)) {
      throw new InvalidArgumentError('give a lease');
    }
    const all = [lease.tokenText, PROCESS, String(this.#memoryMs), ...args];
    const reply = await this.#evaluate(script, names, all);
    const [is, detail] = Array.isArray(reply) ? reply : [];
    if (is === 'stale') {
      throw new StaleTokenError(names[0] as string, lease.tokenText, String(detail));
    }
    if (is === 'ok' || is === 'differs') return reply as unknown[];
    throw new UnreadableAnswerError('a fenced request');
  }
}

/** What the script could not write would be found out after the fence was raised. */
function textOf(what: string, value: unknown): string {
  if (typeof value === 'string') return value;
  throw new InvalidArgumentError(`${what} is text, not ${typeof value}: encode it first`);
}

function ttlOf(options: FencedSetOptions | undefined): string {
  const ttlMs = options?.ttlMs;
  return ttlMs === undefined ? '' : String(readWhole('ttlMs', ttlMs, 1, MAX_MS));
}

/**
 * A fence on the values of this client, which is as for `redis()`. Give it the lease of the lock that protects the
 * value; on a cluster, any node may have the value.
 */
export function fenced(client: AnyRedisClient, options: FenceOptions = {}): Fence {
  return new Fence(adapt(client), options);
}

/** Whether it is a fencing token as texts have it: 20 digits. */
export function isToken(value: unknown): value is string {
  return typeof value === 'string' && /^\d{20}$/.test(value);
}

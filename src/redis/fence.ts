/**
 * A fence where the data is: values on Redis that only the latest holder of a lock can write.
 *
 * A lease can end while its holder is stalled, and no lock can stop what the holder does then. The fence does: it keeps
 * the highest token that has read or written the value, and refuses every lower one. See Kleppmann, "How to do
 * distributed locking" (2016), for the idea.
 */
import { InvalidArgumentError } from '../core/errors.ts';
import { StaleTokenError, type Token } from '../core/fence.ts';
import type { RedisClient } from './clients/client.ts';
import { type AnyRedisClient, adapt } from './clients/connect.ts';
import { readWhole } from './options.ts';
import { FENCE, fencedScript, RESET } from './scripts/fence.ts';
import type { Script } from './scripts/script.ts';
import { within } from './within.ts';

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
    this.#client = client;
    this.#prefix = options.prefix ?? '';
    const { memoryMs = DAY_MS, requestTimeoutMs = 2_000 } = options;
    this.#memoryMs = readWhole('memoryMs', memoryMs, 1, MAX_MS);
    this.#timeoutMs = readWhole('requestTimeoutMs', requestTimeoutMs, 1, MAX_TIMEOUT_MS);
  }

  /**
   * Reads the value, and raises its fence to this token: whoever held the lock before can no longer write what it had
   * read. Rejects with `StaleTokenError` when somebody with a higher token was here.
   */
  async get(key: string, lease: Token): Promise<FencedValue> {
    const [version, value] = await this.#run(FENCE, [key], lease, ['get']);
    return { value: value as string | null, version: Number(version) };
  }

  /** Writes the value, and returns its version. Rejects with `StaleTokenError`, and then writes nothing. */
  async set(
    key: string,
    value: string,
    lease: Token,
    { ttlMs }: FencedSetOptions = {},
  ): Promise<number> {
    const args = ['set', textOf(value), ttlOf(ttlMs)];
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
    { ttlMs }: FencedSetOptions = {},
  ): Promise<number | null> {
    const version = readWhole('expectedVersion', expectedVersion, 0, Number.MAX_SAFE_INTEGER);
    const args = ['cas', textOf(value), ttlOf(ttlMs), String(version)];
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
    const [result] = await this.#run(fencedScript(lua), keys, lease, ['run', ...args]);
    return result;
  }

  /**
   * Forgets the fence and keeps the value: for a key that was moved to another lock store, whose tokens may be lower.
   * Do it while nobody holds the lock.
   */
  async reset(key: string): Promise<void> {
    const sent = this.#client.evaluate(RESET, [this.#prefix + key], []);
    await within(sent, this.#timeoutMs, 'a reset of a fence');
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
    const names = keys.map((key) => this.#prefix + key);
    const all = [lease.tokenText, PROCESS, String(this.#memoryMs), ...args];
    const sent = this.#client.evaluate(script, names, all);
    const reply = (await within(sent, this.#timeoutMs, 'a fenced request')) as unknown[];
    if (reply[0] === 'stale') {
      throw new StaleTokenError(names[0] as string, lease.tokenText, String(reply[1]));
    }
    return reply;
  }
}

/** What the script could not write would be found out after the fence was raised. */
function textOf(value: string): string {
  if (typeof value === 'string') return value;
  throw new InvalidArgumentError(`a fenced value is text, not ${typeof value}: encode it first`);
}

function ttlOf(ttlMs: number | undefined): string {
  return ttlMs === undefined ? '' : String(readWhole('ttlMs', ttlMs, 1, MAX_MS));
}

/**
 * A fence on the values of this client, which is as for `redis()`. Give it the lease of the lock that protects the
 * value; on a cluster, any node may have the value.
 */
export function fenced(client: AnyRedisClient, options: FenceOptions = {}): Fence {
  return new Fence(adapt(client), options);
}

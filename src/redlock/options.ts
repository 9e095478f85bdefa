/**
 * The options of `redlock()`: their meaning, their defaults and their limits.
 */
import { InvalidArgumentError } from '../core/errors.ts';

export interface RedlockOptions {
  /**
   * The start of every lock's key. Default `lock:`. Give the empty text to share locks with clients of another kind
   * that use bare names; a lock that is named like a data key is then refused.
   */
  readonly prefix?: string;
  /**
   * How long one node may take to answer, in milliseconds, before the others decide without it. Default 1,000. A claim
   * waits for a third of its ttl at the most, and for no less than 500 ms.
   */
  readonly requestTimeoutMs?: number;
  /**
   * The longest ttl that may be used, in milliseconds; a longer one is refused. Default 10,000. A node that comes back
   * without its data abstains for the longest that any client of it has given here, and so do new nodes at first.
   */
  readonly maxTtlMs?: number;
  /**
   * True when every node keeps an append-only file that is synced with each write (`appendonly yes`, `appendfsync
   * always`): a restart then loses nothing, and no node has to abstain after it. Default false. All clients of the
   * nodes say the same.
   */
  readonly durable?: boolean;
}

export type Settings = Required<RedlockOptions>;

const LIMITS = { prefixLength: 512, timeoutMs: 600_000, ttlMs: 2_147_483_647 } as const;

export function readOptions(options: RedlockOptions): Settings {
  const { prefix = 'lock:', durable = false, requestTimeoutMs, maxTtlMs } = options ?? {};
  if (typeof prefix !== 'string' || prefix.length > LIMITS.prefixLength) {
    throw new InvalidArgumentError(`prefix is text of at most ${LIMITS.prefixLength} characters`);
  }
  if (prefix.startsWith('leasehold:')) {
    throw new InvalidArgumentError('the prefix leasehold: is taken: choose another');
  }
  if (typeof durable !== 'boolean') throw new InvalidArgumentError('durable is true or false');
  return {
    prefix,
    durable,
    requestTimeoutMs: read('requestTimeoutMs', requestTimeoutMs ?? 1_000, LIMITS.timeoutMs),
    maxTtlMs: read('maxTtlMs', maxTtlMs ?? 10_000, LIMITS.ttlMs),
  };
}

function read(name: string, value: number, max: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= max) return value;
  throw new InvalidArgumentError(
    `${name} is a whole number from 1 to ${max}, not ${typeof value === 'number' ? value : typeof value}`,
  );
}

/**
 * The options of `redis()`: their meaning, their defaults and their limits.
 */
import { InvalidArgumentError } from '../core/errors.ts';

export interface RedisOptions {
  /**
   * The start of every lock's key. Default `lock:`. Give the empty text to share locks with clients of another kind
   * that use bare names; a lock that is named like a data key is then refused.
   */
  readonly prefix?: string;
  /**
   * How long one request to Redis may take, in milliseconds, before it counts as unanswered and is made again.
   * Default 2,000.
   */
  readonly requestTimeoutMs?: number;
  /**
   * A lease is granted, and renewed, only when so many replicas have it. Default 0: the master alone decides, and a
   * failover may lose a lock. Not for a cluster.
   */
  readonly minReplicas?: number;
  /** How long to wait for those replicas, in milliseconds. Default 1,000. */
  readonly replicaTimeoutMs?: number;
}

export type Settings = Required<RedisOptions>;

const LIMITS = { prefixLength: 512, timeoutMs: 600_000, replicas: 100 } as const;

export function readOptions(options: RedisOptions): Settings {
  return { prefix: readPrefix(options?.prefix, 'lock:'), ...readReplicas(options) };
}

export function readPrefix(given: string | undefined, fallback: string): string {
  const prefix = given ?? fallback;
  if (typeof prefix !== 'string' || prefix.length > LIMITS.prefixLength) {
    throw new InvalidArgumentError(`prefix is text of at most ${LIMITS.prefixLength} characters`);
  }
  if (prefix.startsWith('leasehold:')) {
    throw new InvalidArgumentError('the prefix leasehold: is taken: choose another');
  }
  return prefix;
}

/** The options of whatever writes to a server that may have replicas. */
export function readReplicas(
  options: Omit<RedisOptions, 'prefix'>,
): Required<Omit<RedisOptions, 'prefix'>> {
  const { requestTimeoutMs = 2_000, minReplicas = 0, replicaTimeoutMs = 1_000 } = options ?? {};
  return {
    requestTimeoutMs: readWhole('requestTimeoutMs', requestTimeoutMs, 1, LIMITS.timeoutMs),
    minReplicas: readWhole('minReplicas', minReplicas, 0, LIMITS.replicas),
    replicaTimeoutMs: readWhole('replicaTimeoutMs', replicaTimeoutMs, 1, LIMITS.timeoutMs),
  };
}

/** Throws `InvalidArgumentError` unless it is a whole number within these limits, both included. */
export function readWhole(name: string, value: number, min: number, max: number): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  const given = typeof value === 'number' ? value : typeof value;
  throw new InvalidArgumentError(`${name} is a whole number from ${min} to ${max}, not ${given}`);
}

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
  const { prefix = 'lock:' } = options;
  if (typeof prefix !== 'string' || prefix.length > LIMITS.prefixLength) {
    throw new InvalidArgumentError(`prefix is text of at most ${LIMITS.prefixLength} characters`);
  }
  if (prefix.startsWith('leasehold:')) {
    throw new InvalidArgumentError('the prefix leasehold: is taken: choose another');
  }
  return {
    prefix,
    requestTimeoutMs: read(
      'requestTimeoutMs',
      options.requestTimeoutMs ?? 2_000,
      1,
      LIMITS.timeoutMs,
    ),
    minReplicas: read('minReplicas', options.minReplicas ?? 0, 0, LIMITS.replicas),
    replicaTimeoutMs: read(
      'replicaTimeoutMs',
      options.replicaTimeoutMs ?? 1_000,
      1,
      LIMITS.timeoutMs,
    ),
  };
}

function read(name: string, value: number, min: number, max: number): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new InvalidArgumentError(`${name} is a whole number from ${min} to ${max}, not ${value}`);
}

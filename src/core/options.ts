/**
 * The options of the public face: their meaning, their defaults and their limits, checked in one place.
 */
import type { Clock } from './clock.ts';
import { InvalidArgumentError } from './errors.ts';
import { type LeaseStore, SHARED_CAPACITY } from './store.ts';

export interface LockOptions {
  /**
   * How long the store keeps the lease without a renewal, in milliseconds. The lease is renewed at a third of it, and
   * its signal aborts when it can no longer be trusted. Default 10,000.
   */
  readonly ttlMs?: number;
  /**
   * How long to keep a lease that nobody uses, in milliseconds, so that the next acquire of the key costs no I/O. It is
   * given back the moment another process asks. It ends between one and two times this long after its last use.
   * Default 0: released at once.
   */
  readonly retainMs?: number;
  /**
   * The longest that one lease may be held, in milliseconds. Then its signal aborts and the key goes on to the next;
   * without it, a hung holder is renewed for ever. Default: no limit.
   */
  readonly maxHoldMs?: number;
}

export interface TryAcquireOptions extends LockOptions {
  /** `exclusive` (the default) excludes everybody; `shared` holders exclude only exclusive ones. */
  readonly mode?: 'exclusive' | 'shared';
  /** Makes the key a semaphore: this many permits, of which one is taken. Not together with `mode`. */
  readonly limit?: number;
}

export interface AcquireOptions extends TryAcquireOptions {
  /** How long to wait for the key, in milliseconds. Default 30,000: longer than the ttl, so that one crash fails nobody. */
  readonly waitMs?: number;
  /** Ends the wait, never the hold: `acquire` rejects with its reason. */
  readonly signal?: AbortSignal;
}

/**
 * How far the tasks of this process may pass a lease on among themselves while another process waits for the key.
 * Every pass counts, and so does every reader that joins. Once a bound is reached, the next release goes to the other
 * process, and this one queues behind everyone who waits already.
 */
export interface FairnessOptions {
  /** Default 32. */
  readonly maxPasses?: number;
  /** Counted from the remote grant, in milliseconds. Default 100. */
  readonly maxPassMs?: number;
}

export interface LockManagerOptions extends LockOptions {
  readonly store: LeaseStore;
  /** Default for `acquire`. */
  readonly waitMs?: number;
  readonly fairness?: FairnessOptions;
  /** Time, for simulations. Default: the system's. */
  readonly clock?: Clock;
  /** Randomness in [0, 1), for simulations. Default `Math.random`; it spreads retries and is no secret. */
  readonly random?: () => number;
  /** The start of every owner value, as `host:pid:nonce`. Default: this host and process, and a random nonce. */
  readonly identity?: string;
}

export const DEFAULTS = {
  ttlMs: 10_000,
  waitMs: 30_000,
  retainMs: 0,
  maxPasses: 32,
  maxPassMs: 100,
} as const;

export const LIMITS = {
  /** UTF-16 code units of a key. */
  keyLength: 512,
  /** Keys of one acquire. */
  keys: 256,
  minTtlMs: 20,
  maxTtlMs: 86_400_000,
  /** The longest delay that a Node.js timer can take. */
  maxDelayMs: 2_147_483_647,
  maxLimit: 100_000,
  maxPasses: 1_000_000,
} as const;

/** What one acquire asks for, with every default filled in. */
export interface Spec {
  readonly units: number;
  readonly capacity: number;
  readonly ttlMs: number;
  readonly waitMs: number;
  readonly retainMs: number;
  /** 0: no limit. */
  readonly maxHoldMs: number;
}

/** Two specs that one remote lease can serve. */
export function sameClaim(a: Spec, b: Spec): boolean {
  return a.units === b.units && a.capacity === b.capacity && a.ttlMs === b.ttlMs;
}

const LONE_SURROGATE = /\p{Surrogate}/u;

export function checkKey(key: unknown): asserts key is string {
  if (typeof key !== 'string')
    throw new InvalidArgumentError(`a key is text, not ${describe(key)}`);
  if (key.length === 0) throw new InvalidArgumentError('a key is not empty');
  if (key.length > LIMITS.keyLength) {
    throw new InvalidArgumentError(
      `a key has at most ${LIMITS.keyLength} UTF-16 code units, not ${key.length}; hash longer names`,
    );
  }
  if (LONE_SURROGATE.test(key)) {
    throw new InvalidArgumentError(
      `a key is well-formed Unicode; ${describe(key)} has a lone surrogate`,
    );
  }
}

/** Duplicates folded, in code-unit order, so that two callers can never wait for each other in a circle. */
export function canonicalKeys(keys: readonly unknown[]): string[] {
  if (keys.length === 0) throw new InvalidArgumentError('acquire needs at least one key');
  if (keys.length > LIMITS.keys) {
    throw new InvalidArgumentError(`acquire takes at most ${LIMITS.keys} keys, not ${keys.length}`);
  }
  for (const key of keys) checkKey(key);
  return [...new Set(keys as string[])].sort(byCodeUnits);
}

function byCodeUnits(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** The spec that a manager's own options make: the base of every call. */
export function baseSpec(options: LockManagerOptions): Spec {
  return readSpec(options, {
    units: SHARED_CAPACITY,
    capacity: SHARED_CAPACITY,
    ttlMs: DEFAULTS.ttlMs,
    waitMs: DEFAULTS.waitMs,
    retainMs: DEFAULTS.retainMs,
    maxHoldMs: 0,
  });
}

export function readSpec(options: AcquireOptions, base: Spec): Spec {
  if (typeof options !== 'object' || options === null) {
    throw new InvalidArgumentError(`options are an object, not ${describe(options)}`);
  }
  const { maxDelayMs } = LIMITS;
  return {
    ...readUnits(options, base),
    ttlMs: read('ttlMs', options.ttlMs, base.ttlMs, LIMITS.minTtlMs, LIMITS.maxTtlMs),
    waitMs: read('waitMs', options.waitMs, base.waitMs, 0, maxDelayMs),
    retainMs: read('retainMs', options.retainMs, base.retainMs, 0, maxDelayMs),
    maxHoldMs: read('maxHoldMs', options.maxHoldMs, base.maxHoldMs, 1, maxDelayMs),
  };
}

export function readFairness(options: FairnessOptions = {}): Required<FairnessOptions> {
  return {
    maxPasses: read('maxPasses', options.maxPasses, DEFAULTS.maxPasses, 0, LIMITS.maxPasses),
    maxPassMs: read('maxPassMs', options.maxPassMs, DEFAULTS.maxPassMs, 0, LIMITS.maxDelayMs),
  };
}

export function readGraceMs(graceMs: number | undefined): number {
  return read('graceMs', graceMs, 0, 0, LIMITS.maxDelayMs);
}

function readUnits(options: AcquireOptions, base: Spec): Pick<Spec, 'units' | 'capacity'> {
  const { mode, limit } = options;
  if (limit !== undefined) {
    if (mode !== undefined) {
      throw new InvalidArgumentError('give mode or limit, not both: a permit has no mode');
    }
    return { units: 1, capacity: read('limit', limit, 1, 1, LIMITS.maxLimit) };
  }
  if (mode === undefined) return base;
  if (mode === 'exclusive') return { units: SHARED_CAPACITY, capacity: SHARED_CAPACITY };
  if (mode === 'shared') return { units: 1, capacity: SHARED_CAPACITY };
  throw new InvalidArgumentError(`mode is 'exclusive' or 'shared', not ${describe(mode)}`);
}

/** A whole number within its bounds, or the default when it was not given. */
function read(
  name: string,
  value: number | undefined,
  fallback: number,
  min: number,
  max: number,
): number {
  if (value === undefined) return fallback;
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new InvalidArgumentError(
    `${name} is a whole number from ${min} to ${max}, not ${describe(value)}`,
  );
}

function describe(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 40));
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}

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
  /**
   * `exclusive` (the default) excludes everybody; `shared` holders exclude only exclusive ones. Inside one process they
   * are together only with the same `ttlMs`, since they share one lease of the store.
   */
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
  /** Default 32, or what the store finds right for its hand-over: 96 on Redlock, where it takes longer. */
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
  /**
   * The start of every owner value, as `host:pid:nonce`, of which messages show the host and the pid. No two managers may
   * have the same. Default: this host and process, and a random nonce.
   */
  readonly identity?: string;
}

export interface CloseOptions {
  /** How long to wait for leases that are in use, in milliseconds. Default 0: they are lost at once. */
  readonly graceMs?: number;
}

/** 24 days, near the longest that a Node.js timer can take. */
export const MAX_DELAY_MS = 2_073_600_000;
/** UTF-16 code units of a key. */
export const MAX_KEY_LENGTH = 512;
/** Keys of one acquire. */
const MAX_KEYS = 256;

type NumberName =
  | 'ttlMs'
  | 'waitMs'
  | 'retainMs'
  | 'maxHoldMs'
  | 'limit'
  | 'maxPasses'
  | 'maxPassMs'
  | 'graceMs';
type Numbers = { readonly [Name in NumberName]?: number | undefined };

/** Every number that can be set: its default, the least and the most. All are whole numbers. */
const NUMBERS: Record<NumberName, readonly [number, number, number]> = {
  ttlMs: [10_000, 20, 86_400_000],
  waitMs: [30_000, 0, MAX_DELAY_MS],
  retainMs: [0, 0, MAX_DELAY_MS],
  maxHoldMs: [MAX_DELAY_MS, 1, MAX_DELAY_MS],
  limit: [1, 1, 100_000],
  maxPasses: [32, 0, 1_000_000],
  maxPassMs: [100, 0, MAX_DELAY_MS],
  graceMs: [0, 0, MAX_DELAY_MS],
};

/** What one acquire asks for, with every default filled in. */
export interface Spec {
  readonly units: number;
  readonly capacity: number;
  readonly ttlMs: number;
  readonly waitMs: number;
  readonly retainMs: number;
  readonly maxHoldMs: number;
}

/** Two specs that one remote lease can serve. */
export function sameClaim(a: Spec, b: Spec): boolean {
  return a.units === b.units && a.capacity === b.capacity && a.ttlMs === b.ttlMs;
}

/** Throws what the caller has to change, unless it is right. */
export function demand(isRight: unknown, message: string): asserts isRight {
  if (!isRight) throw new InvalidArgumentError(message);
}

/** The base is what a manager's own options say; without it, the defaults count. */
export function readSpec(options: AcquireOptions, base?: Spec): Spec {
  const { mode, limit } = options;
  const isPermit = limit != null;
  demand(
    mode == null || (!isPermit && (mode === 'shared' || mode === 'exclusive')),
    "give mode 'exclusive' or 'shared', or a limit",
  );
  const read = (name: NumberName): number => readNumber(options, name, base);
  return {
    units: isPermit || mode === 'shared' ? 1 : SHARED_CAPACITY,
    capacity: isPermit ? read('limit') : SHARED_CAPACITY,
    ttlMs: read('ttlMs'),
    waitMs: read('waitMs'),
    retainMs: read('retainMs'),
    maxHoldMs: read('maxHoldMs'),
  };
}

export function readNumber(
  options: Numbers | null | undefined,
  name: NumberName,
  base?: Numbers,
): number {
  const [fallback, min, max] = NUMBERS[name];
  const value = options?.[name] ?? base?.[name] ?? fallback;
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new InvalidArgumentError(`${name} is a whole number from ${min} to ${max}`);
}

export function checkKey(key: unknown, name = 'a key'): asserts key is string {
  demand(
    typeof key === 'string' && key && key.length <= MAX_KEY_LENGTH && key.isWellFormed(),
    `${name} is well-formed text of 1 to ${MAX_KEY_LENGTH} UTF-16 units`,
  );
}

/** Throws unless it has a function of each of these names. What it does is up to whoever gave it. */
export function checkHas(
  value: object | null | undefined,
  what: string,
  ...names: readonly string[]
): void {
  demand(
    names.every((name) => typeof (value as Record<string, unknown>)?.[name] === 'function'),
    `give ${what}`,
  );
}

export function checkClock(clock: Clock | null): void {
  checkHas(clock, 'a clock', 'monotonicMs', 'wallMs', 'setTimer', 'clearTimer');
}

/** Duplicates folded, in code-unit order, so that two callers can never wait for each other in a circle. */
export function canonicalKeys(keys: readonly unknown[]): string[] {
  demand(
    Array.isArray(keys) && keys.length && keys.length <= MAX_KEYS,
    `give a key, or a list of 1 to ${MAX_KEYS}`,
  );
  for (const key of keys) checkKey(key);
  // The default order of `sort` is the code-unit order.
  return [...new Set<string>(keys)].sort();
}

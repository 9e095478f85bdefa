/**
 * What becomes of messages that are busy (their lock was not got in time) or have failed (their handler threw).
 */
import { InvalidArgumentError } from '../core/errors.ts';
import { MAX_DELAY_MS } from '../core/options.ts';
import type { Outbox } from './contracts.ts';

export interface AttemptOptions {
  /** How often it is tried in all, before the message is dead-lettered; `Infinity` for ever. */
  readonly maxAttempts?: number;
  /** How long after an attempt the next one comes, in milliseconds. */
  readonly delayMs?: number;
  /** `exponential` doubles the delay with each attempt. */
  readonly backoff?: 'fixed' | 'exponential';
  /** The longest delay, in milliseconds. Default 60,000, or `delayMs` if that is more. */
  readonly maxDelayMs?: number;
}

export interface OutboxOptions extends AttemptOptions {
  /** How many entries this process takes at once. Default 100. */
  readonly maxClaimed?: number;
  /**
   * For how long taken entries are this process's, in milliseconds: after a crash, others wait for so long. Default a
   * minute and twice `waitMs`.
   */
  readonly leaseMs?: number;
  /** How often to look for entries that others have put, in milliseconds. Default 1,000. */
  readonly pollMs?: number;
}

/** When, and for how long, something is tried again. */
export interface Attempts {
  readonly maxAttempts: number;
  /** The delay after that many attempts, the first being 1. */
  readonly delayMs: (attempts: number) => number;
}

/** An outbox, and how it is drained. */
export interface OutboxPlace {
  readonly engine: Outbox;
  readonly maxClaimed: number;
  readonly leaseMs: number | null;
  readonly pollMs: number;
}

export interface BusyPolicy {
  readonly attempts: Attempts;
  /** `null`: copies go through the source. */
  readonly outbox: OutboxPlace | null;
}

export interface FailedPolicy {
  readonly attempts: Attempts;
}

/**
 * Busy messages are published again through the source, to come back after a delay. Defaults: 10 attempts, 500 ms apart.
 */
export function republish(options: AttemptOptions = {}): BusyPolicy {
  return { attempts: readAttempts(options, { maxAttempts: 10, delayMs: 500 }), outbox: null };
}

/**
 * Busy messages are kept in an outbox, which this process drains in the background. Messages that failed and are tried
 * again wait there too. Defaults: 10 attempts, 500 ms after the first and twice as long after each.
 */
export function outbox(engine: Outbox, options: OutboxOptions = {}): BusyPolicy {
  if (typeof engine?.claim !== 'function') throw new InvalidArgumentError('give an outbox');
  const { maxClaimed = 100, leaseMs, pollMs = 1_000 } = options ?? {};
  const defaults = { maxAttempts: 10, delayMs: 500, backoff: 'exponential' } as const;
  return {
    attempts: readAttempts(options, defaults),
    outbox: {
      engine,
      maxClaimed: whole('maxClaimed', maxClaimed, 1, 100_000),
      leaseMs: leaseMs === undefined ? null : whole('leaseMs', leaseMs, 1, MAX_DELAY_MS),
      pollMs: whole('pollMs', pollMs, 1, MAX_DELAY_MS),
    },
  };
}

/**
 * Failed messages come back after a delay, and are dead-lettered after so many attempts. Defaults: 5 attempts, a second
 * after the first and twice as long after each. `retry({ maxAttempts: 1 })` dead-letters at once.
 */
export function retry(options: AttemptOptions = {}): FailedPolicy {
  const defaults = { maxAttempts: 5, delayMs: 1_000, backoff: 'exponential' } as const;
  return { attempts: readAttempts(options, defaults) };
}

function readAttempts(options: AttemptOptions, defaults: AttemptOptions): Attempts {
  const given = { backoff: 'fixed', ...defaults, ...options };
  const { maxAttempts, backoff } = given;
  if (maxAttempts !== Infinity) whole('maxAttempts', maxAttempts, 1, 1_000_000);
  const delayMs = whole('delayMs', given.delayMs, 1, MAX_DELAY_MS);
  const maxDelayMs = given.maxDelayMs ?? Math.max(60_000, delayMs);
  whole('maxDelayMs', maxDelayMs, delayMs, MAX_DELAY_MS);
  if (backoff !== 'fixed' && backoff !== 'exponential') {
    throw new InvalidArgumentError("backoff is 'fixed' or 'exponential'");
  }
  return {
    maxAttempts: maxAttempts as number,
    delayMs: (attempts) =>
      Math.min(maxDelayMs, backoff === 'fixed' ? delayMs : delayMs * 2 ** (attempts - 1)),
  };
}

export function whole(name: string, value: unknown, min: number, max: number): number {
  if (Number.isInteger(value) && (value as number) >= min && (value as number) <= max) {
    return value as number;
  }
  throw new InvalidArgumentError(`${name} is a whole number from ${min} to ${max}`);
}

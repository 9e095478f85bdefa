/**
 * Every error that the package throws, each named by what the caller should do, each with a stable `code`.
 */
import type { RefusalReason } from './store.ts';

export type ErrorCode =
  | 'ACQUIRE_TIMEOUT'
  | 'LEASE_LOST'
  | 'STALE_TOKEN'
  | 'STORE_UNAVAILABLE'
  | 'CLAIM_REFUSED'
  | 'INVALID_ARGUMENT'
  | 'MANAGER_CLOSED'
  | 'BROKER_UNAVAILABLE'
  | 'QUEUE_UNUSABLE'
  | 'NOT_PUBLISHED';

/** The base of all errors of this package: `error instanceof LeaseholdError` and then `error.code`. */
export abstract class LeaseholdError extends Error {
  abstract readonly code: ErrorCode;

  /** The facts become the error's own properties. */
  constructor(message: string, facts: object = {}) {
    super(message);
    this.name = new.target.name;
    Object.assign(this, facts);
  }
}

/** The lock is busy: `waitMs` ran out. Wait longer, shorten the work, or treat the message as busy. */
export class AcquireTimeoutError extends LeaseholdError {
  readonly code = 'ACQUIRE_TIMEOUT';
  declare readonly key: string;
  declare readonly waitMs: number;
  /** Host and process of a holder, when the store knows one. */
  declare readonly holder: string | null;
  /** How many waiters stood before this one, when the store knows. */
  declare readonly ahead: number | null;

  constructor(key: string, waitMs: number, holder: string | null, ahead: number | null) {
    super(
      `'${key}' not acquired in ${waitMs} ms; held by ${holder ?? 'unknown'}, ` +
        `${ahead ?? 'unknown'} ahead; raise waitMs, shorten the work, or handle as busy`,
      { key, waitMs, holder, ahead },
    );
  }
}

const LOSSES = {
  /** The deadline passed before a renewal was confirmed. */
  expired: 'not renewed in time',
  /** The store said that somebody else holds the key, or nobody. */
  'taken-away': 'the store no longer has it',
  /** The lease was held for longer than its `maxHoldMs`. */
  'held-too-long': 'maxHoldMs is over',
  /** The manager was closed while the lease was in use. */
  'manager-closed': 'its manager was closed',
  /** Its holder gave it back, and used it after that. */
  released: 'it was released',
} as const;

/** Why a lease ended: `expired`, `taken-away`, `held-too-long`, `manager-closed` or `released`. */
export type LossReason = keyof typeof LOSSES;

/**
 * The lease ended while the work still ran, so somebody else may work on the key. Stop, and do not trust what was
 * written without a fence.
 */
export class LeaseLostError extends LeaseholdError {
  readonly code = 'LEASE_LOST';
  declare readonly key: string;
  declare readonly reason: LossReason;
  /** What the work returned, when `withLock` found the loss after the work had ended. */
  declare readonly result: unknown;

  constructor(key: string, reason: LossReason, result?: unknown) {
    super(`'${key}' is not held: ${LOSSES[reason]}; stop the work and do it again`, {
      key,
      reason,
      result,
    });
  }
}

/** The store did not answer, so it is not known whether the key is free. Try again when it is back; `cause` says why. */
export class StoreUnavailableError extends LeaseholdError {
  readonly code = 'STORE_UNAVAILABLE';
  declare readonly key: string;

  constructor(store: string, key: string, cause: unknown) {
    super(`the ${store} store did not answer for '${key}'; try again later`, {
      key,
      cause,
    });
  }
}

/** The store will never grant this claim as it stands. Change the call. */
export class ClaimRefusedError extends LeaseholdError {
  readonly code = 'CLAIM_REFUSED';
  declare readonly key: string;
  declare readonly reason: RefusalReason;

  constructor(key: string, reason: RefusalReason, detail: string) {
    super(`'${key}' was refused: ${detail}`, { key, reason });
  }
}

/** An argument cannot be right. The message names it and says what is allowed. */
export class InvalidArgumentError extends LeaseholdError {
  readonly code = 'INVALID_ARGUMENT';
}

/** The manager was closed: make a new one, or close it later. */
export class ManagerClosedError extends LeaseholdError {
  readonly code = 'MANAGER_CLOSED';

  constructor() {
    super('the manager is closed; make a new one');
  }
}

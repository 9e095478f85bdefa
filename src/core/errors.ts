/**
 * Every error that the package throws, each named by what the caller should do, each with a stable `code`.
 */
import type { RefusalReason } from './store.ts';

export type ErrorCode =
  | 'ACQUIRE_TIMEOUT'
  | 'LEASE_LOST'
  | 'STORE_UNAVAILABLE'
  | 'CLAIM_REFUSED'
  | 'INVALID_ARGUMENT'
  | 'MANAGER_CLOSED';

/** The base of all errors of this package: `error instanceof LeaseholdError` and then `error.code`. */
export abstract class LeaseholdError extends Error {
  abstract readonly code: ErrorCode;

  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
  }
}

/** The lock is busy: `waitMs` ran out. Wait longer, shorten the work, or treat the message as busy. */
export class AcquireTimeoutError extends LeaseholdError {
  readonly code = 'ACQUIRE_TIMEOUT';
  readonly key: string;
  readonly waitMs: number;
  /** Host and process of a holder, when the store knows one. */
  readonly holder: string | null;
  /** How many waiters stood before this one, when the store knows. */
  readonly ahead: number | null;

  constructor(facts: {
    readonly key: string;
    readonly waitMs: number;
    readonly holder: string | null;
    readonly ahead: number | null;
    readonly cause?: unknown;
  }) {
    const holder = facts.holder === null ? '' : `; held by ${facts.holder}`;
    const ahead = facts.ahead === null ? '' : `, ${facts.ahead} ahead`;
    super(
      `'${facts.key}' not acquired in ${facts.waitMs} ms${holder}${ahead}; ` +
        'raise waitMs, shorten the work, or handle as busy',
      facts.cause,
    );
    this.key = facts.key;
    this.waitMs = facts.waitMs;
    this.holder = facts.holder;
    this.ahead = facts.ahead;
  }
}

/** Why a lease ended before it was released. */
export type LossReason =
  /** The deadline passed before a renewal was confirmed. */
  | 'expired'
  /** The store said that somebody else holds the key, or nobody. */
  | 'taken-away'
  /** The lease was held for longer than its `maxHoldMs`. */
  | 'held-too-long'
  /** The manager was closed while the lease was in use. */
  | 'manager-closed'
  /** Its holder gave it back, and used it after that. */
  | 'released';

const LOSS_TEXT: Record<LossReason, string> = {
  expired: 'no renewal was confirmed before its deadline',
  'taken-away': 'the store no longer has it',
  'held-too-long': 'it was held for longer than maxHoldMs',
  'manager-closed': 'its manager was closed',
  released: 'it was released before',
};

/**
 * The lease ended while the work still ran, so somebody else may work on the key. Stop, and do not trust what was
 * written without a fence.
 */
export class LeaseLostError extends LeaseholdError {
  readonly code = 'LEASE_LOST';
  readonly key: string;
  readonly reason: LossReason;
  /** What the work returned, when `withLock` found the loss after the work had ended. */
  readonly result: unknown;

  constructor(key: string, reason: LossReason, result?: unknown) {
    super(`the lease of '${key}' is not held: ${LOSS_TEXT[reason]}; stop the work and do it again`);
    this.key = key;
    this.reason = reason;
    this.result = result;
  }
}

/** The store did not answer, so it is not known whether the key is free. Try again when it is back; `cause` says why. */
export class StoreUnavailableError extends LeaseholdError {
  readonly code = 'STORE_UNAVAILABLE';

  constructor(store: string, what: string, cause?: unknown) {
    super(`the ${store} store did not answer ${what}; try again when it is back`, cause);
  }
}

const REFUSAL_ADVICE: Record<RefusalReason, string> = {
  'capacity-differs': 'use one limit, and one kind of lock, for one key',
  'not-a-lock': 'choose another key or prefix',
  unsupported: 'choose a store that can do this',
};

/** The store will never grant this claim as it stands. Change the call. */
export class ClaimRefusedError extends LeaseholdError {
  readonly code = 'CLAIM_REFUSED';
  readonly key: string;
  readonly reason: RefusalReason;

  constructor(key: string, reason: RefusalReason, detail: string) {
    super(`'${key}' was refused: ${detail}; ${REFUSAL_ADVICE[reason]}`);
    this.key = key;
    this.reason = reason;
  }
}

/** An argument cannot be right. The message names it, its value and what is allowed. */
export class InvalidArgumentError extends LeaseholdError {
  readonly code = 'INVALID_ARGUMENT';
}

/** The manager was closed: make a new one, or close it later. */
export class ManagerClosedError extends LeaseholdError {
  readonly code = 'MANAGER_CLOSED';

  constructor() {
    super('the lock manager is closed; close it only after the last acquire');
  }
}

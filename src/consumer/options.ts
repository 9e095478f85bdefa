/**
 * The options of `consume`: their meaning, their defaults and their limits.
 */
import { type Clock, systemClock } from '../core/clock.ts';
import { InvalidArgumentError } from '../core/errors.ts';
import type { Lease } from '../core/lease.ts';
import type { LockManager } from '../core/manager.ts';
import { type AcquireOptions, checkClock, MAX_DELAY_MS } from '../core/options.ts';
import type { Elision, Envelope, MessageSource, StateStore } from './contracts.ts';
import type { Incoming, Message } from './message.ts';
import { type BusyPolicy, type FailedPolicy, republish, retry, whole } from './policies.ts';

interface SharedOptions<Body> {
  readonly source: MessageSource;
  /** Whose locks are taken. It stays the caller's: close it after `stop`. */
  readonly locks: LockManager;
  /** Messages of one key are worked on one after the other, wherever they arrive. Anything but a key dead-letters. */
  readonly keyOf: (message: Incoming<Body>) => string;
  /** The name of a key's lock. Default: the key. */
  readonly lockName?: (key: string) => string;
  /** Default: JSON in UTF-8. What it throws dead-letters the message. */
  readonly decode?: (content: Uint8Array, envelope: Envelope) => Body;
  /**
   * The message's identity, the same over all of its copies. Default: the id that its producer gave it. Without one the
   * message is dead-lettered.
   */
  readonly idOf?: (message: Incoming<Body>) => string | null;
  /** When it was first published, in ms since 1970, the same over all of its copies. Default: as its producer said. */
  readonly publishedAtOf?: (message: Incoming<Body>) => number | null;
  /** The lock was not got in `waitMs`. Default `republish()`. */
  readonly onBusy?: BusyPolicy;
  /** The handler threw. Default `retry()`. */
  readonly onFailed?: FailedPolicy;
  /** How long messages wait for the lock of their key before they are busy, in milliseconds. Default 30,000. */
  readonly waitMs?: number;
  /** Of the lock, in milliseconds. Default: as `locks` has it. */
  readonly ttlMs?: number;
  /**
   * How long an unused lock is kept for the key's next messages, in milliseconds. Default 10,000 with `keepState`; without
   * it 1,000 as long as that pays, which it does not where several processes get messages of the same keys.
   */
  readonly retainMs?: number;
  /** The longest that one batch may hold the lock, in milliseconds. Default: as `locks` has it. */
  readonly maxHoldMs?: number;
  /** Messages of one key that are worked on together, at most. Default 1,000. */
  readonly maxBatch?: number;
  /** Time and randomness, for simulations. Default: the system's. */
  readonly clock?: Clock;
  readonly random?: () => number;
}

/** How a state is kept as text. Default: JSON. */
export interface StateCodec<State> {
  encode(state: State): string;
  decode(text: string): State;
}

/** Each message takes effect exactly once on the state of its key. */
export interface ReduceOptions<Body, State> extends SharedOptions<Body> {
  readonly state: StateStore;
  /**
   * The state after these messages, in their order. `null` is the state of a key that has none. It may run more than
   * once for a message, with `elideLock` also on a state of the past, so effects elsewhere do not belong here; only what it
   * returns last counts. What it gives for several messages at once must be what it gives for one after the other.
   */
  readonly reduce: (
    state: State | null,
    messages: readonly Message<Body>[],
  ) => State | Promise<State>;
  readonly stateCodec?: StateCodec<State>;
  /**
   * Keeps states in memory while one and the same lock is held without a break, or, without the lock, while nobody else has
   * changed them: so a batch costs only its commit. Default false.
   */
  readonly keepState?: boolean;
  /**
   * Where states stand on the server of their locks (`redisState` with the client, or the URL, of `redis`), commits without
   * taking a lock that is free: the commit is refused when the lock is taken, or the state is another one than the reducer
   * got, and the lock is then taken after all. Effects, exclusion and fencing are the same, with two steps or one in place
   * of four. The reducer may run more often: what it makes of a state that has changed since, or of `null` where there was
   * one, is thrown away. Default true, but false with `retainMs`.
   */
  readonly elideLock?: boolean;
  readonly handle?: never;
}

/** Each message is handled at least once: for effects elsewhere. */
export interface HandleOptions<Body> extends SharedOptions<Body> {
  /**
   * Works on messages of one key, under its lock. It may get a message again: make effects idempotent by `message.id`,
   * and fence them with `lease.tokenText`. If it throws, each message is tried by itself.
   */
  readonly handle: (messages: readonly Message<Body>[], lease: Lease) => void | Promise<void>;
  readonly state?: never;
  readonly reduce?: never;
  readonly stateCodec?: never;
  readonly keepState?: never;
  readonly elideLock?: never;
}

export type AnyOptions = ReduceOptions<unknown, unknown> | HandleOptions<unknown>;

/** With every default filled in. */
export interface Settings {
  readonly source: MessageSource;
  readonly locks: LockManager;
  readonly keyOf: (message: Incoming<unknown>) => string;
  readonly lockName: (key: string) => string;
  readonly decode: (content: Uint8Array, envelope: Envelope) => unknown;
  readonly idOf: (message: Incoming<unknown>) => string | null;
  readonly publishedAtOf: (message: Incoming<unknown>) => number | null;
  readonly busy: BusyPolicy;
  readonly failed: FailedPolicy;
  readonly acquire: AcquireOptions & { readonly waitMs: number; readonly retainMs: number };
  readonly retention: 'fixed' | 'adaptive';
  readonly maxBatch: number;
  readonly clock: Clock;
  readonly random: () => number;
  /** `null` for `handle`. */
  readonly reduction: Reduction | null;
  readonly handle: HandleOptions<unknown>['handle'] | null;
}

export interface Reduction {
  readonly state: StateStore;
  readonly reduce: ReduceOptions<unknown, unknown>['reduce'];
  readonly codec: StateCodec<unknown>;
  readonly keepState: boolean;
  /** `null` where the lock has to be taken. */
  readonly elision: Elision | null;
}

const DEFAULT_WAIT_MS = 30_000;
const DEFAULT_RETAIN_MS = 1_000;
/** The lock is what makes a state in memory good. */
const DEFAULT_KEEP_MS = 10_000;
const DEFAULT_MAX_BATCH = 1_000;
const MAX_BATCH = 100_000;

const utf8 = new TextDecoder('utf-8', { fatal: true });

const JSON_CODEC: StateCodec<unknown> = { encode: JSON.stringify, decode: JSON.parse };

export function readOptions(options: AnyOptions): Settings {
  checkParts(options);
  const { waitMs = DEFAULT_WAIT_MS, ttlMs, maxHoldMs } = options;
  const retainMs = options.retainMs ?? (options.keepState ? DEFAULT_KEEP_MS : DEFAULT_RETAIN_MS);
  return {
    source: options.source,
    locks: options.locks,
    keyOf: options.keyOf,
    lockName: options.lockName ?? ((key) => key),
    decode: options.decode ?? ((content) => JSON.parse(utf8.decode(content))),
    idOf: options.idOf ?? ((message) => message.envelope.id),
    publishedAtOf: options.publishedAtOf ?? ((message) => message.envelope.publishedAtMs),
    busy: options.onBusy ?? republish(),
    failed: options.onFailed ?? retry(),
    acquire: {
      retainMs: whole('retainMs', retainMs, 0, MAX_DELAY_MS),
      waitMs: whole('waitMs', waitMs, 0, MAX_DELAY_MS),
      ...(ttlMs === undefined ? {} : { ttlMs: whole('ttlMs', ttlMs, 20, 86_400_000) }),
      ...(maxHoldMs === undefined
        ? {}
        : { maxHoldMs: whole('maxHoldMs', maxHoldMs, 1, MAX_DELAY_MS) }),
    },
    // What was asked for, or what keeps a state in memory, is no matter of cost.
    retention: options.retainMs === undefined && !options.keepState ? 'adaptive' : 'fixed',
    maxBatch: whole('maxBatch', options.maxBatch ?? DEFAULT_MAX_BATCH, 1, MAX_BATCH),
    clock: options.clock ?? systemClock,
    random: options.random ?? Math.random,
    reduction: isReducing(options)
      ? {
          state: options.state,
          reduce: options.reduce,
          codec: options.stateCodec ?? JSON_CODEC,
          keepState: options.keepState ?? false,
          elision: elisionOf(options),
        }
      : null,
    handle: options.handle ?? null,
  };
}

function elisionOf({
  state,
  locks,
  retainMs = 0,
  elideLock = true,
}: ReduceOptions<unknown, unknown>): Elision | null {
  // Who wants locks to be kept wants them to be taken.
  if (!elideLock || retainMs > 0 || !has(state, 'elision')) return null;
  return state.elision?.(locks.store) ?? null;
}

function checkParts(options: AnyOptions | undefined): void {
  check(has(options?.source, 'republish'), 'give a source');
  check(has(options?.locks, 'acquire'), 'give locks: a LockManager');
  check(has(options, 'keyOf'), 'give keyOf');
  const isReduced = isReducing(options);
  check(isReduced !== has(options, 'handle'), 'give either reduce or handle');
  check(isReduced === has(options?.state, 'commit'), 'give a state with reduce, and only then');
  for (const name of ['lockName', 'decode', 'idOf', 'publishedAtOf', 'random'] as const) {
    check(options?.[name] === undefined || has(options, name), `${name} is a function`);
  }
  for (const name of ['onBusy', 'onFailed'] as const) {
    const policy = options?.[name];
    check(policy === undefined || has(policy?.attempts, 'delayMs'), `${name} is a policy`);
  }
  const codec = options?.stateCodec;
  const isCodec = codec === undefined || (has(codec, 'encode') && has(codec, 'decode'));
  check(isCodec, 'stateCodec has the functions encode and decode');
  checkClock(options?.clock ?? systemClock);
}

function isReducing(options: AnyOptions | undefined): options is ReduceOptions<unknown, unknown> {
  return has(options, 'reduce');
}

/** Whether it has a function of this name. */
function has(value: object | null | undefined, name: string): boolean {
  return typeof (value as Record<string, unknown> | null | undefined)?.[name] === 'function';
}

function check(isRight: boolean, advice: string): void {
  if (!isRight) throw new InvalidArgumentError(advice);
}

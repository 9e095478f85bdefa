/**
 * What a worker process is told to do, and what it answers.
 */
import type { Contender } from './contenders.ts';
import type { Buckets } from './histogram.ts';
import type { Profile } from './profile.ts';

interface Common {
  /** Of the server with the data, and with the locks too unless there are masters for them. */
  readonly port: number;
  readonly masters?: readonly number[];
  readonly contender: Contender;
}

/** Opens what the later jobs of a contender use, and takes one lock. */
export interface WarmUp extends Common {
  readonly kind: 'warm-up';
}

/** The critical section that all contenders share: read a number from Redis, add one, write it back. */
export interface Add extends Common {
  readonly kind: 'add';
  /** Each task takes one of so many keys, the first ones most often; 0: each task has a key of its own. */
  readonly keys: number;
  readonly tasks: number;
  readonly durationMs: number;
}

export interface AddResult {
  /** All that were done. */
  readonly operations: number;
  /** Those that were done in time. */
  readonly inTime: number;
  readonly gaveUp: number;
  readonly waits: Buckets;
  readonly longestWaitMs: number;
  /** With one key: how often others were served while a task waited, at most. */
  readonly mostPassed: number;
  /** The longest time that the work itself took. */
  readonly longestHoldMs: number;
  readonly byTask: readonly number[];
  readonly cpuUs: number;
  /** Commands that its clients sent, those of the work included. */
  readonly commands: number;
}

/** Takes the lock, holds it for a moment or for so many PINGs, and gives it back, again and again. */
export interface HandOver extends Common {
  readonly kind: 'hand-over';
  readonly hold: { readonly ms: number } | { readonly pings: number };
  readonly durationMs: number;
  /** Tells as well when sockets were written and read. */
  readonly isTraced?: boolean;
}

export interface HandOverResult {
  /** By the clock that all processes of a machine share, in milliseconds. */
  readonly grantedAtMs: readonly number[];
  readonly releasedAtMs: readonly number[];
  /** Of each PING under the lock, how long it took. */
  readonly pingsMs: readonly number[];
  /** Of a traced run: the last read before each grant, and the first write after each release. */
  readonly readAtMs: readonly number[];
  readonly wroteAtMs: readonly number[];
}

/** So many tasks want one lock, once each. */
export interface Drain extends Common {
  readonly kind: 'drain';
  readonly tasks: number;
}

export interface DrainResult {
  readonly servedAtMs: readonly number[];
  /** Commands that its clients sent. */
  readonly commands: number;
}

/** Holds so many leases for a while. */
export interface Hold extends Common {
  readonly kind: 'hold';
  readonly leases: number;
  readonly durationMs: number;
}

export interface HoldResult {
  readonly lost: number;
  /** Processor time while they were only held, as a share of one core. */
  readonly coreShare: number;
  readonly heldMs: number;
}

/** Bytes of the heap for each held lease and each local waiter. Needs `--expose-gc`. */
export interface Weigh extends Common {
  readonly kind: 'weigh';
  /** So many leases, and a tenth of it waiters. */
  readonly count: number;
}

export interface WeighResult {
  readonly leaseBytes: number;
  readonly waiterBytes: number;
}

/** Takes all messages of a queue. */
export interface Consume extends Common {
  readonly kind: 'consume';
  readonly amqpUrl: string;
  readonly queue: string;
  /** How many messages a process has at once, over all partitions that it reads. */
  readonly prefetch: number;
  /** Of the queue; 0 when it has none. With them, states stay in memory. */
  readonly partitions: number;
}

export interface ConsumeResult {
  readonly count: number;
  readonly firstAtMs: number;
  readonly lastAtMs: number;
  readonly p99Ms: number;
}

/** Acquire and release, each task a key of its own. */
export interface Turn extends Common {
  readonly kind: 'turn';
  readonly tasks: number;
  readonly retainMs: number;
  readonly durationMs: number;
}

export interface TurnResult {
  readonly operations: number;
}

/** Does another job, and tells where the processor time went. */
export interface Profiled extends Common {
  readonly kind: 'profile';
  readonly of: Turn | Add | Consume;
}

export interface ProfiledResult {
  readonly operations: number;
  readonly profile: Profile;
}

type Kinds = WarmUp | Add | HandOver | Drain | Hold | Weigh | Consume | Turn | Profiled;
export type Job = Kinds & {
  readonly startAtMs?: number;
  /** Which of the processes this is. */
  readonly place?: number;
};

export interface Results {
  readonly 'warm-up': null;
  readonly add: AddResult;
  readonly 'hand-over': HandOverResult;
  readonly drain: DrainResult;
  readonly hold: HoldResult;
  readonly weigh: WeighResult;
  readonly consume: ConsumeResult;
  readonly turn: TurnResult;
  readonly profile: ProfiledResult;
}

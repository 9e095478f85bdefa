/**
 * What a consumer counts. Every delivery ends in exactly one of the counters of its end, or is in flight.
 */
import type { DeadLetterReason, OutboxDepth } from './contracts.ts';
import type { Setback } from './diagnostics.ts';

/** Upper bounds of the latency's buckets, in milliseconds; one more bucket has none. */
export const LATENCY_BOUNDS_MS: readonly number[] = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000,
];

/** Counted since the start, in whole deliveries where nothing else is said. */
export interface ConsumerMetrics {
  readonly delivered: number;
  readonly redelivered: number;
  /** Not settled at this moment. */
  readonly inFlight: number;

  /** Took effect here and were acknowledged. */
  readonly applied: number;
  /** Copies of what was applied already, left out and acknowledged. */
  readonly duplicates: number;
  /** Copied to come back later because their key was busy, and acknowledged. */
  readonly busyDeferred: number;
  /** Copied to come back later because their handler threw, and acknowledged. */
  readonly failedDeferred: number;
  readonly deadLettered: Readonly<Record<DeadLetterReason, number>>;
  /** Given back when the consumer was stopped. */
  readonly released: number;
  /** Their connection, or their claim, was gone before they were settled: they come again. */
  readonly gone: number;

  /** Messages whose lock was not got in time. */
  readonly busy: number;
  /** Messages whose handler threw. */
  readonly failed: number;
  /** Runs of the reducer, or of the handler, that took effect. */
  readonly batches: number;
  /** Batches for which the state was in memory already. */
  readonly kept: number;
  /** Batches that took effect without the lock being taken. */
  readonly elided: number;
  /** Commits without the lock that were refused, since somebody had the lock or had changed the state. */
  readonly conflicts: number;
  /** How often work had to be done again, by reason. */
  readonly setbacks: Readonly<Record<Setback, number>>;
  /** Calls to engines that were not answered. */
  readonly engineErrors: number;

  /** From delivery to acknowledging, of all that was acknowledged. */
  readonly latency: {
    readonly count: number;
    readonly sumMs: number;
    readonly maxMs: number;
    /** How many took at most so long, cumulative; the last, `Infinity`, is all of them. */
    readonly buckets: readonly { readonly leMs: number; readonly count: number }[];
  };
  /** As last asked for, about once a second; `null` without an outbox, or when it was not answered yet. */
  readonly outbox: OutboxDepth | null;
}

type Counts = {
  -readonly [Name in keyof ConsumerMetrics]: ConsumerMetrics[Name] extends number
    ? number
    : ConsumerMetrics[Name];
};

export class Metrics implements Omit<Counts, 'inFlight' | 'latency' | 'deadLettered' | 'setbacks'> {
  delivered = 0;
  redelivered = 0;
  applied = 0;
  duplicates = 0;
  busyDeferred = 0;
  failedDeferred = 0;
  released = 0;
  gone = 0;
  busy = 0;
  failed = 0;
  batches = 0;
  kept = 0;
  elided = 0;
  conflicts = 0;
  engineErrors = 0;
  outbox: OutboxDepth | null = null;
  readonly deadLettered: Record<DeadLetterReason, number> = {
    malformed: 0,
    'no-id': 0,
    'no-key': 0,
    'no-time': 0,
    'too-old': 0,
    busy: 0,
    failed: 0,
    'dead-before': 0,
  };
  readonly setbacks: Record<Setback, number> = { stale: 0, lost: 0, moved: 0 };
  readonly #buckets = new Float64Array(LATENCY_BOUNDS_MS.length + 1);
  #latencySumMs = 0;
  #latencyMaxMs = 0;

  tookMs(latencyMs: number): void {
    let bucket = 0;
    while (latencyMs > (LATENCY_BOUNDS_MS[bucket] ?? Infinity)) bucket += 1;
    this.#buckets[bucket] = (this.#buckets[bucket] ?? 0) + 1;
    this.#latencySumMs += latencyMs;
    if (latencyMs > this.#latencyMaxMs) this.#latencyMaxMs = latencyMs;
  }

  snapshot(inFlight: number): ConsumerMetrics {
    let count = 0;
    const buckets = [...LATENCY_BOUNDS_MS, Infinity].map((leMs, index) => {
      count += this.#buckets[index] ?? 0;
      return { leMs, count };
    });
    const latency = { count, sumMs: this.#latencySumMs, maxMs: this.#latencyMaxMs, buckets };
    const { deadLettered, setbacks } = this;
    const copies = { deadLettered: { ...deadLettered }, setbacks: { ...setbacks } };
    return Object.assign({}, this, copies, { inFlight, latency });
  }
}

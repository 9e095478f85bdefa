/**
 * The background worker of an outbox: takes entries that are due and feeds them to the same lanes as the source.
 */
import type { Calls } from './calls.ts';
import type { Delivery } from './contracts.ts';
import type { Origin } from './message.ts';
import type { Metrics } from './metrics.ts';
import type { Settings } from './options.ts';
import type { OutboxPlace } from './policies.ts';

/** How often the depth is asked for, in milliseconds. */
const DEPTH_EVERY_MS = 1_000;
/** Beyond the longest waits for a lock, entries are taken for so long, in milliseconds. */
const LEASE_MARGIN_MS = 60_000;

export class Drain {
  readonly origin: Origin;
  readonly #place: OutboxPlace;
  readonly #leaseMs: number;
  readonly #settings: Settings;
  readonly #calls: Calls;
  readonly #metrics: Metrics;
  readonly #deliver: (delivery: Delivery, origin: Origin) => void;
  #isStopped = false;
  #depthAtMs = -Infinity;

  constructor(
    place: OutboxPlace,
    settings: Settings,
    calls: Calls,
    metrics: Metrics,
    deliver: (delivery: Delivery, origin: Origin) => void,
  ) {
    this.#place = place;
    this.origin = { engine: place.engine, inFlight: 0 };
    this.#leaseMs = place.leaseMs ?? 2 * settings.acquire.waitMs + LEASE_MARGIN_MS;
    this.#settings = settings;
    this.#calls = calls;
    this.#metrics = metrics;
    this.#deliver = deliver;
  }

  /** Until it is stopped, or all is halted. Never rejects. */
  async run(): Promise<void> {
    let failures = 0;
    while (!this.#isStopped && !this.#calls.isHalted) {
      const pauseMs = await this.#claim();
      failures = pauseMs === null ? failures + 1 : 0;
      await this.#lookAtDepth();
      await this.#calls.sleep(pauseMs ?? this.#calls.retryMs(failures));
    }
  }

  stop(): void {
    this.#isStopped = true;
  }

  /** How long to wait until the next time, in milliseconds; `null` when the outbox did not answer. */
  async #claim(): Promise<number | null> {
    const { engine, maxClaimed, pollMs } = this.#place;
    const room = maxClaimed - this.origin.inFlight;
    if (room <= 0) return pollMs;
    try {
      const { deliveries, nextDueMs } = await engine.claim(room, this.#leaseMs);
      for (const delivery of deliveries) this.#deliver(delivery, this.origin);
      return Math.max(1, Math.min(nextDueMs ?? pollMs, pollMs));
    } catch (cause) {
      this.#calls.notAnswered('claim', cause);
      return null;
    }
  }

  async #lookAtDepth(): Promise<void> {
    const nowMs = this.#settings.clock.monotonicMs();
    if (nowMs - this.#depthAtMs < DEPTH_EVERY_MS) return;
    this.#depthAtMs = nowMs;
    try {
      this.#metrics.outbox = await this.#place.engine.depth();
    } catch (cause) {
      this.#calls.notAnswered('depth', cause);
    }
  }
}

/**
 * Time, as the core sees it. Injected, so that the whole core runs in a simulation.
 */

/** Opaque: whatever `setTimer` returned, or `undefined` for none. */
export type Timer = unknown;

export interface Clock {
  /** Milliseconds, with fractions, of a clock that never goes back. It may stand still while the machine sleeps. */
  monotonicMs(): number;
  /** Milliseconds of a clock that goes on while the machine sleeps, and may be set at any time. */
  wallMs(): number;
  /** Runs once after the delay. A timer that is not `keepAlive` does not hold the process open. */
  setTimer(run: () => void, delayMs: number, keepAlive: boolean): Timer;
  /** Nothing happens for a timer that has run, and for none. */
  clearTimer(timer: Timer): void;
}

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  setTimer(run, delayMs, keepAlive) {
    const timer = setTimeout(run, delayMs);
    if (!keepAlive) timer.unref();
    return timer;
  },
  clearTimer: (timer) => clearTimeout(timer as NodeJS.Timeout),
};

/**
 * Starts to measure. The result tells how many milliseconds have passed: the larger of what the two clocks say. The
 * monotonic clock misses the time in which a machine slept, and the wall clock may be set back. A wall clock that is set
 * forward ends a lease early: the safe side.
 */
export function stopwatch(clock: Clock): Stopwatch {
  const monotonicMs = clock.monotonicMs();
  const wallMs = clock.wallMs();
  return () => Math.max(clock.monotonicMs() - monotonicMs, clock.wallMs() - wallMs);
}

export type Stopwatch = () => number;

/**
 * A timer for many moments: it runs at the earliest that it was set for since it ran or was stopped, and whoever runs
 * sets it for the next.
 */
export interface Alarm {
  readonly within: (delayMs: number) => void;
  readonly stop: () => void;
}

export function newAlarm(clock: Clock, run: () => void, keepAlive: boolean): Alarm {
  let timer: Timer;
  /** When the timer runs, by the monotonic clock. */
  let dueMs = Infinity;
  function stop(): void {
    clock.clearTimer(timer);
    dueMs = Infinity;
  }
  function ring(): void {
    dueMs = Infinity;
    run();
  }
  function within(delayMs: number): void {
    const atMs = clock.monotonicMs() + delayMs;
    if (atMs >= dueMs) return;
    stop();
    dueMs = atMs;
    timer = clock.setTimer(ring, Math.max(0, delayMs), keepAlive);
  }
  return { within, stop };
}

/** Rates of two clocks may differ by this share of a ttl. */
const DRIFT_SHARE = 0.01;
/** Expiry of an engine is as coarse as this, in milliseconds. */
const DRIFT_FLOOR_MS = 2;

/**
 * How long a lease may be trusted, in milliseconds from before its request was sent: the ttl less an allowance for
 * clocks that run at different rates and for coarse expiry (the allowance of the published Redlock algorithm).
 */
export function validityMs(ttlMs: number): number {
  return ttlMs - ttlMs * DRIFT_SHARE - DRIFT_FLOOR_MS;
}

/**
 * The clocks and timers of one simulated process, with the habits of Node.js: a delay is cut to whole milliseconds and
 * counted from a clock of whole milliseconds, so that a timer may fire almost two milliseconds early; a delay that is too
 * long for it becomes one millisecond; and a busy process is late.
 */
import type { Clock, Timer } from '../../core/clock.ts';
import type { Moment, Timeline } from './timeline.ts';

export interface SimulatedClockOptions {
  readonly timeline: Timeline;
  /** How fast this clock runs. Default 1. */
  readonly rate?: number;
  /** What the clocks show at the start, in milliseconds. Default 0 and 0. */
  readonly monotonicMs?: number;
  readonly wallMs?: number;
  /** How late the next timer is, in milliseconds. Default: never late. */
  readonly latenessMs?: () => number;
  /** Runs a timer inside its process, now or when the process goes on. Default: at once. */
  readonly enter?: (run: () => void) => void;
}

interface SimulatedTimer {
  readonly run: () => void;
  readonly dueMs: number;
  readonly keepAlive: boolean;
  moment: Moment | null;
}

const MAX_NODE_DELAY_MS = 2_147_483_647;
/** Sums of fractions are not exact; no timer is this precise. */
const ROUNDING_MS = 1e-6;

export class SimulatedClock implements Clock {
  readonly #timeline: Timeline;
  readonly #rate: number;
  readonly #startMs: number;
  readonly #latenessMs: () => number;
  readonly #enter: (run: () => void) => void;
  readonly #timers = new Set<SimulatedTimer>();
  #wallStartMs: number;
  #asleepSinceMs: number | null = null;
  #sleptMs = 0;

  constructor(options: SimulatedClockOptions) {
    this.#timeline = options.timeline;
    this.#rate = options.rate ?? 1;
    this.#startMs = options.monotonicMs ?? 0;
    this.#wallStartMs = options.wallMs ?? 0;
    this.#latenessMs = options.latenessMs ?? (() => 0);
    this.#enter = options.enter ?? ((run) => run());
  }

  monotonicMs(): number {
    const awakeMs = (this.#asleepSinceMs ?? this.#timeline.nowMs) - this.#sleptMs;
    return this.#startMs + awakeMs * this.#rate;
  }

  wallMs(): number {
    return this.#wallStartMs + this.#timeline.nowMs * this.#rate;
  }

  setTimer(run: () => void, delayMs: number, keepAlive: boolean): Timer {
    const fits = delayMs >= 1 && delayMs <= MAX_NODE_DELAY_MS;
    const dueMs = Math.floor(this.monotonicMs()) + (fits ? Math.trunc(delayMs) : 1);
    const timer = { run, dueMs, keepAlive, moment: null };
    this.#timers.add(timer);
    this.#arm(timer);
    return timer;
  }

  clearTimer(timer: Timer): void {
    const known = timer as SimulatedTimer;
    if (!this.#timers.delete(known)) return;
    if (known.moment) this.#timeline.cancel(known.moment);
  }

  /** How many timers are set; those that are not `keepAlive` can be left out. */
  pendingTimers(only: 'all' | 'keepAlive' = 'all'): number {
    if (only === 'all') return this.#timers.size;
    return [...this.#timers].filter((timer) => timer.keepAlive).length;
  }

  /** Sets the wall clock forward, or back. */
  jumpWall(byMs: number): void {
    this.#wallStartMs += byMs;
  }

  /** The machine sleeps: the monotonic clock stands still and the wall clock goes on. */
  sleep(): void {
    this.#asleepSinceMs ??= this.#timeline.nowMs;
  }

  wake(): void {
    if (this.#asleepSinceMs === null) return;
    this.#sleptMs += this.#timeline.nowMs - this.#asleepSinceMs;
    this.#asleepSinceMs = null;
  }

  #arm(timer: SimulatedTimer): void {
    const leftMs = (timer.dueMs - this.monotonicMs()) / this.#rate;
    const delayMs = Math.max(0, leftMs) + this.#latenessMs();
    timer.moment = this.#timeline.after(delayMs, () => this.#enter(() => this.#fire(timer)));
  }

  #fire(timer: SimulatedTimer): void {
    if (!this.#timers.has(timer)) return;
    // The machine slept in the meantime, and its timers with it.
    if (this.monotonicMs() < timer.dueMs - ROUNDING_MS) {
      this.#arm(timer);
      return;
    }
    this.#timers.delete(timer);
    timer.run();
  }
}

/**
 * Calls to engines, made again until they are answered, and what has to be waited for at the end.
 */
import type { Clock } from '../core/clock.ts';
import type { EngineOperation } from './diagnostics.ts';
import * as diagnostics from './diagnostics.ts';
import type { Metrics } from './metrics.ts';

/** The first repetition comes after about this time, in milliseconds. */
const RETRY_FLOOR_MS = 50;
/** Later ones come at the latest after this, in milliseconds. */
const RETRY_CEILING_MS = 2_000;
const MAX_DOUBLINGS = 10;

export class Calls {
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #metrics: Metrics;
  readonly #sleepers = new Set<() => void>();
  #pending = 0;
  /** Nothing is tried again, and nobody sleeps any more. */
  isHalted = false;
  /** Called whenever something that was waited for has ended. */
  onSettled: () => void = () => {};
  readonly #ended = (): void => {
    this.#pending -= 1;
    this.onSettled();
  };

  constructor(clock: Clock, random: () => number, metrics: Metrics) {
    this.#clock = clock;
    this.#random = random;
    this.#metrics = metrics;
  }

  /** Work in the background that has not ended. */
  get pending(): number {
    return this.#pending;
  }

  /**
   * Makes a call until it is answered. `null` when it is not wanted any more: then it is not known whether it was done.
   */
  insist<Answer>(
    operation: EngineOperation,
    call: () => Promise<Answer>,
    isWanted: () => boolean,
  ): Promise<Answer | null> {
    // Nearly every call is answered, and costs no more than its own promise then.
    return attempt(call).catch((cause: unknown) => this.#again(operation, cause, call, isWanted));
  }

  /** `insist` for calls that answer nothing: whether it was answered. */
  done(
    operation: EngineOperation,
    call: () => Promise<void>,
    isWanted: () => boolean,
  ): Promise<boolean> {
    return attempt(call).then(isDone, async (cause: unknown) => {
      const repeated = () => call().then(isDone);
      return (await this.#again(operation, cause, repeated, isWanted)) ?? false;
    });
  }

  async #again<Answer>(
    operation: EngineOperation,
    first: unknown,
    call: () => Promise<Answer>,
    isWanted: () => boolean,
  ): Promise<Answer | null> {
    let cause = first;
    for (let failures = 0; ; failures += 1) {
      this.notAnswered(operation, cause);
      if (this.isHalted || !isWanted()) return null;
      await this.sleep(this.retryMs(failures));
      if (this.isHalted || !isWanted()) return null;
      try {
        return await call();
      } catch (error) {
        cause = error;
      }
    }
  }

  notAnswered(operation: EngineOperation, cause: unknown): void {
    this.#metrics.engineErrors += 1;
    if (diagnostics.engineError.hasSubscribers) {
      diagnostics.engineError.publish({ operation, cause });
    }
  }

  /** A jittered delay that grows with the number of failures, in milliseconds. */
  retryMs(failures: number): number {
    const fullMs = RETRY_FLOOR_MS * 2 ** Math.min(failures, MAX_DOUBLINGS);
    return Math.min(RETRY_CEILING_MS, fullMs) * (0.5 + this.#random() / 2);
  }

  /** Resolves after the time, or when all is halted. */
  sleep(delayMs: number): Promise<void> {
    if (this.isHalted) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#clock.clearTimer(timer);
        this.#sleepers.delete(wake);
        resolve();
      };
      const timer = this.#clock.setTimer(wake, delayMs, true);
      this.#sleepers.add(wake);
    });
  }

  /** Work in the background. It never rejects, and the end waits for it. */
  track(work: Promise<unknown>): void {
    this.#pending += 1;
    work.then(this.#ended, this.#ended);
  }

  halt(): void {
    this.isHalted = true;
    for (const wake of [...this.#sleepers]) wake();
  }
}

/** An engine of the caller's may throw in place of rejecting, or give no promise. */
function attempt<Answer>(call: () => Promise<Answer>): Promise<Answer> {
  try {
    return Promise.resolve(call());
  } catch (cause) {
    return Promise.reject(cause);
  }
}

function isDone(): true {
  return true;
}

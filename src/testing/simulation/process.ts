/**
 * One simulated process: whatever runs in it, a timer or a message, comes in through `enter`. While it is paused all
 * of that waits; once it is dead, none of it ever runs.
 */
import { SimulatedClock } from './clock.ts';
import type { SeededRandom } from './random.ts';
import type { Timeline } from './timeline.ts';

export interface SimulatedProcessOptions {
  readonly name: string;
  readonly timeline: Timeline;
  readonly random: SeededRandom;
  readonly rate: number;
  readonly wallMs: number;
  /** Timers are late by up to this long. */
  readonly maxLatenessMs: number;
}

type Arrival = { readonly by: 'timer' | 'message'; readonly run: () => void };

/** What has piled up runs one by one after a pause, this far apart. */
const CATCH_UP_STEP_MS = 0.01;

export class SimulatedProcess {
  readonly name: string;
  readonly clock: SimulatedClock;
  readonly #timeline: Timeline;
  readonly #random: SeededRandom;
  #state: 'running' | 'paused' | 'dead' = 'running';
  #arrivals: Arrival[] = [];
  #resumedAtMs = 0;

  constructor(options: SimulatedProcessOptions) {
    const { name, timeline, random, rate, wallMs, maxLatenessMs } = options;
    this.name = name;
    this.#timeline = timeline;
    this.#random = random;
    this.clock = new SimulatedClock({
      timeline,
      rate,
      wallMs,
      monotonicMs: random.between(0, 1e6),
      latenessMs: () => (random.chance(0.5) ? 0 : random.between(0, maxLatenessMs)),
      enter: (run) => this.#enter({ by: 'timer', run }),
    });
  }

  get isRunning(): boolean {
    return this.#state === 'running';
  }

  get isDead(): boolean {
    return this.#state === 'dead';
  }

  /** Since when, in virtual time, this process has run without a pause. */
  get resumedAtMs(): number {
    return this.#resumedAtMs;
  }

  /** Delivers a message, now or when the process goes on. */
  enter(run: () => void): void {
    this.#enter({ by: 'message', run });
  }

  /** Stops the process; with `asleep`, its machine, and so the monotonic clock, stops too. */
  pause(options: { readonly forMs: number; readonly asleep: boolean }): void {
    if (this.#state !== 'running') return;
    this.#state = 'paused';
    if (options.asleep) this.clock.sleep();
    this.#timeline.after(options.forMs, () => this.#resume());
  }

  kill(): void {
    this.#state = 'dead';
    this.#arrivals = [];
  }

  #enter(arrival: Arrival): void {
    if (this.#state === 'dead') return;
    if (this.#state === 'paused') {
      this.#arrivals.push(arrival);
      return;
    }
    this.#timeline.touch();
    arrival.run();
  }

  #resume(): void {
    if (this.#state !== 'paused') return;
    this.#state = 'running';
    this.clock.wake();
    const arrivals = this.#arrivals;
    this.#arrivals = [];
    // The event loop may be in either phase when it goes on: timers first, or messages first.
    const first = this.#random.chance(0.5) ? 'timer' : 'message';
    const inOrder = [
      ...arrivals.filter((arrival) => arrival.by === first),
      ...arrivals.filter((arrival) => arrival.by !== first),
    ];
    inOrder.forEach((arrival, index) => {
      this.#timeline.after(index * CATCH_UP_STEP_MS, () => this.#enter(arrival));
    });
    this.#resumedAtMs = this.#timeline.nowMs + inOrder.length * CATCH_UP_STEP_MS;
  }
}

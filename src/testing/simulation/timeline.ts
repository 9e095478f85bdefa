/**
 * Virtual time: everything that happens in a schedule is a moment on one timeline. A moment runs, then all promises
 * that it settled run to their end, and only then does the time of the next moment come.
 */
import type { SeededRandom } from './random.ts';

export interface Moment {
  readonly atMs: number;
  /** Decides between moments of the same time. */
  readonly order: number;
  run: (() => void) | null;
}

export class Timeline {
  readonly #random: SeededRandom;
  /** A binary heap: the earliest moment first. */
  readonly #moments: Moment[] = [];
  #nowMs = 0;
  #steps = 0;
  #unsettled = false;

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  /** How many moments have run. */
  get steps(): number {
    return this.#steps;
  }

  after(delayMs: number, run: () => void): Moment {
    const atMs = this.#nowMs + Math.max(0, delayMs);
    const moment = { atMs, order: this.#random.next(), run };
    this.#push(moment);
    return moment;
  }

  cancel(moment: Moment): void {
    moment.run = null;
  }

  /** Code under test has run in this moment, so there may be promises to settle before the next one. */
  touch(): void {
    this.#unsettled = true;
  }

  /** Runs the next moment, unless it is later than `untilMs`. Resolves to whether one ran. */
  async step(untilMs: number, before?: () => void): Promise<boolean> {
    const moment = this.#next();
    if (!moment || moment.atMs > untilMs) {
      this.#nowMs = Math.max(this.#nowMs, untilMs);
      return false;
    }
    this.#pop();
    this.#nowMs = moment.atMs;
    this.#steps += 1;
    before?.();
    moment.run?.();
    if (this.#unsettled) await this.settle();
    return true;
  }

  /** Runs all moments of the next `forMs` milliseconds. */
  async advance(forMs: number): Promise<void> {
    const untilMs = this.#nowMs + forMs;
    await this.settle();
    while (await this.step(untilMs)) {
      // Each moment settles before the next.
    }
  }

  /** An immediate comes after every microtask, however many of them queue others. */
  settle(): Promise<void> {
    this.#unsettled = false;
    return new Promise((resolve) => {
      setImmediate(resolve);
    });
  }

  #next(): Moment | undefined {
    while (this.#moments[0]?.run === null) this.#pop();
    return this.#moments[0];
  }

  #push(moment: Moment): void {
    const heap = this.#moments;
    let at = heap.push(moment) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(moment, heap[parent] as Moment)) break;
      heap[at] = heap[parent] as Moment;
      at = parent;
    }
    heap[at] = moment;
  }

  #pop(): void {
    const heap = this.#moments;
    const last = heap.pop();
    if (!last || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      const right = heap[child + 1];
      if (right && isBefore(right, heap[child] as Moment)) child += 1;
      if (!isBefore(heap[child] as Moment, last)) break;
      heap[at] = heap[child] as Moment;
      at = child;
    }
    heap[at] = last;
  }
}

function isBefore(a: Moment, b: Moment): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

/**
 * Ends the rounds that nobody has answered in time: one timer for all of them, since nearly none is ever needed.
 */
import { newAlarm, systemClock } from '../core/clock.ts';

/** A round, and its place in the list of those that are watched. */
export abstract class Watched {
  /** By the monotonic clock, in milliseconds. */
  dueMs = 0;
  before: Watched | null = null;
  after: Watched | null = null;
  abstract onOverdue(): void;
}

class Head extends Watched {
  override onOverdue(): void {}
}

export class Watch {
  /** A ring: rounds come and go so often that a set would be built anew all the time. */
  readonly #head: Watched = new Head();
  // Whoever waits for a round holds the process open.
  readonly #alarm = newAlarm(systemClock, () => this.#ring(), false);

  constructor() {
    this.#head.before = this.#head;
    this.#head.after = this.#head;
  }

  /** Once it is not watched any more, it is not ended. */
  begin(round: Watched, timeoutMs: number): void {
    round.dueMs = performance.now() + timeoutMs;
    const last = this.#head.before as Watched;
    round.before = last;
    round.after = this.#head;
    last.after = round;
    this.#head.before = round;
    this.#alarm.within(timeoutMs);
  }

  end(round: Watched): void {
    if (round.before === null || round.after === null) return;
    round.before.after = round.after;
    round.after.before = round.before;
    round.before = null;
    round.after = null;
  }

  /** What is still watched goes on being watched. */
  close(): void {
    if (this.#head.after === this.#head) this.#alarm.stop();
  }

  #ring(): void {
    const nowMs = performance.now();
    let nextMs = Infinity;
    let round = this.#head.after as Watched;
    while (round !== this.#head) {
      const after = round.after as Watched;
      const leftMs = round.dueMs - nowMs;
      if (leftMs > 0) {
        nextMs = Math.min(nextMs, leftMs);
      } else {
        this.end(round);
        round.onOverdue();
      }
      round = after;
    }
    if (nextMs < Infinity) this.#alarm.within(nextMs);
  }
}

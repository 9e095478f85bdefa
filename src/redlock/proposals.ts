/**
 * The epochs that a client proposes: microseconds since 2020 by its clock, moved forward by as much as refusals have
 * taught it that others are ahead.
 */

const START_MS = Date.UTC(2020, 0, 1);

export class Proposals {
  #aheadUs = 0;
  #last = 0;

  /** Higher than every one before it. */
  next(): number {
    this.#last = Math.max(this.#nowUs(), this.#last + 1);
    return this.#last;
  }

  /** A node has accepted this epoch: the next proposal is higher. */
  learn(epoch: number): void {
    const behindUs = epoch - this.#nowUs();
    if (behindUs >= 0) this.#aheadUs += behindUs + 1;
  }

  /** Two clients that look at their clocks in the same millisecond propose different epochs. */
  #nowUs(): number {
    return (Date.now() - START_MS) * 1_000 + Math.floor(Math.random() * 1_000) + this.#aheadUs;
  }
}

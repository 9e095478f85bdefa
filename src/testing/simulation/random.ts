/**
 * Randomness that a seed decides wholly: whatever a schedule does, the same seed does it again.
 */
export class SeededRandom {
  #state: number;

  constructor(seed: number) {
    // Neighbouring seeds are scrambled, so that schedules 1, 2 and 3 have nothing in common.
    this.#state = scramble(seed | 0);
  }

  /** From 0 up to, and never, 1. */
  next(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    return scramble(this.#state) / 0x1_0000_0000;
  }

  between(min: number, max: number): number {
    return min + this.next() * (max - min);
  }

  /** A whole number, both bounds included. */
  whole(min: number, max: number): number {
    return min + Math.floor(this.next() * (max - min + 1));
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new RangeError('there is nothing to pick from');
    return items[this.whole(0, items.length - 1)] as T;
  }

  /** A stream of its own, so that one part of a schedule can draw more without changing the others. */
  fork(): SeededRandom {
    return new SeededRandom(this.next() * 0x1_0000_0000);
  }
}

/** Every bit of the result depends on every bit of the input (the finalizer of MurmurHash3). */
function scramble(value: number): number {
  let bits = value;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}

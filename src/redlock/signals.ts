/**
 * The nodes tell of one release each for itself, and each tells the process that waits there first. Who is told by a
 * majority claims at once; who is told by fewer waits for a random time, in which the one that the others chose claims.
 */

/** How long to wait for the other nodes, in milliseconds: at least, and by how much more at the most. */
const GATHER_FLOOR_MS = 5;
const GATHER_SPREAD_MS = 10;

interface Signal {
  readonly epoch: number;
  told: number;
  isPassedOn: boolean;
  readonly timer: NodeJS.Timeout;
}

export class Signals {
  readonly #quorum: number;
  readonly #available: (key: string) => void;
  /** Only for some milliseconds each. */
  readonly #signals = new Map<string, Signal>();

  constructor(quorum: number, available: (key: string) => void) {
    this.#quorum = quorum;
    this.#available = available;
  }

  note(key: string, epoch: number): void {
    let signal = this.#signals.get(key);
    if (signal !== undefined && epoch < signal.epoch) return;
    if (signal === undefined || epoch > signal.epoch) {
      if (signal !== undefined) clearTimeout(signal.timer);
      const delayMs = GATHER_FLOOR_MS + Math.random() * GATHER_SPREAD_MS;
      const timer = setTimeout(() => this.#end(key), delayMs);
      timer.unref();
      signal = { epoch, told: 0, isPassedOn: false, timer };
      this.#signals.set(key, signal);
    }
    signal.told += 1;
    if (signal.told === this.#quorum) this.#passOn(key, signal);
  }

  close(): void {
    for (const { timer } of this.#signals.values()) clearTimeout(timer);
    this.#signals.clear();
  }

  #passOn(key: string, signal: Signal): void {
    signal.isPassedOn = true;
    this.#available(key);
  }

  #end(key: string): void {
    const signal = this.#signals.get(key);
    this.#signals.delete(key);
    if (signal !== undefined && !signal.isPassedOn) this.#passOn(key, signal);
  }
}

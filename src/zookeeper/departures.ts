/**
 * Who stands at the head of a line without a look at it: whoever arrives right after a node that
 * was the first and is gone. So a key that one process uses alone costs a creation and a deletion.
 *
 * The number in the name of a node says how many nodes were made before it in its line. So before
 * number n + 1 there were number n and those before that, and nobody else, if it is the same line:
 * the servers remove a line that is empty, and one that is made anew counts from 0. In such a one,
 * after number n of the old one, the line itself was made and n + 1 nodes before number n + 1, each
 * by a transaction of its own. The difference of two czxids is at least the number of transactions
 * from one to the other. When it is n + 2 at the most, it is the same line (docs/adr/0074).
 */
/** Lines whose last departure is remembered. What is forgotten costs a look. */
const MAX_LINES = 10_000;

/** A node that this store has made. */
interface Node {
  /** How many nodes were made before it in its line. */
  readonly arrival: number;
  readonly epoch: bigint;
  /** It was known to be the first without a look. */
  readonly wasKnown: boolean;
}

export class Departures {
  /** By the path of the line. */
  readonly #last = new Map<string, Node>();

  /** A node that was the first of its line is gone. */
  note(line: string, node: Node): void {
    this.#last.set(line, node);
    if (this.#last.size <= MAX_LINES) return;
    const [oldest] = this.#last.keys();
    this.#last.delete(oldest as string);
  }

  /** Whether the next to come will probably be known to be the first: the last one was. */
  isQuiet(line: string): boolean {
    return this.#last.get(line)?.wasKnown ?? false;
  }

  /** Whether a node that was just made is the first of its line. False when that is not known. */
  isFirst(line: string, { arrival, epoch }: Omit<Node, 'wasKnown'>): boolean {
    if (arrival === 0) return true;
    const last = this.#last.get(line);
    if (last === undefined || arrival !== last.arrival + 1) return false;
    const distance = epoch - last.epoch;
    return distance > 0n && distance <= BigInt(arrival) + 1n;
  }
}

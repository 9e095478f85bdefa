/**
 * Operations for all nodes that are made in the same turn of the event loop travel as one run of the script to each of
 * them. Nothing waits for company.
 */
import { type Operation, wordsAlone } from './attempt.ts';
import type { Asker, RedlockNode } from './node.ts';

/** So few that the client prepares one run while the servers execute another. */
const MAX_OPERATIONS = 32;

export class Runs {
  readonly #nodes: readonly RedlockNode[];
  #locks: string[] = [];
  #operations: Operation[] = [];
  #askers: Asker[] = [];

  constructor(nodes: readonly RedlockNode[]) {
    this.#nodes = nodes;
  }

  /** Asks all nodes. */
  ask(asker: Asker, lock: string, operation: Operation): void {
    if (this.#askers.length === 0) {
      // After everything that is ready to run now, promises included.
      process.nextTick(this.#flush);
      // Most runs are of one operation: arrays that grow take much more.
      this.#locks = [lock];
      this.#operations = [operation];
      this.#askers = [asker];
      return;
    }
    this.#locks.push(lock);
    this.#operations.push(operation);
    this.#askers.push(asker);
    if (this.#askers.length === MAX_OPERATIONS) this.#flush();
  }

  readonly #flush = (): void => {
    const [locks, operations, askers] = [this.#locks, this.#operations, this.#askers];
    const [first] = operations;
    if (askers.length === 0 || first === undefined) return;
    this.#askers = [];
    const words =
      operations.length === 1
        ? wordsAlone(first)
        : operations.flatMap(({ kind, words }) => [kind, ...words]);
    for (const node of this.#nodes) node.run(locks, words, askers);
  };
}

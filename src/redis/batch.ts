/**
 * Calls that are made in the same turn of the event loop travel as one run of a script. The replies to one run wake many
 * tasks at once, and what those ask for next is the next run; nothing ever waits for company.
 */

/** So few that the client prepares one run while the server executes another; a server does nothing else meanwhile. */
const MAX_OPERATIONS = 32;

interface Operation {
  /** Reads the answer; what it throws is what the caller is told. */
  readonly answered: (answer: unknown) => void;
  readonly reject: (cause: unknown) => void;
}

interface Batch<Run> {
  readonly run: Run;
  readonly operations: Operation[];
}

export class Batcher<Run> {
  readonly #begin: (slot: number) => Run;
  readonly #execute: (run: Run) => Promise<readonly unknown[]>;
  #open = new Map<number, Batch<Run>>();
  #isScheduled = false;

  /** `begin` makes an empty run for a hash slot; `execute` sends one, and gives the answer to each of its operations. */
  constructor(begin: (slot: number) => Run, execute: (run: Run) => Promise<readonly unknown[]>) {
    this.#begin = begin;
    this.#execute = execute;
  }

  /**
   * What `read` makes of the answer to one operation, which `add` adds to a run; rejects when it is not known whether it was
   * done, and with what one of the two throws.
   */
  submit<T>(slot: number, add: (run: Run) => void, read: (answer: unknown) => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const batch = this.#open.get(slot) ?? this.#beginBatch(slot);
      add(batch.run);
      const answered = (answer: unknown): void => {
        try {
          resolve(read(answer));
        } catch (cause) {
          reject(cause);
        }
      };
      batch.operations.push({ answered, reject });
      if (batch.operations.length === MAX_OPERATIONS) {
        this.#open.delete(slot);
        this.#send(batch);
      }
    });
  }

  #beginBatch(slot: number): Batch<Run> {
    const batch: Batch<Run> = { run: this.#begin(slot), operations: [] };
    this.#open.set(slot, batch);
    if (!this.#isScheduled) {
      this.#isScheduled = true;
      // After everything that is ready to run now, promises included.
      setImmediate(() => this.#flush());
    }
    return batch;
  }

  #flush(): void {
    this.#isScheduled = false;
    const batches = this.#open;
    if (batches.size === 0) return;
    this.#open = new Map();
    for (const batch of batches.values()) this.#send(batch);
  }

  #send({ run, operations }: Batch<Run>): void {
    // What could not be added has told its caller.
    if (operations.length === 0) return;
    this.#execute(run).then(
      (answers) => {
        for (let at = 0; at < operations.length; at += 1) operations[at]?.answered(answers[at]);
      },
      (cause) => {
        for (const { reject } of operations) reject(cause);
      },
    );
  }
}

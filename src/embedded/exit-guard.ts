/**
 * Keeps a process from exiting in the middle of a transaction.
 *
 * A thread that Node.js ends between the begin and the commit of a transaction never gives the write lock back, and the
 * exiting process hangs with it: every other process of the machine would wait for ever. (A process that is killed is
 * harmless: the lock is robust, and the next one to ask cleans up.) So the engine says in shared memory when it is busy,
 * and the exit waits for the end of the transaction, which is some microseconds away.
 */

const BUSY = 0;
const EXITING = 1;
const WORDS = 2;

/**
 * An engine that stays busy for longer waits for a process that was stopped inside a transaction. Exiting would then
 * hang until that one goes on, and afterwards hang everyone.
 */
const EXIT_WAIT_MS = 2_000;

/** The engine's side. */
export class ExitGuard {
  readonly #words: Int32Array;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory);
  }

  /** Runs what must not be cut short; throws once the process is exiting. */
  run<T>(critical: () => T): T {
    Atomics.store(this.#words, BUSY, 1);
    try {
      if (Atomics.load(this.#words, EXITING) === 1) throw new Error('the process is exiting');
      return critical();
    } finally {
      Atomics.store(this.#words, BUSY, 0);
      Atomics.notify(this.#words, BUSY);
    }
  }
}

const guarded = new Set<Int32Array>();

/** The caller's side: shared memory for one engine, watched until `unguard`. */
export function guardExit(): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT);
  if (guarded.size === 0) process.on('exit', waitForAll);
  guarded.add(new Int32Array(memory));
  return memory;
}

export function unguardExit(memory: SharedArrayBuffer): void {
  for (const words of guarded) if (words.buffer === memory) guarded.delete(words);
  if (guarded.size === 0) process.off('exit', waitForAll);
}

function waitForAll(): void {
  for (const words of guarded) Atomics.store(words, EXITING, 1);
  for (const words of guarded) {
    const outcome = Atomics.wait(words, BUSY, 1, EXIT_WAIT_MS);
    // Only the system can end this process now without harm to the others; its exit code is lost.
    if (outcome === 'timed-out') process.kill(process.pid, 'SIGKILL');
  }
}

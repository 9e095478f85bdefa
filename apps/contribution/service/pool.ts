/**
 * A pool of worker processes: as many as wanted, replaced when they die, told to finish when there are too many.
 */
import type { ChildProcess } from 'node:child_process';

/** A worker that dies at once is not started again at once. */
const RESTART_FLOOR_MS = 100;
const RESTART_CEILING_MS = 5_000;
/** Who lived for so long had a good start. */
const HEALTHY_MS = 5_000;
/** A worker that does not end by itself in this time is killed; what it had is delivered again. */
const STOP_TIMEOUT_MS = 15_000;

export interface PoolOptions {
  /** Starts a worker process. */
  start(): ChildProcess;
  onMessage(worker: ChildProcess, message: unknown): void;
  /** How it ended, in words, and whether it was told to. */
  onEnd(worker: ChildProcess, how: string, isWanted: boolean): void;
}

export class Pool {
  readonly #options: PoolOptions;
  readonly #workers = new Set<ChildProcess>();
  readonly #leaving = new Set<ChildProcess>();
  readonly #restarts = new Set<NodeJS.Timeout>();
  #size = 0;
  #failures = 0;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  /** How many are wanted. */
  get size(): number {
    return this.#size;
  }

  /** How many work. */
  get running(): number {
    return this.#workers.size;
  }

  /** Starts workers, or tells the youngest to finish. */
  scale(size: number): void {
    this.#size = size;
    while (this.#workers.size + this.#restarts.size < size) this.#start();
    for (const restart of this.#restarts) {
      if (this.#workers.size + this.#restarts.size <= size) break;
      clearTimeout(restart);
      this.#restarts.delete(restart);
    }
    const tooMany = this.#workers.size - size;
    if (tooMany > 0) for (const worker of [...this.#workers].slice(-tooMany)) this.#dismiss(worker);
  }

  /** Lets every worker finish what it has begun. */
  async stop(): Promise<void> {
    this.scale(0);
    await Promise.all([...this.#leaving].map((worker) => ended(worker)));
  }

  #start(): void {
    const worker = this.#options.start();
    const startedMs = performance.now();
    this.#workers.add(worker);
    worker.on('error', () => {});
    worker.on('message', (message) => this.#options.onMessage(worker, message));
    void ended(worker).then((how) => {
      const isWanted = this.#leaving.delete(worker);
      this.#workers.delete(worker);
      this.#options.onEnd(worker, how, isWanted);
      if (isWanted) return;
      this.#failures = performance.now() - startedMs > HEALTHY_MS ? 0 : this.#failures + 1;
      if (this.#workers.size + this.#restarts.size < this.#size) this.#startLater();
    });
  }

  #startLater(): void {
    const delayMs = Math.min(RESTART_CEILING_MS, RESTART_FLOOR_MS * 2 ** this.#failures);
    const restart = setTimeout(() => {
      this.#restarts.delete(restart);
      this.#start();
    }, delayMs);
    this.#restarts.add(restart);
  }

  #dismiss(worker: ChildProcess): void {
    this.#workers.delete(worker);
    this.#leaving.add(worker);
    worker.kill('SIGTERM');
    const impatience = setTimeout(() => worker.kill('SIGKILL'), STOP_TIMEOUT_MS);
    void ended(worker).then(() => clearTimeout(impatience));
  }
}

/** How it ended, in words. */
async function ended(worker: ChildProcess): Promise<string> {
  if (worker.pid === undefined) return 'could not be started';
  if (worker.exitCode === null && worker.signalCode === null) {
    await new Promise((resolve) => worker.once('exit', resolve));
  }
  return worker.signalCode ?? `exit code ${worker.exitCode}`;
}

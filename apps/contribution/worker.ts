/**
 * One instance of the application: a process that takes messages from the queue and adds each to its total, many at a
 * time. This file holds the critical section that the story is about.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { AcquireTimeoutError, LeaseLostError, StoreUnavailableError } from 'leasehold';
import { type Books, openBooks } from './books.ts';
import { type Guard, openGuard } from './guards.ts';
import { StaleTokenError } from './ledger.ts';
import type { FromInstance, Job } from './protocol.ts';
import type { Delivery } from './queue.ts';

/** How long to wait before looking again when all that is left is with other instances. */
const IDLE_MS = 20;
const REPORT_MS = 100;

class Worker {
  readonly #job: Job;
  readonly #books: Books;
  readonly #guard: Guard;
  #delivered: Delivery[] = [];
  #taking: Promise<boolean> | null = null;
  #waitsMs: number[] = [];
  #putBack = 0;

  constructor(job: Job, books: Books, guard: Guard) {
    this.#job = job;
    this.#books = books;
    this.#guard = guard;
  }

  /** Works until nothing is left in the queue, neither here nor with another instance. */
  async run(): Promise<void> {
    const reporting = setInterval(() => this.#report(), REPORT_MS);
    try {
      await Promise.all(Array.from({ length: this.#job.tasks }, () => this.#task()));
    } finally {
      clearInterval(reporting);
      this.#report();
    }
  }

  async #task(): Promise<void> {
    for (;;) {
      const delivery = await this.#next();
      if (delivery === null) return;
      await this.#handle(delivery);
    }
  }

  async #handle(delivery: Delivery): Promise<void> {
    const askedMs = performance.now();
    try {
      await this.#guard.run(delivery.account, (token) => {
        this.#waitsMs.push(performance.now() - askedMs);
        return this.#add(delivery, token);
      });
    } catch (error) {
      if (!isWorthAnotherTry(error)) throw error;
      this.#putBack += 1;
      await this.#books.queue.putBack(delivery);
    }
  }

  /** The critical section: read, add, write. Whoever comes between the read and the write is lost, or loses this. */
  async #add(delivery: Delivery, token: string | null): Promise<void> {
    const { ledger } = this.#books;
    const { cents, contributions } = await ledger.read(delivery.account, token);
    const total = { cents: cents + delivery.cents, contributions: contributions + 1 };
    await ledger.commit(delivery, total, token);
  }

  /** The next message, or `null` at the end. One task at a time asks the queue, for all of them. */
  async #next(): Promise<Delivery | null> {
    for (;;) {
      const delivery = this.#delivered.shift();
      if (delivery) return delivery;
      this.#taking ??= this.#take().finally(() => {
        this.#taking = null;
      });
      if (!(await this.#taking)) return null;
    }
  }

  async #take(): Promise<boolean> {
    const { instance, tasks } = this.#job;
    const taken = await this.#books.queue.take(instance, tasks);
    if (taken === null) return false;
    this.#delivered = taken;
    if (taken.length === 0) await delay(IDLE_MS);
    return true;
  }

  #report(): void {
    void tell({ is: 'progress', waitsMs: this.#waitsMs, putBack: this.#putBack });
    this.#waitsMs = [];
    this.#putBack = 0;
  }
}

/** The lock was busy, lost or out of reach: nothing was written, and the message can be delivered again. */
function isWorthAnotherTry(error: unknown): boolean {
  return (
    error instanceof AcquireTimeoutError ||
    error instanceof LeaseLostError ||
    error instanceof StoreUnavailableError ||
    error instanceof StaleTokenError
  );
}

/** Resolves when the message is on its way, so that an instance can end after its last one. */
function tell(message: FromInstance): Promise<void> {
  return new Promise((resolve) => {
    process.send?.(message, () => resolve());
  });
}

async function main(job: Job): Promise<void> {
  const books = openBooks(job.books);
  const guard = openGuard(job.guard, job.locks);
  const go = new Promise((resolve) => {
    process.once('message', resolve);
  });
  await tell({ is: 'ready' });
  await go;
  await new Worker(job, books, guard).run();
  await tell({ is: 'done' });
  await guard.close();
  await books.close();
}

/**
 * Ends at once, whatever is going on. An exit would wait for transactions that wait for this thread; a kill is what the
 * books and the locks are made for.
 */
function crash(): void {
  process.kill(process.pid, 'SIGKILL');
}

// The terminal sends an interrupt to every process of its group: the story, which gets it too, ends its instances.
process.on('SIGINT', () => {});
process.on('uncaughtException', (error) => {
  console.error(error);
  crash();
});
// Without the story there is nobody to work for; it may be gone already.
process.on('disconnect', crash);
if (!process.connected) crash();

await main(JSON.parse(process.argv[2] ?? '{}'));
process.off('disconnect', crash);
process.disconnect();

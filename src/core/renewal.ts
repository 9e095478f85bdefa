/**
 * Renewal of everything that a manager holds: one timer, and one call for all leases that are due. The same timer finds
 * leases whose deadline has passed.
 */
import { stopwatch, type Timer } from './clock.ts';
import type { Runtime } from './runtime.ts';
import type { RenewOutcome } from './store.ts';
import type { Tenancy } from './tenancy.ts';

/** A lease that is due within this share of its ttl joins the batch. */
const BATCH_SHARE = 1 / 12;
/** One call to the store renews at most so many leases. */
const MAX_BATCH = 1_000;

export class Renewal {
  readonly #runtime: Runtime;
  readonly #held = new Set<Tenancy>();
  #timer: Timer;
  /** When the timer runs, by the monotonic clock. */
  #dueMs = Infinity;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  add(tenancy: Tenancy, renewInMs: number): void {
    this.#held.add(tenancy);
    this.#wakeIn(renewInMs);
  }

  /** The timer stays as it is: it finds nothing to do, which is cheaper than to set it anew for each release. */
  remove(tenancy: Tenancy): void {
    this.#held.delete(tenancy);
  }

  /** Renews everything now: events may have been missed. */
  renewAll(): void {
    this.#renew([...this.#held]);
  }

  stop(): void {
    this.#runtime.clock.clearTimer(this.#timer);
    this.#dueMs = Infinity;
  }

  #wakeIn(delayMs: number): void {
    const { clock } = this.#runtime;
    const dueMs = clock.monotonicMs() + delayMs;
    if (dueMs >= this.#dueMs) return;
    this.stop();
    this.#dueMs = dueMs;
    this.#timer = clock.setTimer(() => this.#tick(), Math.max(0, delayMs), false);
  }

  #tick(): void {
    this.#dueMs = Infinity;
    const due: Tenancy[] = [];
    let nextMs = Infinity;
    for (const tenancy of [...this.#held]) {
      tenancy.checkDeadline();
      if (tenancy.phase === 'ended') continue;
      nextMs = Math.min(nextMs, tenancy.remainingMs());
      if (tenancy.isRenewing) continue;
      const renewInMs = tenancy.renewInMs();
      if (renewInMs <= tenancy.claim.ttlMs * BATCH_SHARE) due.push(tenancy);
      else nextMs = Math.min(nextMs, renewInMs);
    }
    this.#wakeIn(nextMs);
    this.#renew(due);
  }

  #renew(tenancies: readonly Tenancy[]): void {
    for (let start = 0; start < tenancies.length; start += MAX_BATCH) {
      void this.#renewBatch(tenancies.slice(start, start + MAX_BATCH));
    }
  }

  async #renewBatch(batch: readonly Tenancy[]): Promise<void> {
    const sinceSent = stopwatch(this.#runtime.clock);
    for (const tenancy of batch) tenancy.isRenewing = true;
    const claims = batch.map((tenancy) => tenancy.claim);
    // Without an answer, the outcome of every claim is unknown.
    let outcomes: readonly RenewOutcome[] = [];
    try {
      outcomes = await this.#runtime.call('renew', (store) => store.renew(claims));
    } catch {}
    batch.forEach((tenancy, index) => {
      tenancy.onRenewed(outcomes[index], sinceSent);
      // What is still overdue is tried again after a while.
      const againMs = Math.max(tenancy.renewInMs(), tenancy.claim.ttlMs * BATCH_SHARE);
      if (tenancy.phase === 'held') this.#wakeIn(againMs);
    });
  }
}

/**
 * Renewal of everything that a manager holds: one timer, and one call for all leases that are due.
 */
import { now, type Timer } from './clock.ts';
import * as diagnostics from './diagnostics.ts';
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
  #timer: Timer = null;
  #dueMs = Number.POSITIVE_INFINITY;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  add(tenancy: Tenancy): void {
    this.#held.add(tenancy);
    this.#wakeAt(tenancy.renewAtMs);
  }

  /** The timer stays as it is: it finds nothing to do, which is cheaper than to set it anew for each release. */
  remove(tenancy: Tenancy): void {
    this.#held.delete(tenancy);
  }

  /** Renews everything now: events may have been missed. */
  renewAll(): void {
    for (const tenancy of this.#held) tenancy.renewAtMs = 0;
    this.#wakeAt(0);
  }

  stop(): void {
    if (this.#timer !== null) this.#runtime.clock.clearTimer(this.#timer);
    this.#timer = null;
    this.#dueMs = Number.POSITIVE_INFINITY;
  }

  #wakeAt(dueMs: number): void {
    if (dueMs >= this.#dueMs) return;
    this.stop();
    this.#dueMs = dueMs;
    const delayMs = Math.max(0, dueMs - this.#runtime.clock.monotonicMs());
    this.#timer = this.#runtime.clock.setTimer(() => this.#tick(), delayMs, false);
  }

  #tick(): void {
    this.#timer = null;
    this.#dueMs = Number.POSITIVE_INFINITY;
    const nowMs = this.#runtime.clock.monotonicMs();
    const due: Tenancy[] = [];
    const expired: Tenancy[] = [];
    let nextMs = Number.POSITIVE_INFINITY;
    for (const tenancy of this.#held) {
      if (!tenancy.isValid()) {
        expired.push(tenancy);
        continue;
      }
      nextMs = Math.min(nextMs, tenancy.deadlineMs);
      if (tenancy.renewing) continue;
      if (tenancy.renewAtMs <= nowMs + tenancy.claim.ttlMs * BATCH_SHARE) due.push(tenancy);
      else nextMs = Math.min(nextMs, tenancy.renewAtMs);
    }
    for (const tenancy of expired) tenancy.checkDeadline();
    for (let start = 0; start < due.length; start += MAX_BATCH) {
      void this.#renew(due.slice(start, start + MAX_BATCH));
    }
    this.#wakeAt(nextMs);
  }

  async #renew(batch: readonly Tenancy[]): Promise<void> {
    const sentAt = now(this.#runtime.clock);
    for (const tenancy of batch) tenancy.renewing = true;
    let outcomes: readonly RenewOutcome[];
    try {
      outcomes = await this.#runtime.call((store) => store.renew(batch.map((one) => one.claim)));
    } catch (cause) {
      this.#runtime.failed('renew', cause);
      outcomes = [];
    }
    let nextMs = Number.POSITIVE_INFINITY;
    batch.forEach((tenancy, index) => {
      const outcome = outcomes[index] ?? { is: 'unknown', cause: undefined };
      tenancy.onRenewed(outcome, sentAt);
      if (tenancy.phase === 'held') nextMs = Math.min(nextMs, tenancy.renewAtMs);
    });
    this.#wakeAt(nextMs);
    if (diagnostics.renewed.hasSubscribers) this.#publish(outcomes, batch.length);
  }

  #publish(outcomes: readonly RenewOutcome[], claims: number): void {
    const count = (is: RenewOutcome['is']): number =>
      outcomes.filter((outcome) => outcome.is === is).length;
    const held = count('held');
    const lost = count('lost');
    const store = this.#runtime.store.name;
    diagnostics.renewed.publish({ store, held, lost, unknown: claims - held - lost });
  }
}

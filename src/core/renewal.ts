/**
 * Renewal of everything that a manager holds: one timer, and one call for all leases that are due. The same timer finds
 * leases whose deadline has passed.
 */
import { type Clock, newAlarm, stopwatch } from './clock.ts';
import type { LeaseStore, RenewOutcome } from './store.ts';
import type { Tenancy } from './tenancy.ts';

/** A lease that is due within this share of its ttl joins the batch. */
const BATCH_SHARE = 1 / 12;

export interface Renewal {
  add(tenancy: Tenancy): void;
  /** The timer stays as it is: it finds nothing to do, which is cheaper than to set it anew for each release. */
  remove(tenancy: Tenancy): void;
  /** Renews everything now: events may have been missed. */
  renewAll(): void;
  stop(): void;
}

export function startRenewal(clock: Clock, renew: LeaseStore['renew']): Renewal {
  const held = new Set<Tenancy>();
  const alarm = newAlarm(clock, tick, false);

  function tick(): void {
    const due: Tenancy[] = [];
    let nextMs = Infinity;
    for (const tenancy of [...held]) {
      tenancy.checkDeadline();
      if (tenancy.phase === 'ended') continue;
      nextMs = Math.min(nextMs, tenancy.remainingMs());
      if (tenancy.isRenewing) continue;
      const renewInMs = tenancy.renewInMs();
      if (renewInMs <= tenancy.ttlMs * BATCH_SHARE) due.push(tenancy);
      else nextMs = Math.min(nextMs, renewInMs);
    }
    alarm.within(nextMs);
    void send(due);
  }

  async function send(batch: readonly Tenancy[]): Promise<void> {
    if (batch.length === 0) return;
    const sinceSent = stopwatch(clock);
    for (const tenancy of batch) tenancy.isRenewing = true;
    // Without an answer, the outcome of every claim is unknown.
    let outcomes: readonly RenewOutcome[] = [];
    try {
      outcomes = await renew(batch.map((tenancy) => tenancy.claim));
    } catch {}
    batch.forEach((tenancy, index) => {
      tenancy.onRenewed(outcomes[index], sinceSent);
      // What is still overdue is tried again after a while.
      const againMs = Math.max(tenancy.renewInMs(), tenancy.ttlMs * BATCH_SHARE);
      if (tenancy.phase === 'held') alarm.within(againMs);
    });
  }

  return {
    add(tenancy) {
      held.add(tenancy);
      alarm.within(tenancy.renewInMs());
    },
    remove(tenancy) {
      held.delete(tenancy);
    },
    renewAll: () => void send([...held]),
    stop: alarm.stop,
  };
}

/**
 * The judge of the server's side: what one step may do to the state of a key, whatever the processes believe.
 */
import type { KeyState } from '../../core/key-state.ts';

export interface AuditedStep {
  readonly key: string;
  readonly before: KeyState;
  readonly after: KeyState;
  readonly isListening: (channel: string) => boolean;
}

type Named = { readonly owner: string };

/** What is wrong with a step; nothing, as it should be. */
export function auditStep(step: AuditedStep): string[] {
  return [...auditUnits(step), ...auditExpiry(step), ...auditQueue(step)];
}

function* auditUnits({ key, after }: AuditedStep): Iterable<string> {
  const used = after.holders.reduce((sum, holder) => sum + holder.units, 0);
  if (used > after.capacity) yield `the server gave ${used} of ${after.capacity} of ${key}`;
}

function* auditExpiry({ key, before, after }: AuditedStep): Iterable<string> {
  for (const holder of after.holders) {
    const old = before.holders.find((one) => one.epoch === holder.epoch);
    if (old && holder.expiresAtMs < old.expiresAtMs) {
      yield `the server shortened the lease of ${holder.owner} on ${key}`;
    }
  }
}

/** Newcomers queue behind everybody, and nobody is served before somebody who came first and would hear of it. */
function* auditQueue({ key, before, after, isListening }: AuditedStep): Iterable<string> {
  const stayed = before.waiters.filter((waiter) => has(after.waiters, waiter));
  const came = after.waiters.filter((waiter) => !has(before.waiters, waiter));
  const expected = [...stayed, ...came].map((waiter) => waiter.owner).join(' ');
  const queue = after.waiters.map((waiter) => waiter.owner).join(' ');
  if (queue !== expected) yield `the queue of ${key} is ${queue}, not ${expected}`;

  for (const holder of after.holders) {
    if (has(before.holders, holder)) continue;
    const place = before.waiters.findIndex((waiter) => waiter.owner === holder.owner);
    const passed = stayed.find(
      (waiter) =>
        isListening(waiter.channel) && (place === -1 || before.waiters.indexOf(waiter) < place),
    );
    if (passed) yield `${holder.owner} got ${key} before ${passed.owner}, who came first`;
  }
}

function has(items: readonly Named[], item: Named): boolean {
  return items.some((one) => one.owner === item.owner);
}

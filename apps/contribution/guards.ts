/**
 * What stands around the critical section: nothing, a lock that the tasks of one process share, or a lock that all
 * processes share. The section itself is the same in every way of the story; only the last guard has a token for it.
 */
import { LockManager } from 'leasehold';
import { embedded } from 'leasehold/embedded';
import { memory } from 'leasehold/memory';

export type GuardKind = 'none' | 'process' | 'leasehold';

export interface Guard {
  /** Runs the section for an account as soon as it may run. `token` fences its reads and writes, where there is one. */
  run(account: string, section: (token: string | null) => Promise<void>): Promise<void>;
  close(): Promise<void>;
}

/**
 * How long the store keeps the lease of an instance that was killed: the time for which its accounts stand still. A
 * live instance renews, and one that stalls for longer than this is stopped by the fence.
 */
const TTL_MS = 1_000;

export function openGuard(kind: GuardKind, folder: string): Guard {
  switch (kind) {
    case 'none':
      return { run: (_account, section) => section(null), close: async () => {} };
    case 'process':
      return guardWith(new LockManager({ store: memory() }), false);
    case 'leasehold':
      return guardWith(new LockManager({ store: embedded({ path: folder }), ttlMs: TTL_MS }), true);
    default:
      return kind satisfies never;
  }
}

function guardWith(locks: LockManager, fenced: boolean): Guard {
  return {
    // Tokens of a lock in the process are ordered in that process alone: a fence that all share has no use for them.
    run: (account, section) =>
      locks.withLock(`contribution:${account}`, (lease) =>
        section(fenced ? lease.tokenText : null),
      ),
    close: () => locks.close(),
  };
}

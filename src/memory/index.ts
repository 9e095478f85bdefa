/**
 * `leasehold/memory`: leases for the tasks of one process, with nothing to install and no I/O.
 */
import type { LeaseStore } from '../core/store.ts';
import { MemorySpace, MemoryStore } from './store.ts';

export { type MemoryKeyReport, MemorySpace, type MemorySpaceOptions } from './store.ts';

/**
 * A store for one `LockManager`. Managers exclude each other when their stores share a space, as processes that share
 * an engine do; without an argument the space is this store's own.
 */
export function memory(space: MemorySpace = new MemorySpace()): LeaseStore {
  return new MemoryStore(space);
}

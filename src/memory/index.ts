/**
 * `leasehold/memory`: leases for the tasks of one process, with nothing to install and no I/O; and for the consumer a
 * queue, states and an outbox of the same kind.
 */
import type { LeaseStore } from '../core/store.ts';
import { MemorySpace, MemoryStore } from './store.ts';

export { type MemoryOutboxOptions, memoryOutbox } from './outbox.ts';
export {
  type MemoryPublication,
  MemoryQueue,
  type MemoryQueueOptions,
  type MemorySourceOptions,
  memorySource,
} from './source.ts';
export { type MemoryStateOptions, memoryState } from './state.ts';
export { type MemoryKeyReport, MemorySpace, type MemorySpaceOptions } from './store.ts';

/**
 * A store for one `LockManager`. Managers exclude each other when their stores share a space, as processes that share
 * an engine do; without an argument the space is this store's own.
 */
export function memory(space: MemorySpace = new MemorySpace()): LeaseStore {
  return new MemoryStore(space);
}

/**
 * `leasehold/embedded`: leases for the processes of one machine, in a folder, with no server to run.
 *
 * It stands on LMDB, through the `lmdb` package, which the application installs: `npm i lmdb`.
 */
import { type EmbeddedOptions, EmbeddedStore } from './store.ts';

export type { EmbeddedKeyReport } from './protocol.ts';
export type { EmbeddedOptions, EmbeddedStore } from './store.ts';

/**
 * A store for one `LockManager`. Managers, in this process or another one of the machine, exclude each other when their
 * stores have the same folder. Nothing is opened before the manager's first call.
 *
 * @throws InvalidArgumentError when the path or a time cannot be right.
 */
export function embedded(options: EmbeddedOptions): EmbeddedStore {
  return new EmbeddedStore(options);
}

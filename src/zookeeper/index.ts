/**
 * `leasehold/zookeeper`: leases on a ZooKeeper server or ensemble, 3.5.3 or later.
 */
import type { LeaseStore } from '../core/store.ts';
import { readOptions, type ZooKeeperOptions } from './options.ts';
import { ZooKeeperStore } from './store.ts';

export type { ZooKeeperAuth, ZooKeeperOptions } from './options.ts';

/**
 * A store for one `LockManager`.
 *
 * Give a URL (`zookeeper://host:port,host:port/root`, with `user:password@` before the hosts for
 * the scheme `digest`), or options. Needs `node-zookeeper-client`. The store makes its own
 * connections: one for each `ttlMs` that is used. Throws `InvalidArgumentError` for what cannot be
 * right. A `ttlMs` that the servers will not grant is refused by the first acquire with
 * `ClaimRefusedError`, which names the servers' bounds.
 */
export function zookeeper(from: string | ZooKeeperOptions): LeaseStore {
  return new ZooKeeperStore(readOptions(from));
}

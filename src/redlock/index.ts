/**
 * `leasehold/redlock`: leases on several independent Redis masters, of which any minority may fail.
 */
import { InvalidArgumentError } from '../core/errors.ts';
import type { LeaseStore } from '../core/store.ts';
import type { RedisClient } from '../redis/clients/client.ts';
import { type AnyRedisClient, adapt, checkUrl, clientFor } from '../redis/clients/connect.ts';
import { type RedlockOptions, readOptions, type Settings } from './options.ts';
import { RedlockStore } from './store.ts';

export type { AnyRedisClient } from '../redis/clients/connect.ts';
export type { RedlockOptions } from './options.ts';

const NODES = { min: 3, max: 15 } as const;

/**
 * A store for one `LockManager`, on three or more Redis servers that know nothing of each other: the Redlock algorithm
 * (https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/), with epochs that a majority has accepted, so
 * that tokens increase.
 *
 * Give URLs (`redis://`, `rediss://`; they need `ioredis`) or clients of ioredis 5 or 6 or of node-redis 5 or 6. A client
 * that is handed in is never closed or reconfigured; the store adds one connection to each node that listens. Throws
 * `InvalidArgumentError` for fewer than three, for one that is given twice, and for a cluster. A server that is behind
 * two of the addresses is found when the store opens, and claims are refused then.
 */
export function redlock(
  nodes: readonly (string | AnyRedisClient)[],
  options: RedlockOptions = {},
): LeaseStore {
  const settings = readOptions(options);
  if (!Array.isArray(nodes) || nodes.length < NODES.min || nodes.length > NODES.max) {
    throw new InvalidArgumentError(
      `redlock() needs a list of ${NODES.min} to ${NODES.max} independent masters, best an odd number; ` +
        'for one server, or a master with replicas, take redis()',
    );
  }
  if (new Set(nodes).size < nodes.length) {
    throw new InvalidArgumentError('redlock() was given a node twice: each has one vote');
  }
  return new RedlockStore(
    nodes.map((node) => connectorOf(node, settings)),
    settings,
  );
}

function connectorOf(
  node: string | AnyRedisClient,
  { requestTimeoutMs }: Settings,
): () => Promise<RedisClient> {
  if (typeof node === 'string') {
    checkUrl(node);
    return () => clientFor(node, requestTimeoutMs);
  }
  const client = adapt(node);
  if (client.isCluster) {
    throw new InvalidArgumentError(
      'redlock() needs clients of single masters: the nodes of a cluster are not independent; take redis() for it',
    );
  }
  return async () => client;
}

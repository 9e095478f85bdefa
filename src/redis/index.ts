/**
 * `leasehold/redis`: leases on a Redis server, on a master with replicas behind Sentinel, or on a Redis Cluster.
 */
import type { Outbox, StateStore } from '../consumer/contracts.ts';
import { InvalidArgumentError } from '../core/errors.ts';
import type { LeaseStore } from '../core/store.ts';
import type { Server } from './clients/client.ts';
import { type AnyRedisClient, adapt, checkUrl, clientFor } from './clients/connect.ts';
import { type RedisOptions, readOptions } from './options.ts';
import { RedisOutbox, type RedisOutboxOptions, readOutboxOptions } from './outbox.ts';
import type { ReplicaSettings } from './replicas.ts';
import { RedisState, type RedisStateOptions, readStateOptions } from './state.ts';
import { RedisStore } from './store.ts';

export { StaleTokenError, type Token } from '../core/fence.ts';
export type { AnyRedisClient } from './clients/connect.ts';
export {
  Fence,
  type FencedSetOptions,
  type FencedValue,
  type FenceOptions,
  fenced,
} from './fence.ts';
export type { RedisOptions } from './options.ts';
export type { RedisOutboxOptions } from './outbox.ts';
export type { RedisStateOptions } from './state.ts';

/**
 * A store for one `LockManager`.
 *
 * Give a URL (`redis://`, `rediss://`, or `redis+sentinel://host:port,host:port/master-name/database`; needs `ioredis`),
 * or a client of ioredis 5 or 6 or of node-redis 5 or 6: single, Sentinel or cluster. A client that is handed in is
 * never closed or reconfigured; the store adds one connection of its own that listens, one for each master of a
 * cluster. Throws `InvalidArgumentError` when it is neither.
 */
export function redis(from: string | AnyRedisClient, options: RedisOptions = {}): LeaseStore {
  const settings = readOptions(options);
  return new RedisStore(connector(from, settings), settings);
}

/**
 * States for `consume()`, each with a fence and the ids of the messages that were applied to it. The client is as for
 * `redis()`. A commit costs one round trip, and a second one with `minReplicas`.
 */
export function redisState(
  from: string | AnyRedisClient,
  options: RedisStateOptions = {},
): StateStore {
  const settings = readStateOptions(options);
  return new RedisState(connector(from, settings), settings);
}

/**
 * An outbox for `consume()`: messages that did not get their lock in time, until they are due again. The client is as for
 * `redis()`.
 */
export function redisOutbox(
  from: string | AnyRedisClient,
  options: RedisOutboxOptions = {},
): Outbox {
  const settings = readOutboxOptions(options);
  return new RedisOutbox(connector(from, settings).connect, settings);
}

/** Checks what was given at once, and connects when the store opens. */
function connector(
  from: string | AnyRedisClient,
  { minReplicas, requestTimeoutMs }: ReplicaSettings,
): Server {
  if (typeof from === 'string') {
    checkUrl(from);
    return { from, isCluster: false, connect: () => clientFor(from, requestTimeoutMs) };
  }
  const client = adapt(from);
  if (client.isCluster && minReplicas > 0) {
    throw new InvalidArgumentError(
      'minReplicas is for one master with replicas, not for a cluster',
    );
  }
  return { from, isCluster: client.isCluster, connect: () => client };
}

import type { Guarantees } from '../core/store.ts';

const SURVIVES = [
  'holders and waiters that are killed, stopped or cut off: their leases end by the ttl',
  'replies and messages that are lost, late or doubled',
  'a lost connection, a flushed script cache, a server that hangs, is loading, read-only or out of memory',
  'slots that move to another node of a cluster',
];

const FAILOVER =
  'a failover that loses writes: two may hold the key until the older lease ends; the fence refuses the older one’s writes';
const RESTART =
  'a restart without the data (no append-only file, or one that is synced each second): as a failover';
const CLOCK =
  'a server clock that is set forward: leases end early there, and their holders learn of it late';

/** What a store on Redis promises. */
export function guaranteesOf(minReplicas: number): Guarantees {
  return {
    scope: 'network',
    handOver: 'direct',
    order: 'arrival',
    capacities: 'any',
    survives:
      minReplicas === 0
        ? SURVIVES
        : [...SURVIVES, 'a failover to any replica that acknowledged the grant (minReplicas)'],
    doesNotSurvive:
      minReplicas === 0
        ? [FAILOVER, RESTART, CLOCK]
        : [`${FAILOVER} (to a replica that did not acknowledge the grant)`, RESTART, CLOCK],
  };
}

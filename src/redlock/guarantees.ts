import type { Guarantees } from '../core/store.ts';

/** What a store on independent masters promises. */
export const GUARANTEES: Guarantees = {
  scope: 'network',
  handOver: 'signalled',
  // A hand-over takes two rounds over the nodes: this way it has about the same share of the time as on Redis.
  maxPasses: 96,
  order: 'none',
  capacities: 'exclusive',
  survives: [
    'holders and waiters that are killed, stopped or cut off: their leases end by the ttl',
    'replies and messages that are lost, late or doubled',
    'any minority of the nodes: killed, hung, cut off, slow, or restarted without their data',
  ],
  doesNotSurvive: [
    'a majority of the nodes that is away: nothing is granted or extended until it is back',
    'a node clock that is set forward while the lease is on a bare majority: two may hold the key until the older lease ends; the fence refuses the older one’s writes',
    'a majority of the nodes that loses its data before one of them has recovered: tokens then increase as the clocks of the clients do',
  ],
};

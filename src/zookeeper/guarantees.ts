import type { Guarantees } from '../core/store.ts';

/** What a store on ZooKeeper promises. */
export const GUARANTEES: Guarantees = {
  scope: 'network',
  handOver: 'direct',
  order: 'arrival',
  capacities: 'any',
  survives: [
    'holders and waiters that are killed, stopped or cut off: their leases end by the ttl and two ticks',
    'replies and messages that are lost, late or doubled',
    'servers that die, hang or are cut off, as long as a majority is left: another one leads, and nothing is lost',
    'the loss of the majority and its return: nobody gets a key meanwhile, and leases end by their deadline',
    'restarts of servers, one by one or all at once, with their data',
  ],
  doesNotSurvive: [
    'servers that come back without their data, when these are a majority',
    'a leader that stands still for longer than two ticks while the server of a holder dies: its session may end early, and two may hold the key until the older lease ends; the fence refuses the older one’s writes',
  ],
};

/**
 * Stores that are wrong in one way each, made of the memory store. The suite has to catch every one of them, or it
 * proves nothing.
 */
import {
  type Claim,
  type ClaimId,
  type ClaimOutcome,
  type LeaseStore,
  type RenewOutcome,
  SHARED_CAPACITY,
  type StoreEvent,
} from 'leasehold';
import type { MemorySpace } from 'leasehold/memory';

export interface BrokenStore {
  /** What is wrong with it. */
  readonly name: string;
  /** Cases that must fail on it: the most telling ones, not all. */
  readonly caughtBy: readonly string[];
  /** The broken methods; all others are those of `inner`. */
  readonly methods: (inner: LeaseStore, space: MemorySpace) => Partial<LeaseStore>;
}

export function breakStore(
  inner: LeaseStore,
  space: MemorySpace,
  methods: BrokenStore['methods'],
): LeaseStore {
  return {
    name: inner.name,
    guarantees: inner.guarantees,
    open: (on) => inner.open(on),
    claim: (claim) => inner.claim(claim),
    renew: (claims) => inner.renew(claims),
    drop: (id, again) => inner.drop(id, again),
    close: () => inner.close(),
    ...methods(inner, space),
  };
}

/** Changes every claim on its way in; answers and events keep the key that the caller knows. */
function changedClaims(inner: LeaseStore, change: (claim: Claim) => Claim): Partial<LeaseStore> {
  const keys = new Map<string, string>();
  const changed = (claim: Claim): Claim => {
    const other = change(claim);
    keys.set(other.owner, claim.key);
    return other;
  };
  const changedId = (id: ClaimId): ClaimId => ({
    owner: id.owner,
    key: change({ units: 1, capacity: 2, ttlMs: 1, wait: true, ...id }).key,
  });
  return {
    open: (on) =>
      inner.open((event) =>
        on('owner' in event ? { ...event, key: keys.get(event.owner) ?? event.key } : event),
      ),
    claim: (claim) => inner.claim(changed(claim)),
    renew: (claims) => inner.renew(claims.map(changed)),
    drop: (id, again) => inner.drop(changedId(id), again && changed(again)),
  };
}

/** Changes the epoch of every grant. */
function changedEpochs(
  inner: LeaseStore,
  change: (epoch: bigint, key: string) => bigint,
): Partial<LeaseStore> {
  const changed = (outcome: ClaimOutcome): ClaimOutcome =>
    outcome.is === 'granted'
      ? { ...outcome, epoch: change(outcome.epoch, outcome.claim.key) }
      : outcome.is === 'waiting'
        ? { ...outcome, epoch: 0n }
        : outcome;
  return {
    open: (on) =>
      inner.open((event) =>
        on(event.is === 'granted' ? { ...event, epoch: change(event.epoch, event.key) } : event),
      ),
    claim: async (claim) => changed(await inner.claim(claim)),
    drop: async (id, again) => {
      const { held, next } = await inner.drop(id, again);
      return { held, next: next && changed(next) };
    },
  };
}

function withoutEvents(inner: LeaseStore, unwanted: StoreEvent['is']): LeaseStore['open'] {
  return (on) => inner.open((event) => event.is !== unwanted && on(event));
}

function notWanted(outcome: RenewOutcome): RenewOutcome {
  return outcome.is === 'held' ? { ...outcome, wanted: false } : outcome;
}

export const brokenStores: readonly BrokenStore[] = [
  {
    name: 'grants a key that is held',
    caughtBy: [
      'newcomers do not pass the queue',
      'tryAcquire takes a free key or none, without a trace',
      'hundreds of callers of several processes exclude each other',
    ],
    methods: (inner) => ({
      async claim(claim) {
        const outcome = await inner.claim({ ...claim, wait: false });
        if (outcome.is !== 'taken') return outcome;
        const epoch = BigInt(Date.now());
        return { is: 'granted', claim, epoch, ttlMs: claim.ttlMs, wanted: false };
      },
    }),
  },
  {
    name: 'renews what was lost',
    caughtBy: [
      'a stale owner can neither renew nor release',
      'renew answers for each claim in its place',
    ],
    methods: () => ({ renew: async (claims) => claims.map(() => ({ is: 'held', wanted: false })) }),
  },
  {
    name: 'says held without extending anything',
    caughtBy: ['renewing re-arms the expiry'],
    methods: () => ({ renew: async (claims) => claims.map(() => ({ is: 'held', wanted: true })) }),
  },
  {
    name: 'answers for fewer renewals than it was asked for',
    caughtBy: ['renew answers for each claim in its place'],
    methods: (inner) => ({
      renew: async (claims) => (await inner.renew(claims)).filter(({ is }) => is === 'held'),
    }),
  },
  {
    name: 'drops whoever holds the key',
    caughtBy: [
      'a stale owner can neither renew nor release',
      'drop is idempotent',
      'a stale lease does not free the key of its successor',
    ],
    methods: (inner, space) => ({
      async drop(id, again) {
        const holders = space.inspect().find(({ key }) => key === id.key)?.holders ?? [];
        for (const owner of holders) {
          if (owner !== id.owner) await inner.drop({ key: id.key, owner });
        }
        return inner.drop(id, again);
      },
    }),
  },
  {
    name: 'forgets to drop',
    caughtBy: [
      'a free key is granted, renewed and dropped',
      'cancelled waiters leave nothing behind',
    ],
    methods: () => ({ drop: async () => ({ held: true, next: null }) }),
  },
  {
    name: 'drops holders, but not waiters',
    caughtBy: ['a waiter that leaves blocks nobody'],
    methods: (inner) => ({
      drop: async (id, again) =>
        (await inner.renew([id as Claim]))[0]?.is === 'held'
          ? inner.drop(id, again)
          : { held: false, next: null },
    }),
  },
  {
    name: 'claims again although nothing was held',
    caughtBy: ['a stale owner can neither renew nor release'],
    methods: (inner) => ({
      async drop(id, again) {
        const { held, next } = await inner.drop(id, again);
        return { held, next: again && !held ? await inner.claim(again) : next };
      },
    }),
  },
  {
    name: 'does not claim again when it drops',
    caughtBy: ['drop claims again in the same step'],
    methods: (inner) => ({ drop: (id) => inner.drop(id) }),
  },
  {
    name: 'grants anew on each claim',
    caughtBy: ['claiming what is held returns the same grant'],
    methods: (inner) => ({
      async claim(claim) {
        const outcome = await inner.claim(claim);
        if (outcome.is !== 'granted') return outcome;
        await inner.drop(claim);
        return inner.claim(claim);
      },
    }),
  },
  {
    name: 'queues anew on each claim',
    caughtBy: ['claiming again keeps the place in the queue'],
    methods: (inner) => ({
      async claim(claim) {
        const outcome = await inner.claim(claim);
        if (outcome.is !== 'waiting') return outcome;
        await inner.drop(claim);
        return inner.claim(claim);
      },
    }),
  },
  {
    name: 'takes a claim that is made again for a new one',
    caughtBy: [
      'claiming what is held returns the same grant',
      'a claim made again after a lost message is granted once',
      'a claim queued again after a lost message waits once',
      'after a lost message of drop and claim again, a plain claim converges',
    ],
    methods: (inner) => {
      let attempts = 0;
      const owners = new Map<string, string>();
      const last = <Id extends ClaimId>(id: Id): Id => ({
        ...id,
        owner: owners.get(id.owner) ?? id.owner,
      });
      const anew = (claim: Claim): Claim => {
        attempts += 1;
        owners.set(claim.owner, `${claim.owner}#${attempts}`);
        return last(claim);
      };
      return {
        claim: (claim) => inner.claim(anew(claim)),
        renew: (claims) => inner.renew(claims.map(last)),
        drop: (id, again) => inner.drop(last(id), again && anew(again)),
      };
    },
  },
  {
    name: 'keeps the first expiry when it is claimed again',
    caughtBy: ['claiming what is held re-arms its expiry'],
    methods: (inner) => {
      const grants = new Map<string, ClaimOutcome>();
      return {
        async claim(claim) {
          const known = grants.get(claim.owner);
          if (known) return known;
          const outcome = await inner.claim(claim);
          if (outcome.is === 'granted') grants.set(claim.owner, outcome);
          return outcome;
        },
      };
    },
  },
  {
    name: 'takes a shorter ttl at its word',
    caughtBy: ['claim and renew never shorten an expiry'],
    methods: (inner) => ({
      async renew(claims) {
        for (const claim of claims) {
          if ((await inner.drop(claim)).held) await inner.claim(claim);
        }
        return inner.renew(claims);
      },
    }),
  },
  {
    name: 'expires too early',
    caughtBy: [
      'a claim that nobody renews expires, and not before its ttl',
      'closing a store leaves its leases to their ttl',
      'the key of a silent holder is free after its ttl, and the holder knows',
    ],
    methods: (inner) => ({
      async claim(claim) {
        const outcome = await inner.claim({ ...claim, ttlMs: claim.ttlMs * 0.7 });
        return outcome.is === 'granted' ? { ...outcome, ttlMs: claim.ttlMs } : outcome;
      },
    }),
  },
  {
    name: 'never expires',
    caughtBy: [
      'a claim that nobody renews expires, and not before its ttl',
      'a waiter that fell silent does not block the queue',
      'the permit of a silent holder is free after its ttl',
    ],
    methods: (inner) => changedClaims(inner, (claim) => ({ ...claim, ttlMs: claim.ttlMs * 1e6 })),
  },
  {
    name: 'gives its leases up when it is closed',
    caughtBy: ['closing a store leaves its leases to their ttl'],
    methods: (inner) => {
      const claims: Claim[] = [];
      return {
        claim: (claim) => {
          claims.push(claim);
          return inner.claim(claim);
        },
        async close() {
          for (const claim of claims.splice(0)) await inner.drop(claim);
          await inner.close();
        },
      };
    },
  },
  {
    name: 'has one epoch for all grants',
    caughtBy: [
      'drop claims again in the same step',
      'tokens increase over local and remote hand-overs',
      'tokens increase over an expiry',
      'permits are counted, and a freed one goes on',
    ],
    methods: (inner) => changedEpochs(inner, () => 1n),
  },
  {
    name: 'counts its epochs down',
    caughtBy: ['a claim that nobody renews expires, and not before its ttl'],
    methods: (inner) => changedEpochs(inner, (epoch) => (1n << 62n) - epoch),
  },
  {
    name: 'begins its epochs anew with each restart',
    caughtBy: ['tokens increase over restarts of the engine'],
    methods: (inner, space) => {
      const first = firstEpochs.get(space) ?? { epoch: null };
      firstEpochs.set(space, first);
      return changedEpochs(inner, (epoch) => {
        first.epoch ??= epoch;
        return epoch - first.epoch + 1n;
      });
    },
  },
  {
    name: 'forgets the epoch of a key that nobody holds',
    caughtBy: ['tokens increase when nothing is left of the key'],
    methods: (inner, space) => {
      let count = 0n;
      return {
        ...changedEpochs(inner, () => count),
        async claim(claim) {
          if (space.inspect().length === 0) count = 0n;
          const outcome = await inner.claim(claim);
          if (outcome.is !== 'granted') return outcome;
          count += 1n;
          return { ...outcome, epoch: count };
        },
      };
    },
  },
  {
    name: 'queues claims that do not wait',
    caughtBy: ['a claim that does not wait leaves no trace'],
    methods: (inner) => ({
      async claim(claim) {
        const outcome = await inner.claim({ ...claim, wait: true });
        if (claim.wait || outcome.is !== 'waiting') return outcome;
        return { is: 'taken', holder: outcome.holder };
      },
    }),
  },
  {
    name: 'has no queue',
    caughtBy: [
      'newcomers do not pass the queue',
      'claims are granted in the order of arrival',
      'tryAcquire does not pass the queue',
    ],
    methods: (inner) => ({
      async claim(claim) {
        const outcome = await inner.claim({ ...claim, wait: false });
        if (!claim.wait || outcome.is !== 'taken') return outcome;
        const { holder } = outcome;
        return { is: 'waiting', lookAgainMs: 5, ahead: null, holder, epoch: 0n };
      },
    }),
  },
  {
    name: 'does not say who holds the key',
    caughtBy: ['timed-out waiters say whom they waited for, and leave nothing behind'],
    methods: (inner) => ({
      async claim(claim) {
        const outcome = await inner.claim(claim);
        return outcome.is === 'waiting' ? { ...outcome, holder: null } : outcome;
      },
    }),
  },
  {
    name: 'never tells a holder that others wait',
    caughtBy: [
      'a holder is told that another process wants the key',
      'a retained lease is given back when another process waits',
      'a retained lease is given back when another process tries',
      'passes inside a process are bounded in time while another waits',
    ],
    methods: (inner) => ({
      open: withoutEvents(inner, 'wanted'),
      renew: async (claims) => (await inner.renew(claims)).map(notWanted),
    }),
  },
  {
    name: 'tells a holder once that others wait, and not again',
    caughtBy: ['a retained lease is given back at its renewal when events are missed'],
    methods: (inner) => ({ renew: async (claims) => (await inner.renew(claims)).map(notWanted) }),
  },
  {
    name: 'hands over without a word, and looks again too late',
    caughtBy: [
      'callers of several processes are served in the order of arrival',
      'a waiting writer is served before later readers',
    ],
    methods: (inner) => ({ open: withoutEvents(inner, 'granted') }),
  },
  {
    name: 'makes readers exclude each other',
    caughtBy: [
      'readers share, within and across processes',
      'permits are counted, and a freed one goes on',
    ],
    methods: (inner) => changedClaims(inner, (claim) => ({ ...claim, units: claim.capacity })),
  },
  {
    name: 'lets readers in beside a writer',
    caughtBy: [
      'a writer and a mutex exclude everybody',
      'readers and writers of several processes exclude each other',
    ],
    methods: (inner) =>
      changedClaims(inner, (claim) =>
        claim.units === 1 ? { ...claim, key: `${claim.key}:readers` } : claim,
      ),
  },
  {
    name: 'gives out one permit too many',
    caughtBy: ['permits are counted, and a freed one goes on', 'permits are never exceeded'],
    methods: (inner) =>
      changedClaims(inner, (claim) =>
        claim.capacity === SHARED_CAPACITY ? claim : { ...claim, capacity: claim.capacity + 1 },
      ),
  },
  {
    name: 'takes any limit for any key',
    caughtBy: ['two limits on one key are refused', 'permits are counted, and a freed one goes on'],
    methods: (inner) => changedClaims(inner, (claim) => ({ ...claim, capacity: SHARED_CAPACITY })),
  },
  {
    name: 'folds upper and lower case',
    caughtBy: ['every kind of character makes a key of its own'],
    methods: (inner) =>
      changedClaims(inner, (claim) => ({ ...claim, key: claim.key.toLowerCase() })),
  },
  {
    name: 'folds composed and decomposed characters',
    caughtBy: ['every kind of character makes a key of its own'],
    methods: (inner) => changedClaims(inner, (claim) => ({ ...claim, key: claim.key.normalize() })),
  },
  {
    name: 'cuts long keys',
    caughtBy: ['every kind of character makes a key of its own'],
    methods: (inner) =>
      changedClaims(inner, (claim) => ({ ...claim, key: claim.key.slice(0, 511) })),
  },
];

const firstEpochs = new WeakMap<MemorySpace, { epoch: bigint | null }>();

/**
 * States and outboxes that are wrong in one way each, made of those in memory. The suites have to catch every one of them,
 * or they prove nothing.
 */
import { memory, memoryOutbox, memoryState } from 'leasehold/memory';
import {
  defineEngineFixture,
  type Engine,
  type EngineFixture,
  type EngineWorld,
} from 'leasehold/testing';
import type {
  CommitMessage,
  Delivery,
  Elision,
  Outbox,
  StateStore,
} from '../../dist/src/consumer/contracts.js';

export interface BrokenEngine<Kind extends Engine> {
  /** What is wrong with it. */
  readonly name: string;
  /** Cases that must fail on it: the most telling ones, not all. */
  readonly caughtBy: readonly string[];
  readonly methods: (inner: Kind) => Partial<Kind>;
}

const HOOK = { notApplicable: 'only what one process sees is broken' } as const;

function fixtureOf<Kind extends Engine>(
  name: string,
  make: (windowMs: number) => Kind,
  elision: EngineFixture<Kind>['hooks']['elision'] = HOOK,
): EngineFixture<Kind> {
  return defineEngineFixture<Kind, EngineWorld<Kind>>({
    name,
    async makeWorld({ windowMs }) {
      const engine = make(windowMs);
      return { engine: () => engine, close: async () => {} };
    },
    hooks: { restart: HOOK, processes: HOOK, elision },
  });
}

export function brokenState({ name, methods }: BrokenEngine<StateStore>) {
  const make = (windowMs: number): StateStore => {
    const inner = memoryState({ windowMs });
    return {
      name,
      windowMs,
      open: () => inner.open(),
      load: (key, lease, messages) => inner.load(key, lease, messages),
      peek: (key) => inner.peek(key),
      commit: (commit) => inner.commit(commit),
      markDead: (key, messages) => inner.markDead(key, messages),
      elision: (leases) => inner.elision?.(leases) ?? null,
      close: () => inner.close(),
      ...methods(inner),
    };
  };
  return fixtureOf<StateStore>(name, make, (world) => ({
    state: world.engine(),
    leases: memory(),
  }));
}

export function brokenOutbox({ name, methods }: BrokenEngine<Outbox>) {
  return fixtureOf<Outbox>(name, () => {
    const inner = memoryOutbox();
    return {
      name,
      open: () => inner.open(),
      put: (envelopes, delayMs) => inner.put(envelopes, delayMs),
      claim: (most, leaseMs) => inner.claim(most, leaseMs),
      putBack: (deliveries, envelopes, delayMs) => inner.putBack(deliveries, envelopes, delayMs),
      acknowledge: (deliveries) => inner.acknowledge(deliveries),
      release: (deliveries) => inner.release(deliveries),
      depth: () => inner.depth(),
      close: () => inner.close(),
      ...methods(inner),
    };
  });
}

/** Changes the messages of every call. */
function changedMessages(
  inner: StateStore,
  change: (message: CommitMessage) => CommitMessage,
): Partial<StateStore> {
  return {
    load: (key, lease, messages) => inner.load(key, lease, messages.map(change)),
    commit: (commit) => inner.commit({ ...commit, messages: commit.messages.map(change) }),
    markDead: (key, messages) => inner.markDead(key, messages.map(change)),
  };
}

/** Changes what is done without the lock. */
function changedElision(
  inner: StateStore,
  change: (real: Elision) => Partial<Elision>,
): Partial<StateStore> {
  return {
    elision(leases) {
      const real = inner.elision?.(leases);
      if (!real) return null;
      return {
        look: (key, lockName, messages) => real.look(key, lockName, messages),
        commit: (commit) => real.commit(commit),
        ...change(real),
      };
    },
  };
}

const NO_LOCK = 'a lock that nobody takes';
const LOWEST = { tokenText: '0'.repeat(20) };
/** Long before the short window of the suite is over. */
const FORGETS_AFTER_MS = 500;
let ids = 0;

export const brokenStates: readonly BrokenEngine<StateStore>[] = [
  {
    name: 'raises no fence when it is read',
    caughtBy: ['a stale token can neither read nor write, since reading raises the fence'],
    methods: (inner) => ({ load: (key, _, messages) => inner.load(key, LOWEST, messages) }),
  },
  {
    name: 'raises no fence when it refuses a commit',
    caughtBy: ['a commit that is refused raises the fence as well'],
    methods: (inner) => ({ commit: (commit) => inner.commit({ ...commit, lease: LOWEST }) }),
  },
  {
    name: 'looks at the fence before it knows a commit again',
    caughtBy: ['a commit that is made again is done, whoever has read since'],
    methods: (inner) => ({
      async commit(commit) {
        const loaded = await inner.load(commit.key, commit.lease, []);
        return loaded.is === 'stale' ? loaded : inner.commit(commit);
      },
    }),
  },
  {
    name: 'writes what is left of a commit with a known id',
    caughtBy: ['a commit with a known id writes nothing'],
    methods: (inner) => ({
      async commit(commit) {
        const outcome = await inner.commit(commit);
        if (outcome.is !== 'known') return outcome;
        const messages = commit.messages.filter(({ id }) => !outcome.marks.has(id));
        await inner.commit({ ...commit, messages });
        return outcome;
      },
    }),
  },
  {
    name: 'does not know a commit again',
    caughtBy: ['a commit that is made again is done once'],
    methods: (inner) => ({
      commit(commit) {
        ids += 1;
        return inner.commit({ ...commit, id: `${commit.id}:${ids}` });
      },
    }),
  },
  {
    name: 'does not look at the version',
    caughtBy: [
      'a commit on another version writes nothing',
      'of commits on one version one is done',
    ],
    methods: (inner) => ({
      async commit(commit) {
        const outcome = await inner.commit(commit);
        if (outcome.is !== 'moved') return outcome;
        return inner.commit({ ...commit, expectedVersion: outcome.version });
      },
    }),
  },
  {
    name: 'forgets ids before their messages are too old',
    caughtBy: ['an id is known until its message is too old'],
    methods: (inner) => {
      const epoch = (): number => Math.floor(Date.now() / FORGETS_AFTER_MS);
      return changedMessages(inner, (message) => ({ ...message, id: `${epoch()}:${message.id}` }));
    },
  },
  {
    name: 'forgets a later copy with the first one',
    caughtBy: [
      'a later copy seen by a load is not applied either',
      'a later copy seen by a commit is not applied either',
      'a later copy that is not dead-lettered is not applied either',
    ],
    methods(inner) {
      const seen = new Map<string, number>();
      // The time of the first copy for every one that is known, and for a new one its own.
      const first = (message: CommitMessage): CommitMessage => ({
        ...message,
        publishedAtMs: seen.get(message.id) ?? message.publishedAtMs,
      });
      return {
        load: (key, lease, messages) => inner.load(key, lease, messages.map(first)),
        markDead: (key, messages) => inner.markDead(key, messages.map(first)),
        async commit(commit) {
          const looked = await inner.load(commit.key, commit.lease, commit.messages.map(first));
          const isKnown = looked.is === 'loaded' && looked.marks.size > 0;
          const messages = isKnown ? commit.messages.map(first) : commit.messages;
          const outcome = await inner.commit({ ...commit, messages });
          if (outcome.is === 'committed') {
            for (const { id, publishedAtMs } of messages) seen.set(id, publishedAtMs);
          }
          // Known, whatever its age says now, until it is forgotten.
          return isKnown && looked.is === 'loaded' && outcome.is === 'too-old'
            ? { is: 'known', marks: looked.marks }
            : outcome;
        },
      };
    },
  },
  {
    name: 'does not look at the age of messages',
    caughtBy: ['a commit with a message out of the window writes nothing'],
    methods: (inner) => ({
      commit(commit) {
        const publishedAtMs = Date.now();
        const messages = commit.messages.map((message) => ({ ...message, publishedAtMs }));
        return inner.commit({ ...commit, messages });
      },
    }),
  },
  {
    name: 'applies what is marked dead',
    caughtBy: ['what is marked dead is not applied'],
    methods: (inner) => changedMessages(inner, (message) => ({ ...message, isReplay: true })),
  },
  {
    name: 'does not clear the mark of a replay',
    caughtBy: ['a replay clears the mark in the commit that applies it'],
    methods: (inner) => changedMessages(inner, (message) => ({ ...message, isReplay: false })),
  },
  {
    name: 'calls dead what was applied',
    caughtBy: ['what is applied is not marked dead'],
    methods: (inner) => ({
      async markDead(key, messages) {
        const marks = await inner.markDead(key, messages);
        return new Map([...marks.keys()].map((id) => [id, 'dead-lettered' as const]));
      },
    }),
  },
  {
    name: 'has one space for all keys',
    caughtBy: ['keys have nothing in common'],
    methods: (inner) => ({
      load: (_, lease, messages) => inner.load('k', lease, messages),
      commit: (commit) => inner.commit({ ...commit, key: 'k' }),
    }),
  },
  {
    name: 'commits without the lock while somebody has it',
    caughtBy: [
      'without its lock a state is not committed while somebody has it',
      'without its lock a state is not committed while somebody shares it',
    ],
    methods: (inner) =>
      changedElision(inner, (real) => ({
        commit: (one) => real.commit({ ...one, lockName: NO_LOCK }),
      })),
  },
  {
    name: 'looks at a state while somebody has its lock',
    caughtBy: ['without its lock a state is not committed while somebody has it'],
    methods: (inner) =>
      changedElision(inner, (real) => ({
        look: (key, _, messages) => real.look(key, NO_LOCK, messages),
      })),
  },
  {
    name: 'does not look whether the state has moved',
    caughtBy: [
      'what has moved since it was seen is not committed, but seen anew',
      'of commits without the lock on one sight one is done',
    ],
    methods: (inner) =>
      changedElision(inner, (real) => ({
        async commit(one) {
          const outcome = await real.commit(one);
          if (outcome.is !== 'moved') return outcome;
          const { version, fence } = outcome;
          return real.commit({ ...one, expectedVersion: version, expectedFence: fence });
        },
      })),
  },
  {
    name: 'does not see that a state was read under its lock',
    caughtBy: ['what has moved since it was seen is not committed, but seen anew'],
    methods: (inner) =>
      changedElision(inner, (real) => ({
        async commit(one) {
          const outcome = await real.commit(one);
          if (outcome.is !== 'moved' || outcome.version !== one.expectedVersion) return outcome;
          return real.commit({ ...one, expectedFence: outcome.fence });
        },
      })),
  },
  {
    name: 'lets older leases read what was committed without the lock',
    caughtBy: ['a commit without the lock fences older leases'],
    methods: (inner) => ({
      load: (key, _, messages) => inner.load(key, { tokenText: '9'.repeat(20) }, messages),
    }),
  },
  {
    name: 'does not know a commit without the lock again',
    caughtBy: ['a commit without the lock that is made again is done once'],
    methods: (inner) =>
      changedElision(inner, (real) => ({
        commit(one) {
          ids += 1;
          return real.commit({ ...one, id: `${one.id}:${ids}` });
        },
      })),
  },
  {
    name: 'writes without the lock what is left of a commit with a known id',
    caughtBy: ['a commit without the lock refuses what is known or too old'],
    methods: (inner) =>
      changedElision(inner, (real) => ({
        async commit(one) {
          const outcome = await real.commit(one);
          if (outcome.is !== 'known') return outcome;
          const messages = one.messages.filter(({ id }) => !outcome.marks.has(id));
          await real.commit({ ...one, messages });
          return outcome;
        },
      })),
  },
  {
    name: 'says of any leases that they are beside its states',
    caughtBy: ['a store knows which leases are beside its states'],
    methods: (inner) => ({ elision: () => inner.elision?.(memory()) ?? null }),
  },
];

export const brokenOutboxes: readonly BrokenEngine<Outbox>[] = [
  {
    name: 'does not wait for the delay',
    caughtBy: ['an entry waits for its time'],
    methods: (inner) => ({ put: (envelopes) => inner.put(envelopes, 0) }),
  },
  {
    name: 'never gives back what a dead worker had',
    caughtBy: ['whose lease is over changes nothing any more'],
    methods: (inner) => ({ claim: (most) => inner.claim(most, 1_000_000_000) }),
  },
  {
    name: 'gives an entry to everybody',
    caughtBy: ['a claimed entry is nobody else’s', 'claimers never share an entry'],
    methods: (inner) => ({
      async claim(most, leaseMs) {
        const claimed = await inner.claim(most, leaseMs);
        await inner.release(claimed.deliveries);
        return claimed;
      },
    }),
  },
  {
    name: 'gives more than was asked for',
    caughtBy: ['the longest due comes first, and no more than was asked for'],
    methods: (inner) => ({ claim: (most, leaseMs) => inner.claim(most + 1, leaseMs) }),
  },
  {
    name: 'keeps what was acknowledged',
    caughtBy: ['an acknowledged entry is gone'],
    methods: (inner) => ({ acknowledge: (deliveries) => inner.release(deliveries) }),
  },
  {
    name: 'drops what is released',
    caughtBy: ['a released entry is due at once, for anybody'],
    methods: (inner) => ({ release: (deliveries) => inner.acknowledge(deliveries) }),
  },
  {
    name: 'puts back what is new',
    caughtBy: ['an entry that is put back waits again, and keeps its age'],
    methods: (inner) => ({
      async putBack(deliveries, envelopes, delayMs) {
        await inner.acknowledge(deliveries);
        await inner.put(envelopes, delayMs);
      },
    }),
  },
  {
    name: 'settles what is somebody else’s by now',
    caughtBy: ['whose lease is over changes nothing any more'],
    methods(inner) {
      const latest = new Map<string | null, Delivery>();
      return {
        async claim(most, leaseMs) {
          const claimed = await inner.claim(most, leaseMs);
          for (const delivery of claimed.deliveries) latest.set(delivery.envelope.id, delivery);
          return claimed;
        },
        acknowledge: (deliveries) =>
          inner.acknowledge(deliveries.map((one) => latest.get(one.envelope.id) ?? one)),
      };
    },
  },
  {
    name: 'does not count what is claimed',
    caughtBy: ['depth counts what is due, waiting and claimed'],
    methods(inner) {
      let claimed = 0;
      return {
        async claim(most, leaseMs) {
          const taken = await inner.claim(most, leaseMs);
          claimed += taken.deliveries.length;
          return taken;
        },
        async depth() {
          const depth = await inner.depth();
          return { ...depth, entries: depth.entries - claimed };
        },
      };
    },
  },
];

/**
 * A store that promises little, as engines without queues do: exclusive locks only, no order, and waiters that are told
 * to claim again. The suite must ask no more of a store than its guarantees say.
 */
import type { Claim, ClaimOutcome, LeaseStore, StoreEvent } from 'leasehold';
import { type MemorySpace, memory } from 'leasehold/memory';

const LOOK_AGAIN_MS = 100;

interface Wish {
  readonly key: string;
  readonly store: LeaseStore;
  readonly untilMs: number;
}

/** What the stores of one space share: who listens, and who wants what. */
class Meeting {
  readonly listeners = new Map<LeaseStore, (event: StoreEvent) => void>();
  readonly wishes = new Map<string, Wish>();

  isWanted(key: string, holder: LeaseStore): boolean {
    const nowMs = performance.now();
    return [...this.wishes.values()].some(
      (wish) => wish.key === key && wish.store !== holder && wish.untilMs > nowMs,
    );
  }

  available(key: string, holder: LeaseStore): void {
    for (const [store, listener] of this.listeners) {
      if (store !== holder) queueMicrotask(() => listener({ is: 'available', key }));
    }
  }
}

const meetings = new WeakMap<MemorySpace, Meeting>();

export function modest(space: MemorySpace): LeaseStore {
  const inner = memory(space);
  const meeting = meetings.get(space) ?? new Meeting();
  meetings.set(space, meeting);
  const wish = (claim: Claim, holder: string | null): ClaimOutcome => {
    const untilMs = performance.now() + claim.ttlMs;
    meeting.wishes.set(claim.owner, { key: claim.key, store, untilMs });
    return { is: 'waiting', lookAgainMs: LOOK_AGAIN_MS, ahead: null, holder, epoch: 0n };
  };
  const store: LeaseStore = {
    name: 'modest',
    guarantees: {
      ...inner.guarantees,
      handOver: 'signalled',
      order: 'none',
      capacities: 'exclusive',
    },
    open(on) {
      meeting.listeners.set(store, on);
      return inner.open(on);
    },
    async claim(claim): Promise<ClaimOutcome> {
      if (claim.units !== claim.capacity) {
        return { is: 'refused', reason: 'unsupported', detail: 'exclusive locks only' };
      }
      const outcome = await inner.claim({ ...claim, wait: false });
      if (outcome.is === 'taken' && claim.wait) return wish(claim, outcome.holder);
      if (outcome.is !== 'granted') return outcome;
      meeting.wishes.delete(claim.owner);
      return { ...outcome, wanted: meeting.isWanted(claim.key, store) };
    },
    async renew(claims) {
      const outcomes = await inner.renew(claims);
      return outcomes.map((outcome, index) => {
        const key = claims[index]?.key ?? '';
        return outcome.is === 'held'
          ? { ...outcome, wanted: meeting.isWanted(key, store) }
          : outcome;
      });
    },
    async drop(id, again) {
      meeting.wishes.delete(id.owner);
      const { held } = await inner.drop(id);
      if (held) meeting.available(id.key, store);
      if (!held || !again) return { held, next: null };
      // Without a queue, whoever drops and claims in one step would always win: it stands back while others wait.
      const standsBack = meeting.isWanted(id.key, store);
      return { held, next: standsBack ? wish(again, null) : await store.claim(again) };
    },
    async close() {
      meeting.listeners.delete(store);
      await inner.close();
    },
  };
  return store;
}

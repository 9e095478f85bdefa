/**
 * The lease state of one key, and what a claim, a renewal and a drop do to it.
 *
 * This is the store contract as a machine without I/O. Stores that keep their state as data (memory, embedded, the
 * simulated one) run it inside whatever makes a step atomic there; a store whose engine runs scripts mirrors it.
 *
 * Every step removes what has expired and who fell silent, and ends in one `drain`, which serves the queue from its
 * head while the head fits. Newcomers never pass the queue.
 */
import type {
  Claim,
  ClaimId,
  ClaimOutcome,
  DropOutcome,
  RenewOutcome,
  StoreEvent,
} from './store.ts';

export interface Holder {
  readonly owner: string;
  readonly units: number;
  readonly ttlMs: number;
  /** The process that asked, as the store addresses it. */
  readonly channel: string;
  /** Which grant this is; as a number, microseconds since 2020 stay exact until the year 2305. */
  readonly epoch: number;
  expiresAtMs: number;
}

export interface Waiter {
  readonly owner: string;
  readonly units: number;
  readonly ttlMs: number;
  readonly channel: string;
  seenAtMs: number;
}

export interface KeyState {
  capacity: number;
  readonly holders: Holder[];
  /** In order of arrival. */
  readonly waiters: Waiter[];
}

/** What a step needs from the store around it. */
export interface StepContext {
  /** The store's clock, which alone judges expiry. */
  readonly nowMs: number;
  /** The process that makes this step. */
  readonly channel: string;
  /** A new epoch, higher than all before. */
  mintEpoch(): number;
  /** The highest epoch so far. */
  lastEpoch(): number;
  /** Whether a grant message would reach that process. When in doubt, true: the grant then ends by its ttl. */
  isListening(channel: string): boolean;
  /** Collects what other processes, or this one, must be told once the step is committed. */
  tell(channel: string, event: StoreEvent): void;
}

/** A waiter claims again after this share of its ttl, and is forgotten when it was silent for the whole of it. */
const HEARTBEAT_SHARE = 1 / 3;

export function emptyKeyState(capacity: number): KeyState {
  return { capacity, holders: [], waiters: [] };
}

export function isEmpty(state: KeyState): boolean {
  return state.holders.length === 0 && state.waiters.length === 0;
}

export function claimKey(state: KeyState, claim: Claim, context: StepContext): ClaimOutcome {
  if (claim.units > claim.capacity) {
    const detail = `${claim.units} units are more than a capacity of ${claim.capacity}`;
    return { is: 'refused', reason: 'unsupported', detail };
  }
  const held = liveHolder(state, claim, context);
  if (held) {
    held.expiresAtMs = Math.max(held.expiresAtMs, context.nowMs + held.ttlMs);
    prune(state, claim, context);
    drain(state, claim, context);
    return granted(state, claim, held);
  }
  prune(state, claim, context);
  if (isEmpty(state)) state.capacity = claim.capacity;
  if (state.capacity !== claim.capacity) {
    drain(state, claim, context);
    return refuseCapacity(state, claim);
  }
  const before = context.lastEpoch();
  const waiter = enqueue(state, claim, context);
  drain(state, claim, context);
  const holder = liveHolder(state, claim, context);
  if (holder) return granted(state, claim, holder);

  tellHolders(state, claim.key, before, context);
  const owner = state.holders[0]?.owner ?? null;
  const ahead = state.waiters.indexOf(waiter);
  if (!claim.wait) {
    state.waiters.splice(ahead, 1);
    // It may have stood at the head, from an earlier claim that did wait.
    drain(state, claim, context);
    return { is: 'taken', holder: owner };
  }
  return {
    is: 'waiting',
    lookAgainMs: lookAgainMs(state, waiter, context),
    ahead,
    holder: owner,
    epoch: BigInt(context.lastEpoch()),
  };
}

export function renewKey(state: KeyState, claim: Claim, context: StepContext): RenewOutcome {
  const holder = liveHolder(state, claim, context);
  if (!holder) return { is: 'lost' };
  holder.expiresAtMs = Math.max(holder.expiresAtMs, context.nowMs + holder.ttlMs);
  return { is: 'held', wanted: isWanted(state, holder.channel) };
}

export function dropKey(
  state: KeyState,
  id: ClaimId,
  again: Claim | undefined,
  context: StepContext,
): DropOutcome {
  const held = liveHolder(state, id, context) !== undefined;
  keep(state.holders, (holder) => holder.owner !== id.owner);
  keep(state.waiters, (waiter) => waiter.owner !== id.owner);
  if (held && again) return { held, next: claimKey(state, again, context) };
  prune(state, id, context);
  drain(state, id, context);
  return { held, next: null };
}

/** What a sweep does: removes what has expired and serves the queue, on nobody's behalf. */
export function settleKey(state: KeyState, key: string, context: StepContext): void {
  const nobody = { key, owner: '' };
  prune(state, nobody, context);
  drain(state, nobody, context);
}

/** Removes what has expired and who fell silent; whoever makes this step has just been heard. */
function prune(state: KeyState, self: ClaimId, context: StepContext): void {
  keep(state.holders, (holder) => isLive(holder, context));
  keep(
    state.waiters,
    (waiter) => waiter.owner === self.owner || context.nowMs - waiter.seenAtMs <= waiter.ttlMs,
  );
}

/** Serves the queue from its head while the head fits. */
function drain(state: KeyState, self: ClaimId, context: StepContext): void {
  let next = 0;
  while (next < state.waiters.length) {
    const waiter = state.waiters[next] as Waiter;
    // A waiter that nobody would hear is passed over but keeps its place: it may only be reconnecting.
    if (waiter.owner !== self.owner && !context.isListening(waiter.channel)) {
      next += 1;
      continue;
    }
    if (!fits(state, waiter)) return;
    state.waiters.splice(next, 1);
    const holder = addHolder(state, waiter, context);
    // Whoever makes this step learns of its grant from the answer.
    if (waiter.owner === self.owner) continue;
    context.tell(waiter.channel, {
      is: 'granted',
      key: self.key,
      owner: waiter.owner,
      epoch: BigInt(holder.epoch),
      wanted: isWanted(state, waiter.channel),
    });
  }
}

/** Puts a newcomer at the end of the queue; a waiter that is there already keeps its place. */
function enqueue(state: KeyState, claim: Claim, context: StepContext): Waiter {
  const queued = state.waiters.find((waiter) => waiter.owner === claim.owner);
  if (queued) {
    queued.seenAtMs = context.nowMs;
    return queued;
  }
  const { owner, units, ttlMs } = claim;
  const waiter = { owner, units, ttlMs, channel: context.channel, seenAtMs: context.nowMs };
  state.waiters.push(waiter);
  return waiter;
}

function addHolder(state: KeyState, waiter: Waiter, context: StepContext): Holder {
  const holder: Holder = {
    owner: waiter.owner,
    units: waiter.units,
    ttlMs: waiter.ttlMs,
    channel: waiter.channel,
    epoch: context.mintEpoch(),
    expiresAtMs: context.nowMs + waiter.ttlMs,
  };
  state.holders.push(holder);
  return holder;
}

function granted(state: KeyState, claim: Claim, holder: Holder): ClaimOutcome {
  const wanted = isWanted(state, holder.channel);
  return { is: 'granted', claim, epoch: BigInt(holder.epoch), ttlMs: holder.ttlMs, wanted };
}

function refuseCapacity(state: KeyState, claim: Claim): ClaimOutcome {
  const detail = `it is in use with a capacity of ${state.capacity}, not ${claim.capacity}; use one limit, and one kind of lock, for one key`;
  return { is: 'refused', reason: 'capacity-differs', detail };
}

/** Tells each other process once that its key is wanted. Who was granted in this very step learns it with the grant. */
function tellHolders(state: KeyState, key: string, before: number, context: StepContext): void {
  const channels = new Set<string>();
  for (const { channel, epoch } of state.holders) if (epoch <= before) channels.add(channel);
  channels.delete(context.channel);
  for (const channel of channels) context.tell(channel, { is: 'wanted', key });
}

/** Only the first waiter that listens looks at the moment of expiry, so that one asks and not all of them. */
function lookAgainMs(state: KeyState, waiter: Waiter, context: StepContext): number {
  const heartbeatMs = waiter.ttlMs * HEARTBEAT_SHARE;
  const first = state.waiters.find(
    (other) => other === waiter || context.isListening(other.channel),
  );
  if (first !== waiter) return heartbeatMs;
  const expiresAtMs = Math.min(...state.holders.map((holder) => holder.expiresAtMs));
  return Math.max(1, Math.min(heartbeatMs, expiresAtMs - context.nowMs + 1));
}

function fits(state: KeyState, waiter: Waiter): boolean {
  const used = state.holders.reduce((sum, holder) => sum + holder.units, 0);
  return used + waiter.units <= state.capacity;
}

/** Whether a process other than the holder's waits. */
function isWanted(state: KeyState, channel: string): boolean {
  return state.waiters.some((waiter) => waiter.channel !== channel);
}

function liveHolder(state: KeyState, id: ClaimId, context: StepContext): Holder | undefined {
  return state.holders.find((holder) => holder.owner === id.owner && isLive(holder, context));
}

function isLive(holder: Holder, context: StepContext): boolean {
  return holder.expiresAtMs > context.nowMs;
}

function keep<T>(items: T[], wanted: (item: T) => boolean): void {
  if (items.every(wanted)) return;
  const kept = items.filter(wanted);
  items.length = 0;
  items.push(...kept);
}

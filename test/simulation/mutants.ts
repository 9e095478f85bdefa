/**
 * Defects that the simulation must find: each one is put into a copy of the built core, where `find` must stand exactly
 * once, so that this list cannot fall behind the code.
 */
export interface Mutant {
  readonly name: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** Few schedules find it: the first of them is at or after this seed. */
  readonly from?: number;
}

const TENANCY = 'core/tenancy.js';
const COHORT = 'core/cohort.js';
const RENEWAL = 'core/renewal.js';
const MANAGER = 'core/manager.js';
const RUNTIME = 'core/runtime.js';
const LEASE = 'core/lease.js';
const CLOCK = 'core/clock.js';
const KEY_STATE = 'core/key-state.js';

export const MUTANTS: readonly Mutant[] = [
  // --- Until when a lease is believed ---
  {
    name: 'a claim counts from its reply',
    file: TENANCY,
    find: 'this.#answered(await claimed, sinceSent)',
    replace: 'this.#answered(await claimed, stopwatch(this.runtime.clock))',
  },
  {
    name: 'a renewal counts from its reply',
    file: RENEWAL,
    find: 'tenancy.onRenewed(outcomes[index], sinceSent)',
    replace: 'tenancy.onRenewed(outcomes[index], stopwatch(clock))',
  },
  {
    name: 'a grant message counts from its arrival',
    file: TENANCY,
    find: 'this.#hold(epoch, this.claim.ttlMs, wanted, this.#sinceAnswered)',
    replace: 'this.#hold(epoch, this.claim.ttlMs, wanted, stopwatch(this.runtime.clock))',
  },
  {
    name: 'a grant message counts from a claim that was not answered',
    file: TENANCY,
    find: 'this.#sinceAnswered ??= sinceSent;',
    replace: 'this.#sinceAnswered = sinceSent;',
  },
  {
    name: 'an unknown renewal is taken for a held one',
    file: RENEWAL,
    find: 'let outcomes = [];',
    replace: "let outcomes = batch.map(() => ({ is: 'held', wanted: false }));",
  },
  {
    name: 'the allowance for drift is left out',
    file: CLOCK,
    find: 'return ttlMs - ttlMs * DRIFT_SHARE - DRIFT_FLOOR_MS;',
    replace: 'return ttlMs;',
  },
  {
    name: 'only the monotonic clock is asked',
    file: CLOCK,
    find: 'Math.max(clock.monotonicMs() - monotonicMs, clock.wallMs() - wallMs)',
    replace: 'clock.monotonicMs() - monotonicMs',
    from: 500,
  },
  {
    name: 'a lease is passed on without a look at its deadline',
    file: TENANCY,
    find: 'this.#grants >= GRANTS_PER_EPOCH || this.isInJeopardy()',
    replace: 'this.#grants >= GRANTS_PER_EPOCH',
    from: 2_350,
  },
  {
    name: 'no timer looks at the deadline',
    file: RENEWAL,
    find: 'tenancy.checkDeadline();',
    replace: '',
  },
  {
    name: 'the signal of a lost lease does not abort',
    file: LEASE,
    find: 'this.#controller?.abort(',
    replace: 'void (',
  },
  {
    name: 'a loss is not told to the holders',
    file: TENANCY,
    find: 'for (const lease of users)',
    replace: 'for (const lease of [])',
  },
  {
    name: 'nothing is renewed',
    file: RENEWAL,
    find: 'void send(due);',
    replace: ';',
  },
  // --- Which messages are believed ---
  {
    name: 'a grant message of an old epoch is believed',
    file: TENANCY,
    find: '(this.waiting && epoch <= this.waiting.epoch)',
    replace: 'false',
    from: 600,
  },
  {
    name: 'a grant message of another owner is believed',
    file: COHORT,
    find: '!owned || claim.owner === owned',
    replace: 'true',
  },
  {
    name: 'a grant that nobody knows is not dropped',
    file: MANAGER,
    find: "event.is === 'granted'",
    replace: 'false',
  },
  {
    name: 'a reset is ignored',
    file: MANAGER,
    find: "event.is === 'reset'",
    replace: 'false',
    from: 800,
  },
  {
    name: 'the signal that a key is free is ignored',
    file: COHORT,
    find: "event.is === 'available'",
    replace: "event.is === 'nothing'",
  },
  {
    name: 'the wish of another process is ignored',
    file: COHORT,
    find: 'tenancy.onWanted();',
    replace: ';',
  },
  {
    name: 'an early wanted message is forgotten',
    file: TENANCY,
    find: 'this.#isWanted ||= wanted;',
    replace: 'this.#isWanted = wanted;',
  },
  // --- Owners, tokens and order ---
  {
    name: 'an owner value is used again',
    file: RUNTIME,
    find: 'owners += 1;',
    replace: 'owners = 1;',
  },
  {
    name: 'the token is not increased on a local pass',
    file: TENANCY,
    find: 'new LocalLease(this, this.#grants, ',
    replace: 'new LocalLease(this, 0, ',
  },
  {
    name: 'two holders at once inside a process',
    file: TENANCY,
    find: 'this.users.length > 0 && !isShared',
    replace: 'false',
  },
  {
    name: 'the last caller is served first',
    file: COHORT,
    find: 'this.#queue.push(request);',
    replace: 'this.#queue.unshift(request);',
  },
  {
    name: 'passes are not counted',
    file: TENANCY,
    find: 'this.#grants <= maxPasses && ',
    replace: '',
  },
  {
    name: 'the time of passes is not bounded',
    file: TENANCY,
    find: ' && clock.monotonicMs() - this.#grantedAtMs < maxPassMs',
    replace: '',
  },
  // --- Retries, withdrawals, retention ---
  {
    name: 'a claim that was not answered is not made again',
    file: TENANCY,
    find: 'return this.runtime.retryMs(failures, this.claim.ttlMs);',
    replace: 'return 1e8;',
  },
  {
    name: 'a waiter never looks again',
    file: TENANCY,
    find: 'return Math.max(1, Math.min(outcome.lookAgainMs, this.ttlMs * RENEW_SHARE));',
    replace: 'return 1e8;',
  },
  {
    name: 'a drop that was not answered is not made again',
    file: RUNTIME,
    find: 'const MAX_DROP_ATTEMPTS = 10;',
    replace: 'const MAX_DROP_ATTEMPTS = 1;',
  },
  {
    name: 'a claim that nobody needs any more is not dropped',
    file: COHORT,
    find: 'else {\n                    tenancy.drop();',
    replace:
      "else {\n                    tenancy.phase = 'ended';\n                    this.forget(tenancy);",
  },
  {
    name: 'the late answer to a withdrawn claim is not dropped',
    file: TENANCY,
    find: '// Whatever this attempt did came after the drop, or may have.\n            this.drop();',
    replace: '',
  },
  {
    name: 'a retained lease is kept although it is wanted',
    file: TENANCY,
    find: '!this.#retainMs || this.#isWanted || ',
    replace: '!this.#retainMs || ',
  },
  {
    name: 'a retained lease is kept for ever',
    file: TENANCY,
    find: 'this.#retainMs = 0;',
    replace: '',
  },
  {
    name: 'a store that is being opened is not closed',
    file: RUNTIME,
    find: " && operation !== 'close'",
    replace: '',
  },
  {
    name: 'close does not wait for a drop that is under way',
    file: MANAGER,
    find: 'this.#runtime.calls === 0',
    replace: 'true',
  },
  {
    name: 'a line that is over keeps its timer',
    file: COHORT,
    find: 'this.#alarm?.stop();',
    replace: '',
  },
  {
    name: 'only the first of a line gives up in time',
    file: COHORT,
    find: 'this.#alarm?.within(leftMs);',
    replace: 'continue;',
  },
  // --- The lease state of a key, which every store that holds data runs ---
  {
    name: 'leases never expire',
    file: KEY_STATE,
    find: 'return holder.expiresAtMs > context.nowMs;',
    replace: 'return true;',
  },
  {
    name: 'more is given than there is',
    file: KEY_STATE,
    find: 'return used + waiter.units <= state.capacity;',
    replace: 'return true;',
  },
  {
    name: 'newcomers pass the queue',
    file: KEY_STATE,
    find: 'state.waiters.push(waiter);',
    replace: 'state.waiters.unshift(waiter);',
  },
  {
    name: 'waiters that fell silent are kept',
    file: KEY_STATE,
    find: 'context.nowMs - waiter.seenAtMs <= waiter.ttlMs',
    replace: 'true',
  },
  {
    name: 'a claim shortens its expiry',
    file: KEY_STATE,
    find: 'held.expiresAtMs = Math.max(held.expiresAtMs, context.nowMs + held.ttlMs);',
    replace: 'held.expiresAtMs = context.nowMs + held.ttlMs;',
    from: 250,
  },
  {
    name: 'a renewal shortens its expiry',
    file: KEY_STATE,
    find: 'holder.expiresAtMs = Math.max(holder.expiresAtMs, context.nowMs + holder.ttlMs);',
    replace: 'holder.expiresAtMs = context.nowMs + holder.ttlMs;',
  },
  {
    name: 'a stale owner can drop the lease of another',
    file: KEY_STATE,
    find: 'holder.owner !== id.owner',
    replace: 'false',
  },
  {
    name: 'the holder is not told that it is wanted',
    file: KEY_STATE,
    find: "context.tell(channel, { is: 'wanted', key });",
    replace: ';',
  },
  {
    name: 'nobody is told of a grant',
    file: KEY_STATE,
    find: 'if (waiter.owner === self.owner)',
    replace: 'if (true)',
  },
  {
    name: 'a waiting answer carries no epoch',
    file: KEY_STATE,
    find: 'epoch: BigInt(context.lastEpoch()),',
    replace: 'epoch: 0n,',
    from: 600,
  },
];

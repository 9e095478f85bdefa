/**
 * The judge of a schedule. It looks before every moment, when everything that the last one set off has settled, and it
 * knows only what a caller of the public face can see, what the witnesses saw go by, and the virtual time.
 *
 * Each check is a promise of the package: leases exclude, by the clocks of those who believe in them; none is believed
 * for longer than the store vouched for it; a lost lease aborts its signal in time; tokens of conflicting leases grow;
 * callers are served in their order, in time, and a free key does not stay free while somebody waits for it.
 */

import { AcquireTimeoutError, LeaseholdError } from '../../core/errors.ts';
import type { Lease } from '../../core/lease.ts';
import type { Operation } from './plan.ts';
import type { SimulatedProcess } from './process.ts';
import type { Timeline } from './timeline.ts';
import type { Tenure, Witness } from './witness.ts';

/** One process, and what is promised to it. */
export interface Party {
  readonly process: SimulatedProcess;
  readonly witness: Witness;
  readonly maxPasses: number;
  readonly maxPassMs: number;
  /** Its store answers nothing any more. */
  isHung: boolean;
  isClosed: boolean;
}

/** One call of `acquire` that has not settled. */
export interface Attempt {
  readonly party: Party;
  readonly operation: Operation;
  readonly number: number;
  readonly startedMs: number;
  readonly monotonicMs: number;
  readonly wallMs: number;
}

/** A lease in a caller's hands. */
export interface Use {
  readonly party: Party;
  readonly operation: Operation;
  readonly lease: Lease;
  readonly tenure: Tenure;
  aborted: boolean;
}

export interface Bounds {
  /** Nothing fails: no lease is lost by itself. */
  readonly isCalm: boolean;
  /** Data and order can be lost at the server: only the fence is judged. */
  readonly isLossy: boolean;
  /** From here on, in virtual time, nothing fails. */
  readonly healMs: number;
  /** How long a key may be free while somebody waits. */
  readonly idleMs: number;
  /** How late timers, and so deadlines of callers, can be. */
  readonly slackMs: number;
}

const GRANTS_PER_EPOCH = 4096n;
/** Sums of fractions are not exact. */
const ROUNDING_MS = 1e-3;

export class Checks {
  readonly violations: string[] = [];
  readonly #timeline: Timeline;
  readonly #bounds: Bounds;
  readonly #parties: Party[] = [];
  readonly #attempts = new Set<Attempt>();
  readonly #uses = new Set<Use>();
  readonly #served: Attempt[] = [];
  /** Per key: the highest token of any lease, and of any exclusive one. */
  readonly #highest = new Map<string, { any: bigint; exclusive: bigint }>();
  readonly #tokens = new Map<string, Set<bigint>>();
  /** Since when a key is free although somebody waits for it. */
  readonly #idleSince = new Map<string, number>();
  readonly #counts = new Map<string, number>();
  #number = 0;

  constructor(timeline: Timeline, bounds: Bounds) {
    this.#timeline = timeline;
    this.#bounds = bounds;
  }

  /** How often what happened. */
  get counts(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#counts);
  }

  get waiting(): readonly Attempt[] {
    return [...this.#attempts];
  }

  count(what: string): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1);
  }

  fail(what: string): void {
    this.violations.push(`at ${this.#timeline.nowMs.toFixed(3)} ms: ${what}`);
  }

  join(party: Party): void {
    this.#parties.push(party);
  }

  starts(party: Party, operation: Operation): Attempt {
    this.#number += 1;
    const { clock } = party.process;
    const attempt = {
      party,
      operation,
      number: this.#number,
      startedMs: this.#timeline.nowMs,
      monotonicMs: clock.monotonicMs(),
      wallMs: clock.wallMs(),
    };
    this.#attempts.add(attempt);
    return attempt;
  }

  gaveUp(attempt: Attempt, error: unknown): void {
    this.#attempts.delete(attempt);
    this.count(`refused with ${error instanceof LeaseholdError ? error.code : String(error)}`);
    if (!(error instanceof AcquireTimeoutError) || attempt.operation.form === 'try') return;
    const { waitMs } = attempt.operation;
    const spentMs = this.#spentMs(attempt);
    // A timer of Node.js may be early by almost two milliseconds.
    if (spentMs < waitMs - 2) this.fail(`gave up after ${spentMs} of ${waitMs} ms: ${error}`);
  }

  granted(attempt: Attempt, leases: readonly Lease[]): Use[] {
    this.#attempts.delete(attempt);
    if (leases.length > 0) this.#served.push(attempt);
    return leases.map((lease) => this.#grant(attempt, lease));
  }

  ended(use: Use): void {
    this.#uses.delete(use);
    const { lease, party } = use;
    if (lease.state !== 'lost') return;
    this.count('leases lost');
    const isAllowed = party.isClosed || use.operation.maxHoldMs > 0;
    if (this.#bounds.isCalm && !isAllowed) this.fail(`${lease.key} was lost, and nothing failed`);
  }

  /** What a process did before it died is over. */
  died(party: Party): void {
    for (const use of this.#uses) if (use.party === party) this.#uses.delete(use);
    for (const attempt of this.#attempts) {
      if (attempt.party === party) this.#attempts.delete(attempt);
    }
  }

  /** Before each moment: the time has come, and nothing of this moment has happened yet. */
  look(): void {
    this.#checkOrder();
    for (const attempt of this.#attempts) this.#checkAttempt(attempt);
    const believed: Use[] = [];
    for (const use of this.#uses) {
      if (this.#checkUse(use)) believed.push(use);
    }
    for (const party of this.#parties) this.#checkGivenBack(party);
    if (believed.length > 1 && !this.#bounds.isLossy) this.#checkExclusion(believed);
    this.#checkIdle();
  }

  #grant(attempt: Attempt, lease: Lease): Use {
    const { party, operation } = attempt;
    const { key, token } = lease;
    this.count('leases');
    if (token % GRANTS_PER_EPOCH > 0n) this.count('leases passed on');
    const epoch = token / GRANTS_PER_EPOCH;
    let tenure = party.witness.tenure(key, epoch);
    if (!tenure) {
      this.fail(`${party.process.name} has ${key} with token ${token}, which nobody granted`);
      tenure = unknownTenure(key, epoch);
    }
    this.#checkToken(operation, key, token);
    // A set is handed out later than its first leases were passed on.
    const isPass = token % GRANTS_PER_EPOCH > 0n && operation.keys.length === 1;
    if (isPass) this.#checkPass(party, tenure);
    tenure.isUsed = true;
    if (lease.remainingMs() === 0) this.fail(`${party.process.name} got ${key} when it was over`);
    const use = { party, operation, lease, tenure, aborted: false };
    this.#uses.add(use);
    return use;
  }

  #checkToken(operation: Operation, key: string, token: bigint): void {
    const seen = this.#tokens.get(key) ?? new Set();
    this.#tokens.set(key, seen);
    // After a loss of data a counter may start anew; its grants are told apart by the clock.
    if (seen.has(token)) this.fail(`token ${token} of ${key} was given twice`);
    seen.add(token);
    if (operation.mode === 'permit' && operation.limit !== 1) return;
    const highest = this.#highest.get(key) ?? { any: -1n, exclusive: -1n };
    this.#highest.set(key, highest);
    const isShared = operation.mode === 'shared';
    const last = isShared ? highest.exclusive : highest.any;
    if (token <= last && !this.#bounds.isLossy) {
      this.fail(`token ${token} of ${key} came after ${last}`);
    }
    if (token > highest.any) highest.any = token;
    if (!isShared && token > highest.exclusive) highest.exclusive = token;
  }

  /** How far a lease may be passed on inside a process while another one is known to wait. */
  #checkPass(party: Party, tenure: Tenure): void {
    const nowMs = party.process.clock.monotonicMs();
    if (tenure.wantedSinceMs === null || tenure.wantedSinceMs >= nowMs) return;
    tenure.passesWhileWanted += 1;
    this.count('leases passed on while wanted');
    const who = `${party.process.name} passed ${tenure.key} on`;
    if (tenure.passesWhileWanted > party.maxPasses) {
      this.fail(`${who} ${tenure.passesWhileWanted} times, more than ${party.maxPasses}`);
    }
    const heldMs = nowMs - tenure.grantedMs;
    if (heldMs > party.maxPassMs) this.fail(`${who} after ${heldMs} ms, not ${party.maxPassMs}`);
  }

  /** First come, first served, among the callers of one process. */
  #checkOrder(): void {
    for (const served of this.#served) {
      for (const other of this.#attempts) {
        if (
          other.number < served.number &&
          other.party === served.party &&
          !other.party.process.isDead &&
          isSingle(other, served)
        ) {
          this.fail(
            `${served.party.process.name}: caller ${served.number} of ${served.operation.keys.join()} ` +
              `was served before caller ${other.number}`,
          );
        }
      }
    }
    this.#served.length = 0;
  }

  /** Every call settles, whatever the store does. */
  #checkAttempt(attempt: Attempt): void {
    const { process } = attempt.party;
    if (!this.#isAttentive(process)) return;
    const { keys, form, ttlMs, waitMs } = attempt.operation;
    // One attempt is bounded by the ttl. When the last of several keys is not got, the others are given back.
    const boundMs = (form === 'try' ? ttlMs * keys.length : waitMs) + (keys.length > 1 ? ttlMs : 0);
    const spentMs = process.clock.monotonicMs() - attempt.monotonicMs;
    if (spentMs <= boundMs + this.#bounds.slackMs) return;
    this.#attempts.delete(attempt);
    this.fail(
      `${process.name}: ${form} of ${keys.join()} is open after ${spentMs} ms, not ${boundMs}`,
    );
  }

  /** Whether its holder may still believe in this lease. */
  #checkUse(use: Use): boolean {
    const { lease, tenure, party } = use;
    const isBelieved = lease.remainingMs() > 0;
    const overMs = party.process.clock.monotonicMs() - tenure.trustedUntilMs;
    if (overMs <= ROUNDING_MS) return isBelieved;
    const what = `${lease.key} with token ${lease.token} in ${party.process.name}`;
    if (isBelieved) {
      this.#uses.delete(use);
      this.fail(`${what} is believed ${overMs} ms longer than the store vouched for it`);
    }
    if (use.operation.watchesSignal && !use.aborted && overMs > this.#bounds.slackMs) {
      if (!this.#isAttentive(party.process)) return isBelieved;
      this.#uses.delete(use);
      this.fail(`the signal of ${what} is not aborted ${overMs} ms after its deadline`);
    }
    return isBelieved;
  }

  #checkExclusion(believed: readonly Use[]): void {
    for (const use of believed) {
      const others = believed.filter((other) => other.lease.key === use.lease.key);
      const { mode, limit } = use.operation;
      const isBroken =
        mode === 'permit'
          ? others.length > (limit as number)
          : others.some(
              (other) =>
                other !== use && (mode === 'exclusive' || other.operation.mode === 'exclusive'),
            );
      if (!isBroken) continue;
      const who = others.map((one) => `${one.party.process.name} (${one.lease.token})`);
      this.#uses.delete(use);
      this.fail(`${use.lease.key} is held by ${who.join(' and ')} at once`);
      return;
    }
  }

  /** What nobody uses goes back at once: a grant that came too late, or a lease that another process waits for. */
  #checkGivenBack(party: Party): void {
    const { process, witness } = party;
    if (!process.isRunning) return;
    const [owner] = witness.ungiven;
    if (owner) this.fail(`${process.name} keeps what ${owner} was granted`);
    for (const tenure of witness.wanted()) {
      const { key } = tenure;
      const isUsed = [...this.#uses].some((use) => use.tenure === tenure);
      // Whoever waits for several keys may hold this one already.
      const isTaken = [...this.#attempts].some(
        ({ operation, party: other }) =>
          other === party && operation.keys.length > 1 && operation.keys.includes(key),
      );
      if (isUsed || isTaken) continue;
      this.fail(`${process.name} keeps ${key} unused, and knows that another one waits for it`);
      return;
    }
  }

  /** No lost wake-up: a key that is free goes to somebody who waits for it. */
  #checkIdle(): void {
    const nowMs = this.#timeline.nowMs;
    const wanted = new Set<string>();
    const busy = new Set<string>();
    for (const { operation, party } of this.#attempts) {
      for (const key of operation.keys) {
        // Whoever waits for several keys may hold some of them already.
        if (operation.keys.length > 1) busy.add(key);
        else if (this.#isAttentive(party.process) && !party.isHung) wanted.add(key);
      }
    }
    for (const use of this.#uses) {
      if (use.operation.mode !== 'permit') busy.add(use.lease.key);
      else if (this.#usesOf(use.lease.key) >= (use.operation.limit as number)) {
        busy.add(use.lease.key);
      }
    }
    for (const key of this.#idleSince.keys()) {
      if (!wanted.has(key) || busy.has(key)) this.#idleSince.delete(key);
    }
    for (const key of wanted) {
      if (busy.has(key)) continue;
      const sinceMs = this.#idleSince.get(key) ?? nowMs;
      this.#idleSince.set(key, sinceMs);
      const idleMs = nowMs - Math.max(sinceMs, this.#bounds.healMs);
      if (idleMs <= this.#bounds.idleMs) continue;
      this.#idleSince.delete(key);
      this.fail(`${key} was free for ${idleMs} ms, and nobody who waits for it got it`);
    }
  }

  #usesOf(key: string): number {
    let count = 0;
    for (const use of this.#uses) if (use.lease.key === key) count += 1;
    return count;
  }

  /** Running, and for long enough that what had piled up in a pause is done. */
  #isAttentive(process: SimulatedProcess): boolean {
    return process.isRunning && this.#timeline.nowMs - process.resumedAtMs > this.#bounds.slackMs;
  }

  #spentMs(attempt: Attempt): number {
    const { clock } = attempt.party.process;
    return Math.max(clock.monotonicMs() - attempt.monotonicMs, clock.wallMs() - attempt.wallMs);
  }
}

function isSingle(a: Attempt, b: Attempt): boolean {
  const [first] = a.operation.keys;
  return (
    a.operation.keys.length === 1 && b.operation.keys.length === 1 && b.operation.keys[0] === first
  );
}

function unknownTenure(key: string, epoch: bigint): Tenure {
  return {
    key,
    owner: '',
    epoch,
    grantedMs: 0,
    trustedUntilMs: Number.POSITIVE_INFINITY,
    wantedSinceMs: null,
    passesWhileWanted: 0,
    isUsed: true,
  };
}

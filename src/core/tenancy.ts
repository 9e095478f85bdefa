/**
 * One remote claim, from its first request to its end: claiming, held, ended. Never claimed again after that.
 *
 * The tasks of a process use a held tenancy one after the other (or together, when they share), without I/O. All the
 * rules on which moments a lease counts from, and which answers and messages may still be believed, are in this file.
 */
import { type Stopwatch, stopwatch, type Timer, validityMs } from './clock.ts';
import type { Cohort } from './cohort.ts';
import type { LossReason } from './errors.ts';
import { GRANTS_PER_EPOCH, LocalLease } from './lease.ts';
import { type Spec, sameClaim } from './options.ts';
import type { Runtime } from './runtime.ts';
import {
  type Claim,
  type ClaimOutcome,
  type DropOutcome,
  type RenewOutcome,
  SHARED_CAPACITY,
  type Waiting,
} from './store.ts';

/** A lease is renewed after this share of its ttl. */
const RENEW_SHARE = 1 / 3;
/** Without a renewal after this share of its ttl, a lease is in jeopardy. */
const JEOPARDY_SHARE = 1 / 2;

export class Tenancy {
  readonly claim: Claim;
  readonly spec: Spec;
  readonly runtime: Runtime;
  phase: 'claiming' | 'held' | 'ended' = 'claiming';
  epoch = 0n;
  /** As the claim asks for; once granted, as the store set it. */
  ttlMs: number;
  isRenewing = false;
  /** The last answer that said "wait", for messages to people and for judging grant events. */
  waiting: Waiting | undefined;
  /** Why the last claim was not answered, when it was not. */
  failure: { readonly cause: unknown } | undefined;
  /** Local callers that have a lease under it. */
  users: LocalLease[] = [];
  readonly #cohort: Cohort;
  /** Since before the sending of the first claim; later, of the last claim that was answered. */
  #sinceAnswered: Stopwatch | undefined;
  /** Since before the sending of the request by which the store last confirmed the lease. */
  #sinceConfirmed: Stopwatch = () => Infinity;
  #grantedAtMs = 0;
  #isWanted = false;
  #grants = 0;
  #isKicked = false;
  #endPause: (() => void) | undefined;
  #timer: Timer;
  #retainMs = 0;
  #wasUsed = false;
  #dropped: Promise<void> | undefined;

  constructor(cohort: Cohort, spec: Spec, wait: boolean) {
    this.#cohort = cohort;
    this.runtime = cohort.runtime;
    this.spec = spec;
    this.ttlMs = spec.ttlMs;
    this.claim = {
      key: cohort.key,
      owner: this.runtime.newOwner(),
      units: spec.units,
      capacity: spec.capacity,
      ttlMs: spec.ttlMs,
      wait,
    };
  }

  // --- Claiming ------------------------------------------------------------------------------------------------------

  /** Claims until the key is held. The first attempt may be part of the drop of another tenancy. Never rejects. */
  async claimUntilHeld(swap?: () => Promise<ClaimOutcome | null>): Promise<void> {
    let attempt = swap;
    let failures = 0;
    while (this.phase === 'claiming') {
      const sinceSent = stopwatch(this.runtime.clock);
      this.#sinceAnswered ??= sinceSent;
      this.#isKicked = false;
      let delayMs: number;
      try {
        const claimed = attempt?.() ?? this.runtime.call('claim', this.claim);
        delayMs = this.#answered(await claimed, sinceSent);
        failures = 0;
      } catch (cause) {
        delayMs = this.#notAnswered(cause, failures);
        failures += 1;
      }
      attempt = undefined;
      if (delayMs > 0 && !this.#isKicked) await this.#pause(delayMs);
    }
  }

  /** Claims at once, or right after the attempt that is under way. */
  claimNow(): void {
    if (this.phase !== 'claiming') return;
    this.#isKicked = true;
    this.#stopTimer();
  }

  /** How long to wait until the next attempt, in milliseconds, if it still claims then. */
  #answered(outcome: ClaimOutcome | null, sinceSent: Stopwatch): number {
    this.failure = undefined;
    if (this.phase === 'ended') {
      // Whatever this attempt did came after the drop, or may have.
      this.drop();
    } else if (this.phase === 'held') {
      this.#overtaken(outcome, sinceSent);
    } else if (outcome?.is === 'granted') {
      if (!this.#hold(outcome.epoch, outcome.ttlMs, outcome.wanted, sinceSent)) {
        throw new Error('answered too late');
      }
    } else if (outcome?.is === 'waiting') {
      this.#sinceAnswered = sinceSent;
      this.waiting = outcome;
      return Math.max(1, Math.min(outcome.lookAgainMs, this.ttlMs * RENEW_SHARE));
    } else if (outcome) {
      this.phase = 'ended';
      this.#cohort.failed(this, outcome);
    }
    // Nothing was claimed, since the lease that was to be swapped had ended by itself: claim plainly, now.
    return 0;
  }

  /** A grant event was here before this answer. */
  #overtaken(outcome: ClaimOutcome | null, sinceSent: Stopwatch): void {
    if (outcome?.is === 'granted' && outcome.epoch === this.epoch) {
      this.#confirm(sinceSent);
      if (outcome.wanted) this.onWanted();
    } else if (outcome && 'epoch' in outcome && outcome.epoch >= this.epoch) {
      // An older answer says nothing about now; one at or above the epoch that is held says that it has ended.
      this.lose('taken-away');
    }
  }

  #notAnswered(cause: unknown, failures: number): number {
    const { phase } = this;
    if (phase === 'held') return 0;
    this.failure = { cause };
    if (phase === 'claiming' && this.claim.wait) {
      return this.runtime.retryMs(failures, this.claim.ttlMs);
    }
    // Done or not done: nobody needs it any more.
    this.drop();
    if (phase === 'claiming') this.#cohort.failed(this);
    return 0;
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.#endPause = resolve;
      // Somebody waits for this: the timer holds the process open.
      this.#timer = this.runtime.clock.setTimer(resolve, delayMs, true);
    });
  }

  /** The store handed the key over to this claim. */
  onGrantEvent(epoch: bigint, wanted: boolean): void {
    if (this.phase === 'held') {
      // A second grant of one owner value: the first had expired in between.
      if (epoch > this.epoch) this.lose('taken-away');
      return;
    }
    // An older message: that grant had ended already when the store last said "wait".
    if (!this.#sinceAnswered || (this.waiting && epoch <= this.waiting.epoch)) return;
    // The expiry was set after the last answered claim was sent: counting from there is safe, however late this comes.
    if (!this.#hold(epoch, this.claim.ttlMs, wanted, this.#sinceAnswered)) this.claimNow();
  }

  // --- Held ----------------------------------------------------------------------------------------------------------

  /** False when not even a millisecond of the lease, counted from that sending, is left. */
  #hold(epoch: bigint, ttlMs: number, wanted: boolean, sinceSent: Stopwatch): boolean {
    this.ttlMs = ttlMs;
    this.#sinceConfirmed = sinceSent;
    if (this.remainingMs() === 0) return false;
    this.phase = 'held';
    this.epoch = epoch;
    // A waiter's message may have overtaken the grant.
    this.#isWanted ||= wanted;
    this.#grantedAtMs = this.runtime.clock.monotonicMs();
    this.#stopTimer();
    this.runtime.renewal.add(this);
    this.#cohort.advance();
    return true;
  }

  /** The store confirmed the lease after that sending. Nothing else ever extends it. */
  #confirm(sinceSent: Stopwatch): void {
    if (sinceSent() < this.#sinceConfirmed()) this.#sinceConfirmed = sinceSent;
  }

  /** How long the lease may be trusted, in whole milliseconds. */
  remainingMs(): number {
    if (this.phase === 'ended') return 0;
    return Math.max(0, Math.floor(validityMs(this.ttlMs) - this.#sinceConfirmed()));
  }

  renewInMs(): number {
    return this.ttlMs * RENEW_SHARE - this.#sinceConfirmed();
  }

  isInJeopardy(): boolean {
    return this.#sinceConfirmed() > this.ttlMs * JEOPARDY_SHARE;
  }

  /** Loses the lease when its deadline has passed. */
  checkDeadline(): void {
    if (this.remainingMs() === 0) this.lose('expired');
  }

  onRenewed(outcome: RenewOutcome | undefined, sinceSent: Stopwatch): void {
    this.isRenewing = false;
    if (outcome?.is === 'lost') this.lose('taken-away');
    if (outcome?.is !== 'held') return;
    this.#confirm(sinceSent);
    if (outcome.wanted) this.onWanted();
  }

  /** Another process waits for the key, or did: whoever gave up costs this process one swap too many. */
  onWanted(): void {
    this.#isWanted = true;
    this.#cohort.advance();
  }

  lose(reason: LossReason): void {
    if (this.phase !== 'held') return;
    const users = this.users.splice(0);
    this.drop();
    this.#cohort.advance();
    for (const lease of users) lease.lose(reason);
  }

  // --- Use inside the process ----------------------------------------------------------------------------------------

  /** Whether a local caller can have a lease under this tenancy now. */
  canServe(spec: Spec): boolean {
    if (this.phase !== 'held' || !sameClaim(spec, this.spec)) return false;
    const isShared = spec.capacity === SHARED_CAPACITY && spec.units === 1;
    if (this.users.length > 0 && !isShared) return false;
    if (!this.#grants) return this.remainingMs() > 0;
    // In jeopardy it is not passed on at all, and while another process waits only so far.
    if (this.#grants >= GRANTS_PER_EPOCH || this.isInJeopardy()) return false;
    const { maxPasses, maxPassMs, clock } = this.runtime;
    return (
      !this.#isWanted ||
      (this.#grants <= maxPasses && clock.monotonicMs() - this.#grantedAtMs < maxPassMs)
    );
  }

  /** A lease for a local caller. Only after `canServe`. */
  serve(spec: Spec): LocalLease {
    const lease = new LocalLease(this, this.#grants, spec.maxHoldMs);
    this.#grants += 1;
    // An array that grows by `push` takes room for sixteen more, and nearly every tenancy has one user.
    this.users = this.users.concat(lease);
    this.runtime.leases += 1;
    // The timer of an earlier wish would keep it for too long.
    if (spec.retainMs < this.#retainMs) this.#stopTimer();
    this.#retainMs = spec.retainMs;
    this.#wasUsed = true;
    return lease;
  }

  /** What a release waits for: the answer to a drop, or nothing when the lease is kept or passed on. */
  userLeft(lease: LocalLease): Promise<void> | undefined {
    const index = this.users.indexOf(lease);
    if (index !== -1) this.users.splice(index, 1);
    if (!this.users.length) this.#cohort.advance();
    return this.#dropped;
  }

  /** Keeps an unused lease for a while. False when its last user did not ask for that, or another process wants it. */
  retain(): boolean {
    if (!this.#retainMs || this.#isWanted || !this.#grants) return false;
    if (!this.#timer) {
      this.#wasUsed = false;
      // One timer for many uses: it only looks whether there was one since it was set.
      const look = (): void => {
        this.#timer = undefined;
        if (!this.#wasUsed) this.#retainMs = 0;
        this.#cohort.advance();
      };
      this.#timer = this.runtime.clock.setTimer(look, this.#retainMs, false);
    }
    return true;
  }

  // --- The end -------------------------------------------------------------------------------------------------------

  /**
   * Gives the key back, or leaves the queue for it, and claims it for another tenancy in the same step. After a lost
   * answer, both are made again, each by itself.
   */
  drop(next?: Tenancy): void {
    const remainingMs = this.remainingMs();
    this.phase = 'ended';
    this.#stopTimer();
    this.runtime.renewal.remove(this);
    this.#cohort.forget(this);
    let answer: Promise<DropOutcome> | undefined;
    void next?.claimUntilHeld(async () => {
      answer = this.runtime.call('drop', this.claim, next.claim);
      return (await answer).next;
    });
    const dropped = this.runtime.drop(this.claim, answer);
    this.#dropped = this.runtime.delay(remainingMs, dropped);
  }

  #stopTimer(): void {
    this.runtime.clock.clearTimer(this.#timer);
    this.#timer = undefined;
    this.#endPause?.();
  }
}

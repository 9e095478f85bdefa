/**
 * One remote claim, from its first request to its end: claiming, held, ended. Never claimed again after that.
 *
 * The tasks of a process use a held tenancy one after the other (or together, when they share), without I/O. All the
 * rules on which moments a lease counts from, and which answers and messages may still be believed, are in this file.
 */
import { type Clock, type Instant, now, type Timer, validityMs } from './clock.ts';
import type { LossReason } from './errors.ts';
import { GRANTS_PER_EPOCH, LocalLease } from './lease.ts';
import { type Spec, sameClaim } from './options.ts';
import type { Renewal } from './renewal.ts';
import type { Runtime } from './runtime.ts';
import {
  type Claim,
  type ClaimOutcome,
  type RenewOutcome,
  SHARED_CAPACITY,
  type Waiting,
} from './store.ts';

/** A lease is renewed after this share of its ttl. */
const RENEW_SHARE = 1 / 3;
/** Without a renewal after this share of its ttl, a lease is in jeopardy. */
const JEOPARDY_SHARE = 1 / 2;

/** What a tenancy tells its cohort. Each may lead to any other call on either side. */
export interface TenancyOwner {
  granted(tenancy: Tenancy): void;
  refused(tenancy: Tenancy, outcome: ClaimOutcome & { is: 'refused' | 'taken' }): void;
  /** A claim that does not wait was not answered. */
  unanswered(tenancy: Tenancy, cause: unknown): void;
  /** A lease was given back, or the tenancy is wanted: see whether it goes on. */
  idle(tenancy: Tenancy): void;
  /** It ended against the cohort's will. */
  lost(tenancy: Tenancy): void;
}

export class Tenancy {
  readonly claim: Claim;
  readonly spec: Spec;
  readonly clock: Clock;
  phase: 'claiming' | 'held' | 'ended' = 'claiming';
  epoch = 0n;
  wanted = false;
  /** When the next renewal is due, by the monotonic clock. */
  renewAtMs = 0;
  renewing = false;
  /** The last answer that said "wait", for messages to people and for judging grant events. */
  waiting: Waiting | null = null;
  /** Why the last claim was not answered; `null` when it was. */
  failure: { readonly cause: unknown } | null = null;
  readonly #runtime: Runtime;
  readonly #renewal: Renewal;
  readonly #owner: TenancyOwner;
  readonly #users = new Set<LocalLease>();
  /** Before the sending of the first claim; later, of the last claim that was answered. A grant counts from here. */
  #answeredFrom: Instant | null = null;
  #ttlMs: number;
  /** The lease may be trusted until here, on each of the two clocks. */
  #untilMonotonicMs = 0;
  #untilWallMs = 0;
  #confirmedMs = 0;
  #grantedMs = 0;
  #grants = 0;
  #wantedMs = 0;
  #inFlight = false;
  #claimAgain = false;
  #attempt = 0;
  #lookAgainTimer: Timer = null;
  #retainMs = 0;
  #retainTimer: Timer = null;
  #usedSinceRetained = false;
  /** Settles with the answer to the drop, or when the lease has ended by its ttl. */
  #dropped: Promise<void> | null = null;

  constructor(parts: {
    readonly runtime: Runtime;
    readonly renewal: Renewal;
    readonly owner: TenancyOwner;
    readonly key: string;
    readonly spec: Spec;
    readonly wait: boolean;
  }) {
    const { runtime, spec } = parts;
    this.#runtime = runtime;
    this.#renewal = parts.renewal;
    this.#owner = parts.owner;
    this.clock = runtime.clock;
    this.spec = spec;
    this.#ttlMs = spec.ttlMs;
    this.claim = {
      key: parts.key,
      owner: runtime.newOwner(),
      units: spec.units,
      capacity: spec.capacity,
      ttlMs: spec.ttlMs,
      wait: parts.wait,
    };
  }

  get users(): number {
    return this.#users.size;
  }

  // --- Claiming ------------------------------------------------------------------------------------------------------

  /** Makes one attempt to claim, now, or right after the one that is under way. */
  sendClaim(): void {
    if (this.phase !== 'claiming') return;
    if (this.#inFlight) {
      this.#claimAgain = true;
      return;
    }
    this.#clearLookAgain();
    const sentAt = this.#sending();
    this.#runtime
      .call((store) => store.claim(this.claim))
      .then(
        (outcome) => this.#answered(outcome, sentAt),
        (cause) => this.#notAnswered(cause),
      );
  }

  /** The store handed the key over to this claim. */
  onGrantEvent(epoch: bigint, wanted: boolean): void {
    if (this.phase === 'held') {
      // A second grant of one owner value: the first had expired in between.
      if (epoch > this.epoch) this.lose('taken-away');
      return;
    }
    if (this.phase !== 'claiming' || this.#answeredFrom === null) return;
    // An older message: that grant had ended already when the store last said "wait".
    if (this.waiting !== null && epoch <= this.waiting.epoch) return;
    // The expiry was set after the last answered claim was sent: counting from there is safe, however late this comes.
    if (!this.#hold(epoch, this.claim.ttlMs, wanted, this.#answeredFrom)) this.sendClaim();
  }

  /** Ends a claim that nobody needs any more. */
  withdraw(): void {
    if (this.phase !== 'claiming') return;
    this.#end();
    this.#dropInBackground();
  }

  #sending(): Instant {
    const sentAt = now(this.clock);
    this.#answeredFrom ??= sentAt;
    this.#inFlight = true;
    this.#claimAgain = false;
    this.#runtime.unsettled();
    return sentAt;
  }

  #answered(outcome: ClaimOutcome, sentAt: Instant): void {
    this.#inFlight = false;
    this.failure = null;
    this.#attempt = 0;
    if (this.phase === 'claiming') this.#answeredClaiming(outcome, sentAt);
    else if (this.phase === 'held') this.#answeredHeld(outcome, sentAt);
    else if (outcome.is === 'granted' || outcome.is === 'waiting') this.#dropInBackground();
    this.#runtime.settled();
  }

  #answeredClaiming(outcome: ClaimOutcome, sentAt: Instant): void {
    switch (outcome.is) {
      case 'granted':
        if (!this.#hold(outcome.epoch, outcome.ttlMs, outcome.wanted, sentAt)) {
          this.#retry(new Error('the answer came when the lease had already run out'));
        }
        return;
      case 'waiting':
        this.#answeredFrom = sentAt;
        this.waiting = outcome;
        if (this.#claimAgain) this.sendClaim();
        else
          this.#lookAgainIn(Math.min(Math.max(1, outcome.lookAgainMs), this.#ttlMs * RENEW_SHARE));
        return;
      case 'taken':
      case 'refused':
        this.#end();
        this.#owner.refused(this, outcome);
        return;
      default:
        outcome satisfies never;
    }
  }

  /** A grant event overtook this answer. */
  #answeredHeld(outcome: ClaimOutcome, sentAt: Instant): void {
    if (outcome.is === 'granted' && outcome.epoch === this.epoch) {
      this.wanted ||= outcome.wanted;
      this.#confirm(sentAt);
      return;
    }
    // Older answers say nothing about now. At or above the epoch that is held, they say that it has ended.
    if ((outcome.is === 'granted' || outcome.is === 'waiting') && outcome.epoch >= this.epoch) {
      this.lose('taken-away');
    }
  }

  #notAnswered(cause: unknown): void {
    this.#inFlight = false;
    this.#runtime.failed('claim', cause);
    if (this.phase === 'ended') this.#dropInBackground();
    else this.#retry(cause);
    this.#runtime.settled();
  }

  #retry(cause: unknown): void {
    if (this.phase !== 'claiming') return;
    this.failure = { cause };
    if (!this.claim.wait) {
      this.#owner.unanswered(this, cause);
      return;
    }
    if (this.#claimAgain) {
      this.sendClaim();
      return;
    }
    this.#lookAgainIn(this.#runtime.retryMs(this.#attempt, this.claim.ttlMs));
    this.#attempt += 1;
  }

  #lookAgainIn(delayMs: number): void {
    this.#clearLookAgain();
    // Somebody waits for this: the timer holds the process open.
    this.#lookAgainTimer = this.clock.setTimer(() => this.sendClaim(), delayMs, true);
  }

  #clearLookAgain(): void {
    if (this.#lookAgainTimer === null) return;
    this.clock.clearTimer(this.#lookAgainTimer);
    this.#lookAgainTimer = null;
  }

  // --- Held ----------------------------------------------------------------------------------------------------------

  /** False when the lease, counted from `from`, has run out already. */
  #hold(epoch: bigint, ttlMs: number, wanted: boolean, from: Instant): boolean {
    this.#ttlMs = ttlMs;
    this.#confirm(from);
    if (!this.isValid()) return false;
    this.#clearLookAgain();
    this.phase = 'held';
    this.epoch = epoch;
    this.wanted = wanted;
    this.#grantedMs = this.clock.monotonicMs();
    this.#renewal.add(this);
    this.#owner.granted(this);
    return true;
  }

  /** The store confirmed the lease after this moment. Nothing else ever extends it. */
  #confirm(from: Instant): void {
    const validMs = validityMs(this.#ttlMs);
    if (from.monotonicMs + validMs <= this.#untilMonotonicMs) return;
    this.#confirmedMs = from.monotonicMs;
    this.#untilMonotonicMs = from.monotonicMs + validMs;
    this.#untilWallMs = from.wallMs + validMs;
    this.renewAtMs = from.monotonicMs + this.#ttlMs * RENEW_SHARE;
  }

  isValid(): boolean {
    return this.remainingMs() > 0;
  }

  remainingMs(): number {
    if (this.phase === 'ended') return 0;
    const { clock } = this;
    return Math.max(
      0,
      Math.min(this.#untilMonotonicMs - clock.monotonicMs(), this.#untilWallMs - clock.wallMs()),
    );
  }

  /** The moment on the monotonic clock at which it is lost unless it is renewed before. */
  get deadlineMs(): number {
    return this.#untilMonotonicMs;
  }

  isInJeopardy(): boolean {
    return this.clock.monotonicMs() - this.#confirmedMs > this.#ttlMs * JEOPARDY_SHARE;
  }

  /** Loses the lease when its deadline has passed. */
  checkDeadline(): void {
    if (this.phase === 'held' && !this.isValid()) this.lose('expired');
  }

  onRenewed(outcome: RenewOutcome, sentAt: Instant): void {
    this.renewing = false;
    if (this.phase !== 'held') return;
    switch (outcome.is) {
      case 'held':
        this.#confirm(sentAt);
        // An answer that is older than a waiter's message does not know of that waiter.
        if (outcome.wanted || this.#wantedMs < sentAt.monotonicMs) this.#setWanted(outcome.wanted);
        return;
      case 'lost':
        this.lose('taken-away');
        return;
      case 'unknown':
        this.renewAtMs =
          this.clock.monotonicMs() + this.#runtime.retryMs(0, this.#ttlMs * RENEW_SHARE);
        return;
      default:
        outcome satisfies never;
    }
  }

  /** Another process waits for the key. */
  onWantedEvent(): void {
    if (this.phase !== 'held') return;
    this.#wantedMs = this.clock.monotonicMs();
    this.#setWanted(true);
  }

  #setWanted(wanted: boolean): void {
    this.wanted = wanted;
    if (wanted && this.#users.size === 0) this.#owner.idle(this);
  }

  lose(reason: LossReason): void {
    if (this.phase !== 'held') return;
    const users = [...this.#users];
    this.#users.clear();
    this.#end();
    for (const lease of users) lease.lose(reason);
    this.#dropInBackground();
    this.#owner.lost(this);
    for (const lease of users) lease.abortIfLost();
  }

  // --- Use inside the process ----------------------------------------------------------------------------------------

  /** Whether a local caller can have a lease under this tenancy now. */
  canServe(spec: Spec): boolean {
    if (this.phase !== 'held' || !sameClaim(spec, this.spec)) return false;
    if (this.#users.size > 0 && !(spec.capacity === SHARED_CAPACITY && spec.units === 1))
      return false;
    this.checkDeadline();
    if (this.phase !== 'held') return false;
    return this.#grants === 0 || this.#mayPass();
  }

  /** Passing a lease on is bounded while another process waits, and a lease in jeopardy is not passed on at all. */
  #mayPass(): boolean {
    if (this.#grants >= GRANTS_PER_EPOCH || this.isInJeopardy()) return false;
    if (!this.wanted) return true;
    const { maxPasses, maxPassMs } = this.#runtime.fairness;
    return this.#grants <= maxPasses && this.clock.monotonicMs() - this.#grantedMs < maxPassMs;
  }

  /** A lease for a local caller. Only after `canServe`. */
  serve(spec: Spec): LocalLease {
    const lease = new LocalLease(this, this.#grants, spec.maxHoldMs);
    this.#grants += 1;
    this.#users.add(lease);
    this.#retainMs = spec.retainMs;
    this.#usedSinceRetained = true;
    return lease;
  }

  /** Whether the last lease that was served was passed on without I/O. */
  get wasPassed(): boolean {
    return this.#grants > 1;
  }

  /** What a release waits for: the answer to a drop, or nothing when the lease is kept or passed on. */
  userLeft(lease: LocalLease): Promise<void> | null {
    if (!this.#users.delete(lease) || this.#users.size > 0) return null;
    this.checkDeadline();
    if (this.phase === 'held') this.#owner.idle(this);
    return this.#dropped;
  }

  /** Keeps an unused lease for a while. False when its last user did not ask for that, or another process wants it. */
  retain(): boolean {
    if (this.#retainMs === 0 || this.wanted || this.#grants === 0) return false;
    if (this.#retainTimer === null) {
      this.#usedSinceRetained = false;
      this.#armRetain();
    }
    return true;
  }

  /** One timer for many uses: it only looks whether there was one since it was set. */
  #armRetain(): void {
    const look = (): void => {
      this.#retainTimer = null;
      if (this.#users.size > 0) return;
      if (!this.#usedSinceRetained) this.#retainMs = 0;
      this.#owner.idle(this);
    };
    this.#retainTimer = this.clock.setTimer(look, this.#retainMs, false);
  }

  // --- The end -------------------------------------------------------------------------------------------------------

  /** Gives the key back, and claims it for another tenancy in the same step. */
  drop(next: Tenancy | null): void {
    const remainingMs = this.remainingMs();
    this.#end();
    this.#runtime.unsettled();
    const nextSentAt = next === null ? null : next.#sending();
    const answer = this.#runtime
      .call((store) => store.drop(this.claim, next?.claim))
      .then(
        (outcome) => {
          if (next !== null && nextSentAt !== null) next.#dropAnswered(outcome.next, nextSentAt);
        },
        (cause) => {
          this.#runtime.failed('drop', cause);
          this.#dropInBackground();
          if (next !== null) next.#notAnswered(cause);
        },
      )
      .then(() => this.#runtime.settled());
    this.#dropped = this.#runtime.bounded(answer, remainingMs);
  }

  /** `null`: the old lease had ended by itself, so nothing was claimed. Claim plainly. */
  #dropAnswered(outcome: ClaimOutcome | null, sentAt: Instant): void {
    if (outcome !== null) {
      this.#answered(outcome, sentAt);
      return;
    }
    this.#inFlight = false;
    this.sendClaim();
    this.#runtime.settled();
  }

  #dropInBackground(): void {
    void this.#runtime.dropUntilAnswered(this.claim, this.claim.ttlMs);
  }

  #end(): void {
    this.phase = 'ended';
    this.#renewal.remove(this);
    this.#clearLookAgain();
    if (this.#retainTimer !== null) this.clock.clearTimer(this.#retainTimer);
    this.#retainTimer = null;
  }
}

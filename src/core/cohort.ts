/**
 * All callers of one process that want one key: their line, and the remote claims that they share (lock cohorting,
 * after Dice, Marathe and Shavit, "Lock Cohorting", PPoPP 2012).
 *
 * Everything that happens ends in `advance`, the one place that decides what is next: serve the line, end what nobody
 * can use, claim for whoever still waits.
 */
import { addAbortListener } from 'node:events';
import { type Alarm, newAlarm, type Stopwatch, stopwatch } from './clock.ts';
import * as diagnostics from './diagnostics.ts';
import {
  AcquireTimeoutError,
  ClaimRefusedError,
  ManagerClosedError,
  StoreUnavailableError,
} from './errors.ts';
import type { Lease } from './lease.ts';
import { type Spec, sameClaim } from './options.ts';
import type { Runtime } from './runtime.ts';
import { type ClaimOutcome, SHARED_CAPACITY, type StoreEvent } from './store.ts';
import { Tenancy } from './tenancy.ts';

/** A caller that waits. */
interface Request {
  readonly spec: Spec;
  /** Undefined when nobody wants to know. */
  readonly passedMs: Stopwatch | undefined;
  readonly resolve: (lease: Lease) => void;
  readonly reject: (reason: unknown) => void;
  /** When it gives up, by the monotonic clock. */
  readonly endMs: number;
  /** Listens to its signal. */
  readonly ear: Disposable | undefined;
}

export class Cohort {
  readonly key: string;
  readonly runtime: Runtime;
  /** First come, first served. */
  #queue: Request[] = [];
  /** Claiming or held. A lock has one at the most, a semaphore as many as its limit. */
  #tenancies: Tenancy[] = [];
  /** For whoever in the line gives up next: a timer for each would be a third of what a caller costs. */
  #alarm: Alarm | undefined;
  #isAdvancing = false;
  #advancesAgain = false;

  constructor(runtime: Runtime, key: string) {
    this.runtime = runtime;
    this.key = key;
  }

  get #claiming(): Tenancy[] {
    return this.#tenancies.filter((tenancy) => tenancy.phase === 'claiming');
  }

  /** A lease without I/O, when a tenancy that is held already can serve it and nobody stands before it. */
  serveNow(spec: Spec): Lease | undefined {
    const tenancy = this.#queue.length > 0 ? undefined : this.#serving(spec);
    return tenancy && this.#grant(tenancy, spec, () => 0);
  }

  /** Queues a caller. The promise settles with a lease, or with the reason why there is none. */
  enqueue(spec: Spec, signal: AbortSignal | undefined): Promise<Lease> {
    return new Promise((resolve, reject) => {
      const { clock } = this.runtime;
      const ear = signal && addAbortListener(signal, () => this.#giveUp(request, signal.reason));
      // An answer to a single attempt that comes later than its ttl is worth nothing.
      const boundMs = spec.waitMs || spec.ttlMs;
      const endMs = clock.monotonicMs() + boundMs;
      const passedMs = diagnostics.acquired.hasSubscribers ? stopwatch(clock) : undefined;
      const request: Request = { spec, passedMs, resolve, reject, endMs, ear };
      this.#queue.push(request);
      this.#alarm ??= newAlarm(clock, () => this.#look(), true);
      this.#alarm.within(boundMs);
      this.runtime.waiting += 1;
      this.advance();
      // A single attempt is made now or never: others of this process stand before it.
      const place = this.#queue.indexOf(request);
      if (isOnce(spec) && place >= this.#claiming.length) {
        this.#giveUp(request, this.#busy(spec, this.runtime.identity, place));
      }
    });
  }

  /** Rejects whoever waits, and ends every claim. Leases that are still in use are lost. */
  close(): void {
    for (const request of [...this.#queue]) this.#take(request).reject(new ManagerClosedError());
    for (const tenancy of [...this.#tenancies]) {
      if (tenancy.users.length > 0) tenancy.lose('manager-closed');
      else tenancy.drop();
    }
    this.advance();
  }

  /** The key may be free: whoever waits claims again. */
  claimNow(): void {
    for (const tenancy of this.#tenancies) tenancy.claimNow();
  }

  /** False for an owner that nobody here knows. */
  onEvent(event: Exclude<StoreEvent, { is: 'reset' }>): boolean {
    const owned = 'owner' in event ? event.owner : undefined;
    const tenancies = this.#tenancies.filter(({ claim }) => !owned || claim.owner === owned);
    for (const tenancy of tenancies) {
      if (event.is === 'granted') tenancy.onGrantEvent(event.epoch, event.wanted);
      else if (event.is === 'available') tenancy.claimNow();
      else if (event.is === 'wanted') tenancy.onWanted();
      else tenancy.lose('taken-away');
    }
    return tenancies.length > 0;
  }

  // --- What a tenancy tells ------------------------------------------------------------------------------------------

  forget(tenancy: Tenancy): void {
    const index = this.#tenancies.indexOf(tenancy);
    if (index !== -1) this.#tenancies.splice(index, 1);
  }

  /**
   * A claim came to nothing; without an outcome, it was not answered. Who tries only once is told so, and who is refused;
   * others claim again.
   */
  failed(tenancy: Tenancy, outcome?: Extract<ClaimOutcome, { is: 'refused' | 'taken' }>): void {
    this.forget(tenancy);
    // A single attempt and a claim that waits may stand for the same units, and only one of the two came to nothing.
    const { spec, claim } = tenancy;
    const request = this.#queue.find((other) => standsFor(tenancy, other));
    let reason: unknown;
    if (outcome?.is === 'refused') {
      reason = new ClaimRefusedError(this.key, outcome.reason, outcome.detail);
    } else if (!claim.wait) {
      reason = outcome ? this.#busy(spec, outcome.holder, null) : this.#unavailable(tenancy);
    }
    if (request && reason) this.#giveUp(request, reason);
    else this.advance();
  }

  // --- The one place that decides ------------------------------------------------------------------------------------

  advance(): void {
    this.#advancesAgain = true;
    if (this.#isAdvancing) return;
    this.#isAdvancing = true;
    while (this.#advancesAgain) {
      this.#advancesAgain = false;
      this.#serveQueue();
      this.#endUnused();
      this.#claimForQueue();
    }
    this.#isAdvancing = false;
    const { cohorts } = this.runtime;
    const isEmpty = !(this.#tenancies.length + this.#queue.length);
    if (isEmpty && cohorts.get(this.key) === this) cohorts.delete(this.key);
  }

  #serveQueue(): void {
    for (let head = this.#queue[0]; head; head = this.#queue[0]) {
      const tenancy = this.#serving(head.spec);
      if (!tenancy) return;
      this.#take(head).resolve(this.#grant(tenancy, head.spec, head.passedMs));
    }
  }

  /**
   * What is held but not in use cannot serve the head, or there is no head: it is swapped for a claim that can, kept,
   * or dropped. A claim that fits nobody any more, or stands for nobody, is withdrawn.
   */
  #endUnused(): void {
    let claiming = 0;
    for (const tenancy of [...this.#tenancies]) {
      const request = this.#queue[claiming];
      if (tenancy.phase === 'claiming') {
        if (request && standsFor(tenancy, request)) {
          claiming += 1;
        } else {
          tenancy.drop();
        }
      } else if (!tenancy.users.length && (this.#queue.length > 0 || !tenancy.retain())) {
        tenancy.drop(request && this.#claimFor(request));
        if (request) claiming += 1;
      }
    }
  }

  #claimForQueue(): void {
    const capacity = this.#queue[0]?.spec.capacity;
    if (!capacity) return;
    // Claims of another capacity do not count: the store will refuse, and say why.
    const rivals = this.#tenancies.filter(({ claim }) => claim.capacity === capacity);
    const from = this.#claiming.length;
    // A lock is claimed once, and shared; each permit is a claim of its own.
    const most = capacity === SHARED_CAPACITY ? 1 : capacity;
    const free = most - rivals.length;
    for (const request of this.#queue.slice(from, from + free)) {
      if (request.spec.capacity === capacity) {
        void this.#claimFor(request).claimUntilHeld();
      }
    }
  }

  #claimFor(request: Request): Tenancy {
    const tenancy = new Tenancy(this, request.spec, !isOnce(request.spec));
    this.#tenancies = this.#tenancies.concat(tenancy);
    return tenancy;
  }

  #serving(spec: Spec): Tenancy | undefined {
    return this.#tenancies.find((tenancy) => tenancy.canServe(spec));
  }

  #grant(tenancy: Tenancy, spec: Spec, passedMs: Stopwatch | undefined): Lease {
    const lease = tenancy.serve(spec);
    if (diagnostics.acquired.hasSubscribers) {
      diagnostics.acquired.publish({
        key: lease.key,
        token: lease.token,
        waitedMs: passedMs?.() ?? null,
      });
    }
    return lease;
  }

  // --- Callers that give up ------------------------------------------------------------------------------------------

  /** Takes a caller out of the line, whatever comes of it. */
  #take(request: Request): Request {
    this.#queue.splice(this.#queue.indexOf(request), 1);
    if (!this.#queue.length) {
      // Gives back the room of a line that is over.
      this.#queue = [];
      this.#alarm?.stop();
      this.#alarm = undefined;
    }
    request.ear?.[Symbol.dispose]();
    this.runtime.waiting -= 1;
    return request;
  }

  #giveUp(request: Request, reason: unknown): void {
    this.#take(request).reject(reason);
    this.advance();
  }

  #look(): void {
    for (const request of [...this.#queue]) {
      const leftMs = request.endMs - this.runtime.clock.monotonicMs();
      if (leftMs > 0) this.#alarm?.within(leftMs);
      else this.#timedOut(request);
    }
  }

  #timedOut(request: Request): void {
    const { spec } = request;
    const place = this.#queue.indexOf(request);
    // One that gave up just before may have made way for it.
    if (place < 0) return;
    const [claiming] = this.#claiming;
    const { waiting, failure } = claiming ?? {};
    const ahead = waiting?.ahead === null ? null : (waiting?.ahead ?? 0) + place;
    const isSilent = claiming && (failure || !waiting);
    this.#giveUp(
      request,
      isSilent
        ? this.#unavailable(claiming)
        : this.#busy(spec, waiting ? waiting.holder : this.runtime.identity, ahead),
    );
  }

  #busy(spec: Spec, holder: string | null, ahead: number | null): AcquireTimeoutError {
    // Host and process. The nonce stays here: whoever has the whole owner value can drop the lease.
    const name = holder && (/^(.+?:\d+):/.exec(holder)?.[1] ?? 'a foreign client');
    return new AcquireTimeoutError(this.key, spec.waitMs, name, ahead);
  }

  #unavailable({ failure }: Tenancy): StoreUnavailableError {
    return new StoreUnavailableError(this.runtime.store.name, this.key, failure?.cause);
  }
}

/** Whether a claim may be this caller's: a single attempt and a claim that waits are not the same. */
function standsFor({ spec, claim }: Tenancy, request: Request): boolean {
  return sameClaim(request.spec, spec) && isOnce(request.spec) !== claim.wait;
}

/** One attempt only: it is answered at once and never waits in the store. */
function isOnce(spec: Spec): boolean {
  return !spec.waitMs;
}

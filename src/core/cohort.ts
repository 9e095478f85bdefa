/**
 * All callers of one process that want one key: their line, and the remote claims that they share (lock cohorting,
 * after Dice, Marathe and Shavit, "Lock Cohorting", PPoPP 2012).
 *
 * Everything that happens ends in `#advance`, the one place that decides what is next: serve the line, end what nobody
 * can use, claim for whoever still waits.
 */
import * as diagnostics from './diagnostics.ts';
import {
  AcquireTimeoutError,
  ClaimRefusedError,
  ManagerClosedError,
  StoreUnavailableError,
} from './errors.ts';
import type { Lease } from './lease.ts';
import { type Spec, sameClaim } from './options.ts';
import type { Renewal } from './renewal.ts';
import { Request, RequestQueue } from './request.ts';
import type { Runtime } from './runtime.ts';
import { type ClaimOutcome, SHARED_CAPACITY } from './store.ts';
import { Tenancy, type TenancyOwner } from './tenancy.ts';

export class Cohort implements TenancyOwner {
  readonly key: string;
  readonly #runtime: Runtime;
  readonly #renewal: Renewal;
  readonly #onEmpty: (cohort: Cohort) => void;
  readonly #queue = new RequestQueue();
  /** Claiming or held. A lock has one at the most, a semaphore as many as its limit. */
  readonly #tenancies: Tenancy[] = [];
  #capacity = SHARED_CAPACITY;
  #isAdvancing = false;
  #advanceAgain = false;

  constructor(parts: {
    readonly key: string;
    readonly runtime: Runtime;
    readonly renewal: Renewal;
    readonly onEmpty: (cohort: Cohort) => void;
  }) {
    this.key = parts.key;
    this.#runtime = parts.runtime;
    this.#renewal = parts.renewal;
    this.#onEmpty = parts.onEmpty;
  }

  get waiting(): number {
    return this.#queue.length;
  }

  get leases(): number {
    return this.#tenancies.reduce((sum, tenancy) => sum + tenancy.users, 0);
  }

  /** A lease without I/O, when a tenancy that is held already can serve it and nobody stands before it. */
  serveNow(spec: Spec): Lease | null {
    if (this.#queue.length > 0) return null;
    const tenancy = this.#serving(spec);
    return tenancy === null ? null : this.#grant(tenancy, spec, null);
  }

  /** Queues a caller. The promise settles with a lease, or with the reason why there is none. */
  enqueue(spec: Spec, signal: AbortSignal | undefined): Promise<Lease> {
    return new Promise((resolve, reject) => {
      if (this.#refusesCapacity(spec, reject)) return;
      const once = spec.waitMs === 0;
      const isTimed = diagnostics.acquired.hasSubscribers;
      const sinceMs = isTimed ? this.#runtime.clock.monotonicMs() : null;
      const request = new Request({ spec, once, sinceMs, resolve, reject });
      if (once && this.#isBusyFor(spec)) {
        this.#rejectBusy(request);
        return;
      }
      this.#arm(request, signal);
      this.#queue.push(request);
      this.#advance();
    });
  }

  /** Rejects whoever waits, and ends every claim. Leases that are still in use are lost. */
  close(): void {
    for (let request = this.#queue.head; request !== null; request = this.#queue.head) {
      this.#take(request).reject(new ManagerClosedError());
    }
    this.#advance();
    for (const tenancy of [...this.#tenancies]) {
      if (tenancy.users > 0) tenancy.lose('manager-closed');
      else this.#dropHeld(tenancy, null);
    }
  }

  tenancyOf(owner: string): Tenancy | undefined {
    return this.#tenancies.find((tenancy) => tenancy.claim.owner === owner);
  }

  /** The key may be free: whoever waits claims again. */
  claimAgain(): void {
    for (const tenancy of [...this.#tenancies]) tenancy.sendClaim();
  }

  onWanted(): void {
    for (const tenancy of [...this.#tenancies]) tenancy.onWantedEvent();
  }

  // --- What a tenancy tells ------------------------------------------------------------------------------------------

  granted(): void {
    this.#advance();
  }

  idle(): void {
    this.#advance();
  }

  lost(tenancy: Tenancy): void {
    this.#forget(tenancy);
    this.#advance();
  }

  refused(tenancy: Tenancy, outcome: ClaimOutcome & { is: 'refused' | 'taken' }): void {
    this.#forget(tenancy);
    const request = this.#queue.head;
    if (request !== null && outcome.is === 'refused') {
      this.#take(request).reject(new ClaimRefusedError(this.key, outcome.reason, outcome.detail));
    } else if (request?.once && outcome.is === 'taken') {
      this.#rejectBusy(this.#take(request), nameOf(outcome.holder), null);
    }
    this.#advance();
  }

  unanswered(tenancy: Tenancy, cause: unknown): void {
    tenancy.withdraw();
    this.#forget(tenancy);
    const request = this.#queue.head;
    if (request?.once) this.#take(request).reject(this.#unavailable(cause));
    this.#advance();
  }

  // --- The one place that decides ------------------------------------------------------------------------------------

  #advance(): void {
    if (this.#isAdvancing) {
      this.#advanceAgain = true;
      return;
    }
    this.#isAdvancing = true;
    do {
      this.#advanceAgain = false;
      this.#serveQueue();
      this.#endIdle();
      this.#claimForQueue();
    } while (this.#advanceAgain);
    this.#isAdvancing = false;
    if (this.#tenancies.length === 0 && this.#queue.length === 0) this.#onEmpty(this);
  }

  #serveQueue(): void {
    for (let head = this.#queue.head; head !== null; head = this.#queue.head) {
      const tenancy = this.#serving(head.spec);
      if (tenancy === null) return;
      this.#take(head);
      head.resolve(this.#grant(tenancy, head.spec, head));
    }
  }

  /** What is held but not used cannot serve the head, or there is no head. It is swapped, kept or dropped. */
  #endIdle(): void {
    for (const tenancy of [...this.#tenancies]) {
      if (tenancy.phase !== 'held' || tenancy.users > 0) continue;
      const next = this.#queue.at(this.#claiming());
      if (next !== null) this.#dropHeld(tenancy, this.#newTenancy(next));
      else if (this.#queue.length > 0 || !tenancy.retain()) this.#dropHeld(tenancy, null);
    }
  }

  #claimForQueue(): void {
    // A claim that fits nobody any more, or stands for nobody, is withdrawn.
    let claiming = 0;
    for (const tenancy of [...this.#tenancies]) {
      if (tenancy.phase !== 'claiming') continue;
      const request = this.#queue.at(claiming);
      if (request !== null && sameClaim(request.spec, tenancy.spec)) {
        claiming += 1;
      } else {
        this.#forget(tenancy);
        tenancy.withdraw();
      }
    }
    const most = this.#capacity === SHARED_CAPACITY ? 1 : this.#capacity;
    let request = this.#queue.at(claiming);
    while (request !== null && this.#tenancies.length < most) {
      const tenancy = this.#newTenancy(request);
      this.#tenancies.push(tenancy);
      tenancy.sendClaim();
      request = request.next;
    }
  }

  #claiming(): number {
    return this.#tenancies.filter((tenancy) => tenancy.phase === 'claiming').length;
  }

  #newTenancy(request: Request): Tenancy {
    return new Tenancy({
      runtime: this.#runtime,
      renewal: this.#renewal,
      owner: this,
      key: this.key,
      spec: request.spec,
      wait: !request.once,
    });
  }

  #dropHeld(tenancy: Tenancy, next: Tenancy | null): void {
    this.#forget(tenancy);
    if (next !== null) this.#tenancies.push(next);
    tenancy.drop(next);
  }

  #forget(tenancy: Tenancy): void {
    const index = this.#tenancies.indexOf(tenancy);
    if (index !== -1) this.#tenancies.splice(index, 1);
  }

  #serving(spec: Spec): Tenancy | null {
    // Not an iterator: a tenancy that finds its deadline passed leaves the list.
    for (let index = 0; index < this.#tenancies.length; index += 1) {
      const tenancy = this.#tenancies[index] as Tenancy;
      if (tenancy.canServe(spec)) return tenancy;
    }
    return null;
  }

  #grant(tenancy: Tenancy, spec: Spec, request: Request | null): Lease {
    const lease = tenancy.serve(spec);
    if (diagnostics.acquired.hasSubscribers) {
      const sinceMs = request === null ? this.#runtime.clock.monotonicMs() : request.sinceMs;
      const waitedMs = sinceMs === null ? null : this.#runtime.clock.monotonicMs() - sinceMs;
      const { key, token } = lease;
      diagnostics.acquired.publish({ key, token, waitedMs, local: tenancy.wasPassed });
    }
    return lease;
  }

  // --- Callers that wait, and give up --------------------------------------------------------------------------------

  #arm(request: Request, signal: AbortSignal | undefined): void {
    const { spec, once } = request;
    // A single attempt is bounded by the ttl: an answer that comes later is worth nothing.
    const delayMs = once ? spec.ttlMs : spec.waitMs;
    request.timer = this.#runtime.clock.setTimer(() => this.#timedOut(request), delayMs, true);
    if (signal === undefined) return;
    const onAbort = (): void => {
      this.#take(request).reject(signal.reason);
      this.#advance();
    };
    signal.addEventListener('abort', onAbort, { once: true });
    request.onLeave = () => signal.removeEventListener('abort', onAbort);
  }

  /** Takes a caller out of the line, whatever comes of it. */
  #take(request: Request): Request {
    this.#queue.remove(request);
    this.#runtime.clock.clearTimer(request.timer);
    request.onLeave?.();
    return request;
  }

  #timedOut(request: Request): void {
    const ahead = this.#queue.ahead(request);
    const tenancy = this.#tenancies.find((one) => one.phase === 'claiming');
    this.#take(request);
    if (this.#tenancies.some((one) => one.users > 0)) {
      this.#rejectBusy(request, nameOf(this.#runtime.identity), ahead);
    } else if (!tenancy?.waiting || tenancy.failure) {
      request.reject(this.#unavailable(tenancy?.failure?.cause));
    } else {
      const { waiting } = tenancy;
      const before = waiting.ahead === null ? null : waiting.ahead + ahead;
      this.#rejectBusy(request, nameOf(waiting.holder), before);
    }
    this.#advance();
  }

  #rejectBusy(
    request: Request,
    holder: string | null = nameOf(this.#runtime.identity),
    ahead: number | null = this.#queue.length,
  ): void {
    const { waitMs } = request.spec;
    request.reject(new AcquireTimeoutError({ key: this.key, waitMs, holder, ahead }));
    if (diagnostics.timedOut.hasSubscribers) {
      diagnostics.timedOut.publish({ key: this.key, waitMs });
    }
  }

  #unavailable(cause: unknown): StoreUnavailableError {
    return new StoreUnavailableError(this.#runtime.store.name, `for '${this.key}'`, cause);
  }

  /** Whether a single attempt would find others of this process before it. */
  #isBusyFor(spec: Spec): boolean {
    if (this.#queue.length > 0) return true;
    const used = this.#tenancies.filter((tenancy) => tenancy.users > 0);
    if (spec.capacity !== SHARED_CAPACITY) return used.length >= spec.capacity;
    return used.some((tenancy) => !tenancy.canServe(spec));
  }

  #refusesCapacity(spec: Spec, reject: (reason: unknown) => void): boolean {
    const isUsed = this.#queue.length > 0 || this.#tenancies.length > 0;
    if (isUsed && spec.capacity !== this.#capacity) {
      const detail = `this process uses it with a capacity of ${this.#capacity}, not ${spec.capacity}`;
      reject(new ClaimRefusedError(this.key, 'capacity-differs', detail));
      return true;
    }
    this.#capacity = spec.capacity;
    return false;
  }
}

/** Host and process of an owner value. The nonce stays here: whoever has the whole value can drop the lease. */
function nameOf(owner: string | null): string | null {
  if (owner === null) return null;
  return /^(.+:\d+):[^:]*$/.exec(owner)?.[1] ?? 'a client of another kind';
}

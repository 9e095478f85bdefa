/**
 * Any store, with faults to order: the network between a process and its engine, as far as the core can see it.
 */
import type {
  Claim,
  ClaimId,
  ClaimOutcome,
  DropOutcome,
  Guarantees,
  LeaseStore,
  RenewOutcome,
  StoreEvent,
} from '../../core/store.ts';

export type StoreCall = 'claim' | 'renew' | 'drop';

/** One call that went through the store; times are of `performance.now()`. */
export interface CallRecord {
  readonly call: StoreCall;
  readonly key: string | null;
  readonly sentAtMs: number;
  /** `null` while there is no answer, and for ever when there will be none. */
  answeredAtMs: number | null;
  answer: ClaimOutcome | readonly RenewOutcome[] | DropOutcome | null;
}

/** `request`: lost on the way there, the engine never saw it. `reply`: done, but nobody learns of it. */
export type Loss = 'request' | 'reply';

/** The error of a call whose request or reply was lost: unknown, done or not done. */
export class LostMessageError extends Error {
  constructor(loss: Loss) {
    super(`a ${loss} was lost, as ordered`);
    this.name = 'LostMessageError';
  }
}

/** Passes everything on to the store inside, records it, and loses what it was told to lose. */
export class FaultyStore implements LeaseStore {
  readonly calls: CallRecord[] = [];
  /** Every claim that was sent, those of `drop` included. */
  readonly claims: Claim[] = [];
  /** What the engine told this process, events that were then withheld included. */
  readonly events: StoreEvent[] = [];
  /** That of the last grant in an answer. */
  epoch = 0n;
  readonly #inner: LeaseStore;
  readonly #losses: { readonly call: StoreCall; readonly loss: Loss }[] = [];
  #on: (event: StoreEvent) => void = () => {};
  #hanging = false;
  #hung: ((error: LostMessageError) => void)[] = [];
  #withholding = false;

  constructor(inner: LeaseStore) {
    this.#inner = inner;
  }

  get name(): string {
    return this.#inner.name;
  }

  get guarantees(): Guarantees {
    return this.#inner.guarantees;
  }

  /** The next such call rejects: each order is for one call, in the order given. */
  loseNext(call: StoreCall, loss: Loss): void {
    this.#losses.push({ call, loss });
  }

  /** From now on, until told otherwise, no call settles, those on their way included; new ones never reach the engine. */
  hang(): void {
    this.#hanging = true;
  }

  /** Calls work again. What hung until now rejects, as when a connection is given up. */
  resume(): void {
    this.#hanging = false;
    const hung = this.#hung;
    this.#hung = [];
    for (const reject of hung) reject(new LostMessageError('reply'));
  }

  /** Events of the engine no longer arrive. */
  withholdEvents(): void {
    this.#withholding = true;
  }

  /** New events arrive again; the withheld ones are gone. */
  deliverEvents(): void {
    this.#withholding = false;
  }

  /** The process is as good as dead to the engine: it calls no more and hears nothing. */
  cutOff(): void {
    this.hang();
    this.withholdEvents();
  }

  /** Delivers an event that the engine did not send. */
  emit(event: StoreEvent): void {
    this.#on(event);
  }

  /** How many calls were made, those without an answer included. */
  count(call?: StoreCall): number {
    if (call === undefined) return this.calls.length;
    return this.calls.filter((record) => record.call === call).length;
  }

  /** How many claims of this key were answered so. */
  answered(is: ClaimOutcome['is'], key?: string): number {
    return this.calls.filter(
      ({ answer, ...record }) =>
        answer !== null && 'is' in answer && answer.is === is && (key ?? record.key) === record.key,
    ).length;
  }

  /** The longest that an answer took, in milliseconds: how busy the machine is. */
  slowestMs(): number {
    const tookMs = this.calls.map((record) => (record.answeredAtMs ?? 0) - record.sentAtMs);
    return Math.max(0, ...tookMs);
  }

  /** When the last call was sent that was answered, by `performance.now()`. A lease counts from there at the most. */
  lastAnsweredFromMs(): number {
    const answered = this.calls.filter((record) => record.answeredAtMs !== null);
    return Math.max(...answered.map((record) => record.sentAtMs));
  }

  open(on: (event: StoreEvent) => void): Promise<void> {
    this.#on = on;
    return this.#inner.open((event) => {
      this.events.push(event);
      if (!this.#withholding) on(event);
    });
  }

  claim(claim: Claim): Promise<ClaimOutcome> {
    this.claims.push(claim);
    return this.#send('claim', claim.key, () => this.#inner.claim(claim));
  }

  renew(claims: readonly Claim[]): Promise<readonly RenewOutcome[]> {
    return this.#send('renew', null, () => this.#inner.renew(claims));
  }

  drop(claim: ClaimId, again?: Claim): Promise<DropOutcome> {
    if (again) this.claims.push(again);
    return this.#send('drop', claim.key, () => this.#inner.drop(claim, again));
  }

  /** Closing always works: what the case ordered must not leak into the next one. */
  close(): Promise<void> {
    return this.#inner.close();
  }

  async #send<Answer extends NonNullable<CallRecord['answer']>>(
    call: StoreCall,
    key: string | null,
    execute: () => Promise<Answer>,
  ): Promise<Answer> {
    const sentAtMs = performance.now();
    const record: CallRecord = { call, key, sentAtMs, answeredAtMs: null, answer: null };
    this.calls.push(record);
    if (this.#hanging) return this.#never();
    const loss = this.#takeLoss(call);
    if (loss === 'request') throw new LostMessageError(loss);
    const answer = await execute();
    if (this.#hanging) return this.#never();
    if (loss === 'reply') throw new LostMessageError(loss);
    record.answeredAtMs = performance.now();
    record.answer = answer;
    const claimed = 'next' in answer ? answer.next : answer;
    if (claimed && 'is' in claimed && claimed.is === 'granted') this.epoch = claimed.epoch;
    return answer;
  }

  #never(): Promise<never> {
    return new Promise((_, reject) => {
      this.#hung.push(reject);
    });
  }

  #takeLoss(call: StoreCall): Loss | null {
    const index = this.#losses.findIndex((order) => order.call === call);
    return index < 0 ? null : (this.#losses.splice(index, 1)[0]?.loss ?? null);
  }
}

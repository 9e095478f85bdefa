/**
 * A lease store whose server is on the other side of a simulated network. Requests and replies are delayed, reordered,
 * lost before or after they were executed, executed twice, or executed long after their caller gave up; events are
 * delayed, reordered and lost. Everything happens on one timeline, decided by one seed.
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
import type { SimulatedProcess } from './process.ts';
import type { SeededRandom } from './random.ts';
import type { SimulatedServer } from './server.ts';
import type { Timeline } from './timeline.ts';

/** How likely each fault is, from 0 to 1, and how long messages take. */
export interface Weather {
  readonly minDelayMs: number;
  readonly maxDelayMs: number;
  /** Requests, replies and events of one connection stay in order. */
  readonly inOrder: boolean;
  /** Lost before it was executed. */
  readonly requestLoss: number;
  /** Executed, but the reply is lost. */
  readonly replyLoss: number;
  /** Executed a second time, up to `lateMs` later. */
  readonly twice: number;
  /** Executed up to `lateMs` later, perhaps after the caller gave up. */
  readonly late: number;
  readonly lateMs: number;
  /** Rejected at once, without having been sent. */
  readonly rejected: number;
  /** Never answered, and never timed out either. */
  readonly hanging: number;
  readonly eventLoss: number;
  readonly eventTwice: number;
  /** Up to `lateMs` later. */
  readonly eventLate: number;
}

export const FINE_WEATHER: Weather = {
  minDelayMs: 1,
  maxDelayMs: 1,
  inOrder: true,
  requestLoss: 0,
  replyLoss: 0,
  twice: 0,
  late: 0,
  lateMs: 0,
  rejected: 0,
  hanging: 0,
  eventLoss: 0,
  eventTwice: 0,
  eventLate: 0,
};

export interface SimulatedStoreOptions {
  readonly timeline: Timeline;
  readonly random: SeededRandom;
  readonly server: SimulatedServer;
  /** Where it runs. */
  readonly process: SimulatedProcess;
  /** After how long an unanswered request is rejected, in milliseconds. */
  readonly timeoutMs: number;
  readonly weather?: Weather;
}

type Direction = 'there' | 'back';

export class SimulatedStore implements LeaseStore {
  readonly name = 'simulated';
  readonly guarantees: Guarantees;
  weather: Weather;
  readonly #timeline: Timeline;
  readonly #random: SeededRandom;
  readonly #server: SimulatedServer;
  readonly #process: SimulatedProcess;
  readonly #timeoutMs: number;
  readonly #lastArrivalMs: Record<Direction, number> = { there: 0, back: 0 };
  #on: ((event: StoreEvent) => void) | null = null;
  #isOpening = false;
  #isCut = false;
  #isClosed = false;

  constructor(options: SimulatedStoreOptions) {
    this.#timeline = options.timeline;
    this.#random = options.random;
    this.#server = options.server;
    this.#process = options.process;
    this.#timeoutMs = options.timeoutMs;
    this.weather = options.weather ?? FINE_WEATHER;
    this.guarantees = {
      scope: 'network',
      handOver: this.#server.handOver,
      order: this.#server.order,
      capacities: 'any',
      survives: ['lost, late, repeated and reordered messages', 'a restart that keeps its data'],
      doesNotSurvive: ['a restart without its data'],
    };
  }

  /** It was opened, or is about to be, and was not closed. */
  get isOpen(): boolean {
    return this.#isOpening && !this.#isClosed;
  }

  async open(on: (event: StoreEvent) => void): Promise<void> {
    this.#isOpening = true;
    try {
      await this.#request(() => undefined);
    } catch (error) {
      this.#isOpening = false;
      throw error;
    }
    this.#on = on;
    this.#listen();
  }

  claim(claim: Claim): Promise<ClaimOutcome> {
    return this.#request(() => this.#server.claim(this.#process.name, claim));
  }

  renew(claims: readonly Claim[]): Promise<readonly RenewOutcome[]> {
    // The batch may change before it arrives; what was sent may not.
    const sent = [...claims];
    return this.#request(() => this.#server.renew(this.#process.name, sent));
  }

  drop(claim: ClaimId, again?: Claim): Promise<DropOutcome> {
    return this.#request(() => this.#server.drop(this.#process.name, claim, again));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#server.disconnect(this.#process.name);
  }

  /** The connection breaks. The server notices at once, or never. */
  cut(options: { readonly serverNotices: boolean }): void {
    this.#isCut = true;
    if (options.serverNotices) this.#server.disconnect(this.#process.name);
  }

  /** The connection is back: what was missed is not known. */
  restore(): void {
    this.#isCut = false;
    if (this.#on === null || this.#isClosed || this.#process.isDead) return;
    this.#listen();
    this.#arrive({ is: 'reset' });
  }

  #listen(): void {
    if (this.#isClosed) return;
    this.#server.connect(this.#process.name, (event) => this.#receive(event));
  }

  #request<T>(execute: () => T): Promise<T> {
    const { weather } = this;
    return new Promise((resolve, reject) => {
      if (this.#isClosed || this.#random.chance(weather.rejected)) {
        reject(new Error(this.#isClosed ? 'the store is closed' : 'the connection was refused'));
        return;
      }
      const { clock } = this.#process;
      const timer = this.#random.chance(weather.hanging)
        ? null
        : clock.setTimer(() => reject(new Error('no answer in time')), this.#timeoutMs, false);
      if (timer === null) return;
      this.#send(execute, (value) => {
        clock.clearTimer(timer);
        resolve(value);
      });
    });
  }

  #send<T>(execute: () => T, reply: (value: T) => void): void {
    const { weather } = this;
    if (this.#random.chance(weather.requestLoss)) return;
    const arrive = (): void => {
      if (!this.#server.isUp) return;
      const value = execute();
      if (this.#isCut || this.#random.chance(weather.replyLoss)) return;
      this.#carry('back', () => this.#process.enter(() => reply(value)));
    };
    const hasLeft = (): boolean => !this.#isCut && !this.#process.isDead;
    const delayMs = this.#random.chance(weather.late) ? this.#random.next() * weather.lateMs : 0;
    if (!hasLeft()) return;
    if (delayMs > 0) this.#timeline.after(delayMs, arrive);
    else this.#carry('there', arrive);
    if (this.#random.chance(weather.twice)) {
      this.#timeline.after(this.#random.next() * weather.lateMs, arrive);
    }
  }

  #receive(event: StoreEvent): void {
    const { weather } = this;
    if (this.#isCut || this.#random.chance(weather.eventLoss)) return;
    const isTwice = this.#random.chance(weather.eventTwice);
    for (let left = isTwice ? 2 : 1; left > 0; left -= 1) {
      const lateMs = this.#random.chance(weather.eventLate) ? this.#random.next() : 0;
      if (lateMs > 0) this.#timeline.after(lateMs * weather.lateMs, () => this.#arrive(event));
      else this.#carry('back', () => this.#arrive(event));
    }
  }

  #arrive(event: StoreEvent): void {
    this.#process.enter(() => {
      if (!this.#isClosed) this.#on?.(event);
    });
  }

  #carry(direction: Direction, arrive: () => void): void {
    const { minDelayMs, maxDelayMs, inOrder } = this.weather;
    const delayMs = this.#random.between(minDelayMs, maxDelayMs);
    let atMs = this.#timeline.nowMs + delayMs;
    if (inOrder) {
      // The smallest step keeps two messages of one moment apart.
      atMs = Math.max(atMs, this.#lastArrivalMs[direction] + 1e-6);
      this.#lastArrivalMs[direction] = atMs;
    }
    this.#timeline.after(atMs - this.#timeline.nowMs, arrive);
  }
}

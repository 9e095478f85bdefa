/**
 * The caller's side of the engine's thread: sends the calls of one turn together, and gives up on what is not answered
 * in time. It never waits for another process, so that the caller's event loop never does.
 */
import { Worker } from 'node:worker_threads';
import type { StoreEvent } from '../core/store.ts';
import { guardExit, unguardExit } from './exit-guard.ts';
import type { EngineData, FromEngine, ToEngine } from './protocol.ts';

/** Other processes get in between two transactions: none makes more calls, or renewals, than this. */
const CALLS_A_TRANSACTION = 500;
/** Calls that the engine has not answered, those that were given up on included. */
const MAX_UNANSWERED_CALLS = 200_000;
/** How long `close` waits for an engine that another process holds up; it closes by itself when that goes on. */
const CLOSE_TIMEOUT_MS = 2_000;

interface Settle<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}

/** Calls that are sent together, and answered together. */
interface Flight<Call, Answer> {
  readonly calls: Call[];
  readonly settle: Settle<Answer>[];
  weight: number;
  sentMs: number;
}

/** What makes the process wait for the thread: an open that is under way, and calls that are. */
type Reason = object;

export interface EngineClientOptions<Call> {
  /** The compiled file that the thread runs. */
  readonly thread: URL;
  readonly path: string;
  readonly timeoutMs: number;
  readonly on: (event: StoreEvent) => void;
  /** How many calls this one counts for. Default 1. */
  readonly weightOf?: (call: Call) => number;
  /**
   * Whether calls wait while others are under way, to be sent together when those are answered: for engines that wait for
   * the disk with each batch. Default false.
   */
  readonly isGrouped?: boolean;
}

export class EngineClient<Call, Answer> {
  readonly #worker: Worker;
  readonly #on: (event: StoreEvent) => void;
  readonly #timeoutMs: number;
  readonly #weightOf: (call: Call) => number;
  readonly #isGrouped: boolean;
  readonly #flights = new Map<number, Flight<Call, Answer>>();
  readonly #reasons = new Set<Reason>();
  readonly #ended: Promise<void>;
  #opening: Settle<void> | null = null;
  #boarding: Flight<Call, Answer> | null = null;
  #lastId = 0;
  #unanswered = 0;
  #answeredMs = 0;
  #overdueTimer: NodeJS.Timeout | null = null;
  /** Why the thread takes no calls any more. */
  #over: Error | null = null;

  constructor(options: EngineClientOptions<Call>) {
    const { thread, path, timeoutMs, on, weightOf = () => 1, isGrouped = false } = options;
    this.#isGrouped = isGrouped;
    this.#on = on;
    this.#weightOf = weightOf;
    this.#timeoutMs = timeoutMs;
    const guard = guardExit();
    const workerData: EngineData = { path, guard };
    this.#worker = new Worker(thread, {
      name: 'leasehold',
      workerData,
      execArgv: [],
    });
    this.#worker.on('message', (message: FromEngine<Answer>) => this.#receive(message));
    this.#worker.on('error', (error) => this.#end(error));
    this.#ended = new Promise((resolve) => {
      this.#worker.on('exit', () => {
        unguardExit(guard);
        this.#end(new Error('the thread of the embedded store has ended'));
        resolve();
      });
    });
  }

  /** Resolves when the folder is open; called once. */
  async open(timeoutMs: number): Promise<void> {
    const reason = {};
    this.#wait(reason);
    let timer: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        this.#opening = { resolve, reject };
        const late = new Error(
          `the embedded store did not open in ${timeoutMs} ms; is a process that uses it stopped?`,
        );
        timer = setTimeout(() => reject(late), timeoutMs);
      });
    } finally {
      clearTimeout(timer);
      this.#waitNoMore(reason);
    }
  }

  /** Rejects when the outcome is unknown: the call may be done or not, or yet be done. */
  call(call: Call): Promise<Answer> {
    if (this.#over) return Promise.reject(this.#over);
    const weight = this.#weightOf(call);
    if (this.#unanswered + weight > MAX_UNANSWERED_CALLS) {
      return Promise.reject(new Error(`more than ${MAX_UNANSWERED_CALLS} calls are unanswered`));
    }
    this.#unanswered += weight;
    const flight = this.#boarding ?? this.#board();
    flight.weight += weight;
    const answer = new Promise<Answer>((resolve, reject) => {
      flight.calls.push(call);
      flight.settle.push({ resolve, reject });
    });
    if (flight.weight >= CALLS_A_TRANSACTION) this.#send(flight);
    return answer;
  }

  /** Resolves when nothing is left open, or when the thread does not end in time; then it ends later, by itself. */
  async close(): Promise<void> {
    this.#over ??= new Error('the embedded store is closed');
    if (this.#boarding) this.#send(this.#boarding);
    this.#post({ is: 'close' });
    const reason = {};
    this.#wait(reason);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
    });
    await Promise.race([this.#ended, late]);
    clearTimeout(timer);
    this.#waitNoMore(reason);
  }

  #board(): Flight<Call, Answer> {
    const flight: Flight<Call, Answer> = { calls: [], settle: [], weight: 0, sentMs: 0 };
    this.#boarding = flight;
    queueMicrotask(() => {
      if (this.#boarding === flight && !this.#isWaiting) this.#send(flight);
    });
    return flight;
  }

  /** Whether what boards waits for what is under way; not for what was given up on. */
  get #isWaiting(): boolean {
    if (!this.#isGrouped) return false;
    for (const { settle } of this.#flights.values()) if (settle.length > 0) return true;
    return false;
  }

  #send(flight: Flight<Call, Answer>): void {
    this.#boarding = null;
    this.#lastId += 1;
    const id = this.#lastId;
    this.#flights.set(id, flight);
    this.#wait(flight);
    flight.sentMs = performance.now();
    this.#overdueTimer ??= this.#lookForOverdueIn(this.#timeoutMs);
    try {
      this.#post({ is: 'batch', id, calls: flight.calls });
    } catch (error) {
      // A claim that is not plain data: a caller's mistake must not end the process.
      this.#settle(this.#land(id), ({ reject }) => reject(error as Error));
    }
  }

  #sendBoarded(): void {
    if (this.#boarding && !this.#isWaiting) this.#send(this.#boarding);
  }

  #lookForOverdueIn(delayMs: number): NodeJS.Timeout {
    // After a stall of this event loop timers run first: answers that lie there already are taken before the look.
    const look = (): unknown => setImmediate(() => this.#lookForOverdue());
    return setTimeout(look, delayMs).unref();
  }

  /** Gives up on calls that wait while the engine answers nothing at all. Behind other calls they may wait for longer. */
  #lookForOverdue(): void {
    this.#overdueTimer = null;
    const error = new Error(`no answer from the engine in ${this.#timeoutMs} ms`);
    for (const flight of this.#flights.values()) {
      if (flight.settle.length === 0) continue;
      const quietMs = performance.now() - Math.max(flight.sentMs, this.#answeredMs);
      if (quietMs < this.#timeoutMs) {
        this.#overdueTimer = this.#lookForOverdueIn(this.#timeoutMs - quietMs);
        return;
      }
      this.#settle(flight, ({ reject }) => reject(error));
    }
  }

  #receive(message: FromEngine<Answer>): void {
    switch (message.is) {
      case 'opened':
        this.#opening?.resolve();
        break;
      case 'failed':
        this.#end(message.error);
        break;
      case 'event':
        this.#on(message.event);
        break;
      case 'answers': {
        const { id, answers } = message;
        this.#settle(this.#land(id), ({ resolve }, index) => resolve(answers[index] as Answer));
        break;
      }
      case 'error':
        this.#settle(this.#land(message.id), ({ reject }) => reject(message.error));
        break;
    }
  }

  #land(id: number): Flight<Call, Answer> {
    const flight = this.#flights.get(id) as Flight<Call, Answer>;
    this.#flights.delete(id);
    this.#answeredMs = performance.now();
    this.#unanswered -= flight.weight;
    return flight;
  }

  /** The first time counts: an answer that comes after its time-out changes nothing. */
  #settle(flight: Flight<Call, Answer>, how: (call: Settle<Answer>, index: number) => void): void {
    for (const [index, call] of flight.settle.entries()) how(call, index);
    flight.settle.length = 0;
    this.#waitNoMore(flight);
    // In the next turn of the microtasks, what those who were answered call now is on board as well.
    if (this.#boarding && !this.#isWaiting) queueMicrotask(() => this.#sendBoarded());
  }

  #end(error: Error): void {
    this.#over ??= error;
    this.#opening?.reject(error);
    for (const flight of this.#flights.values())
      this.#settle(flight, ({ reject }) => reject(error));
    this.#flights.clear();
    if (this.#overdueTimer !== null) clearTimeout(this.#overdueTimer);
    this.#overdueTimer = null;
  }

  #post(message: ToEngine<Call>): void {
    this.#worker.postMessage(message);
  }

  #wait(reason: Reason): void {
    if (this.#reasons.size === 0) this.#worker.ref();
    this.#reasons.add(reason);
  }

  #waitNoMore(reason: Reason): void {
    this.#reasons.delete(reason);
    if (this.#reasons.size === 0) this.#worker.unref();
  }
}

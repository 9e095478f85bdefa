/**
 * The keyed consumer: messages in, one lock for each key, every message accounted for.
 */
import { setMaxListeners } from 'node:events';
import { Calls } from './calls.ts';
import type { Delivery } from './contracts.ts';
import type { EngineOperation } from './diagnostics.ts';
import { Drain } from './drain.ts';
import { Handling } from './handling.ts';
import { Intake } from './intake.ts';
import { Lanes } from './lanes.ts';
import { Item, type Origin } from './message.ts';
import { type ConsumerMetrics, Metrics } from './metrics.ts';
import {
  type AnyOptions,
  type HandleOptions,
  type ReduceOptions,
  readOptions,
  type Settings,
} from './options.ts';
import { whole } from './policies.ts';
import { Reducing } from './reducing.ts';
import { Settling } from './settling.ts';
import type { Work } from './work.ts';

export interface StopOptions {
  /** How long to work on what was delivered already, in milliseconds, before it is given back. Default 10,000. */
  readonly graceMs?: number;
}

export interface Consumer {
  /** Resolves when messages can arrive. Rejects when an engine could not be opened; the consumer is stopped then. */
  readonly ready: Promise<void>;
  /**
   * Resolves with the reason when the consumer cannot go on by itself, as when its queue is missing. It stops then. Never
   * rejects, and never settles while all is well.
   */
  readonly failed: Promise<Error>;
  /**
   * Takes no more messages, works on those that are here, gives back what is left after `graceMs`, and closes source,
   * state and outbox. `locks` stay open. Idempotent; never rejects.
   */
  stop(options?: StopOptions): Promise<void>;
  /** What was counted until now: a plain object. */
  metrics(): ConsumerMetrics;
}

const DEFAULT_GRACE_MS = 10_000;
const MAX_GRACE_MS = 86_400_000;
/** How long the end waits for work that does not end by itself, and for engines that do not answer, in milliseconds. */
const HALT_BOUND_MS = 2_000;

/** Starts to consume. Rejects nothing and throws only `InvalidArgumentError`; see `ready` and `failed`. */
export function consume<Body, State>(options: ReduceOptions<Body, State>): Consumer;
export function consume<Body>(options: HandleOptions<Body>): Consumer;
export function consume(options: unknown): Consumer {
  return new KeyedConsumer(readOptions(options as AnyOptions));
}

class KeyedConsumer implements Consumer {
  readonly ready: Promise<void>;
  readonly failed: Promise<Error>;
  readonly #settings: Settings;
  readonly #metrics: Metrics = new Metrics();
  readonly #calls: Calls;
  readonly #settling: Settling;
  readonly #work: Work;
  readonly #lanes: Lanes;
  readonly #intake: Intake;
  readonly #drain: Drain | null;
  readonly #origin: Origin;
  /** Ends the waits for locks when all is halted. */
  readonly #halting = new AbortController();
  #reportFailure: (error: Error) => void = () => {};
  #stopping: Promise<void> | undefined;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.failed = new Promise((resolve) => {
      this.#reportFailure = resolve;
    });
    const metrics = this.#metrics;
    const calls = new Calls(settings.clock, settings.random, metrics);
    const settling = new Settling(settings, calls, metrics);
    this.#calls = calls;
    this.#settling = settling;
    const { reduction, handle } = settings;
    this.#work = reduction
      ? new Reducing(reduction, settings, calls, settling, metrics)
      : new Handling(handle as NonNullable<typeof handle>, calls, settling, metrics);
    // As many lanes may wait for their lock as there are messages.
    setMaxListeners(0, this.#halting.signal);
    this.#lanes = new Lanes({
      settings,
      calls,
      settling,
      metrics,
      work: this.#work,
      signal: this.#halting.signal,
      // Without locks nothing that is here can be worked on.
      fail: (error) => this.#fail(error, 0),
    });
    this.#intake = new Intake(settings, settling, this.#lanes);
    this.#origin = { engine: settings.source, inFlight: 0 };
    const deliver = (delivery: Delivery, origin: Origin): void => this.#deliver(delivery, origin);
    const { outbox } = settings.busy;
    this.#drain = outbox ? new Drain(outbox, settings, calls, metrics, deliver) : null;
    this.ready = this.#open();
    // Who does not wait for it hears of it by `failed`.
    this.ready.catch(() => {});
  }

  metrics(): ConsumerMetrics {
    return this.#metrics.snapshot(this.#inFlight);
  }

  stop(options: StopOptions = {}): Promise<void> {
    this.#stopping ??= this.#stop(
      whole('graceMs', options?.graceMs ?? DEFAULT_GRACE_MS, 0, MAX_GRACE_MS),
    );
    return this.#stopping;
  }

  get #inFlight(): number {
    return this.#origin.inFlight + (this.#drain?.origin.inFlight ?? 0);
  }

  async #open(): Promise<void> {
    // Engines may call back, or throw, before the constructor has ended.
    await Promise.resolve();
    try {
      await this.#settings.reduction?.state.open();
      await this.#settings.busy.outbox?.engine.open();
      await this.#settings.source.open({
        delivered: (delivery) => this.#deliver(delivery, this.#origin),
        failed: (error) => this.#fail(error),
      });
    } catch (error) {
      // An engine that is told to stop while it waits to be opened says so, and nothing has failed.
      if (!this.#stopping) {
        this.#calls.notAnswered('open', error);
        this.#fail(error);
      }
      throw error;
    }
    if (this.#drain && !this.#stopping) this.#calls.track(this.#drain.run());
  }

  #deliver(delivery: Delivery, origin: Origin): void {
    const item = new Item(delivery, origin, this.#settings.clock.monotonicMs());
    origin.inFlight += 1;
    this.#metrics.delivered += 1;
    if (delivery.isRedelivered) this.#metrics.redelivered += 1;
    if (this.#calls.isHalted) this.#settling.release([item]);
    else this.#intake.take(item);
  }

  #fail(cause: unknown, graceMs: number = DEFAULT_GRACE_MS): void {
    this.#reportFailure(cause instanceof Error ? cause : new Error(String(cause)));
    void this.stop({ graceMs });
  }

  async #stop(graceMs: number): Promise<void> {
    const { source, reduction, busy } = this.#settings;
    this.#drain?.stop();
    await this.#opened();
    await this.#quietly('stop', () => source.stop());
    await this.#idle(graceMs, () => this.#inFlight === 0 && this.#lanes.size === 0);
    this.#calls.halt();
    this.#halting.abort(new Error('the consumer is stopped'));
    this.#settling.release(this.#lanes.drain());
    await this.#idle(HALT_BOUND_MS, () => this.#calls.pending === 0);
    this.#work.close();
    await this.#quietly('close', () => source.close());
    await this.#quietly('close', async () => busy.outbox?.engine.close());
    await this.#quietly('close', async () => reduction?.state.close());
  }

  /** Resolves when the engines are open, or could not be opened, or it takes too long. */
  #opened(): Promise<void> {
    const { clock } = this.#settings;
    return new Promise((resolve) => {
      const timer = clock.setTimer(resolve, HALT_BOUND_MS, true);
      const done = (): void => {
        clock.clearTimer(timer);
        resolve();
      };
      this.ready.then(done, done);
    });
  }

  /** Resolves when it is so, or after the time. */
  #idle(maxMs: number, isIdle: () => boolean): Promise<void> {
    const { clock } = this.#settings;
    return new Promise((resolve) => {
      const done = (): void => {
        clock.clearTimer(timer);
        this.#calls.onSettled = () => {};
        resolve();
      };
      const timer = clock.setTimer(done, maxMs, true);
      const look = (): void => {
        if (isIdle()) done();
      };
      this.#calls.onSettled = look;
      look();
    });
  }

  async #quietly(operation: EngineOperation, call: () => Promise<void>): Promise<void> {
    try {
      await call();
    } catch (cause) {
      this.#calls.notAnswered(operation, cause);
    }
  }
}

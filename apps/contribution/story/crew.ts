/**
 * The instances of one way, as a supervisor looks after them: started together, replaced when they die. What a dead one
 * had not acknowledged is delivered again; that is the queue's affair.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import { type FromWorker, type Job, startWorker, type ToWorker } from '../worker-process.ts';

/** Instances that die more often than this in one way have a fault that a replacement has too. */
const MAX_REPLACEMENTS = 5;
/** No message done for so long means that something hangs, in milliseconds. */
const STALL_MS = 60_000;
const LOOK_MS = 20;

export interface CrewOptions {
  readonly job: Omit<Job, 'instance'>;
  readonly instances: number;
  readonly messages: number;
  /** Kill one instance when this share of the messages is done; `null` for none. */
  readonly killAt: number | null;
  readonly signal: AbortSignal;
  /** Whether all messages are done; asked when the instances have settled so many, or have nothing to do. */
  isDone(settled: number): Promise<boolean>;
  onProgress(done: number, note: string): void;
}

export interface Effort {
  readonly seconds: number;
  /** From asking for the lock to getting it, in microseconds. */
  readonly waits: RecordableHistogram;
  /** How often a message came back later, since its lock was busy. */
  readonly busy: number;
  /** The instance that was killed. */
  readonly killed: number | null;
}

interface Instance {
  readonly child: ChildProcess;
  settled: number;
  isIdle: boolean;
}

export class Crew {
  readonly #options: CrewOptions;
  readonly #failure = new AbortController();
  /** Aborted from outside or by a failure: everything ends, and nothing new is started. */
  readonly #stopped: AbortSignal;
  readonly #waits = createHistogram();
  readonly #instances = new Map<number, Instance>();
  readonly #lives: Promise<void>[] = [];
  #settledByTheDead = 0;
  #busy = 0;
  #lastInstance = 0;
  #replacements = 0;
  #killed: number | null = null;
  #isOver = false;
  #note = '';

  constructor(options: CrewOptions) {
    this.#options = options;
    this.#stopped = AbortSignal.any([options.signal, this.#failure.signal]);
  }

  /** Works the queue off. Rejects with the signal's reason when that is aborted; leaves no process behind. */
  async work(): Promise<Effort> {
    const { instances } = this.#options;
    const kill = () => this.#endAll('SIGKILL');
    this.#stopped.addEventListener('abort', kill);
    let seconds = 0;
    try {
      this.#stopped.throwIfAborted();
      const ready = Array.from({ length: instances }, () => this.#start());
      const together = await Promise.all(ready);
      const startedMs = performance.now();
      for (const child of together) go(child);
      await this.#untilDone();
      seconds = (performance.now() - startedMs) / 1_000;
      this.#isOver = true;
      this.#endAll('SIGTERM');
      // A life that ends early adds the life of its replacement, so the list grows while it is walked.
      for (const life of this.#lives) await life;
      this.#stopped.throwIfAborted();
    } finally {
      this.#isOver = true;
      this.#stopped.removeEventListener('abort', kill);
      this.#endAll('SIGKILL');
    }
    return { seconds, waits: this.#waits, busy: this.#busy, killed: this.#killed };
  }

  /** Resolves when the instance is ready, or has ended without ever being. */
  #start(): Promise<ChildProcess> {
    this.#lastInstance += 1;
    const number = this.#lastInstance;
    const child = startWorker({ ...this.#options.job, instance: number });
    const instance: Instance = { child, settled: 0, isIdle: false };
    this.#instances.set(number, instance);
    this.#lives.push(this.#live(number, instance));
    return new Promise((resolve) => {
      child.once('exit', () => resolve(child));
      child.once('error', () => resolve(child));
      child.on('message', (message: FromWorker) => {
        if (message.is === 'ready') resolve(child);
        else this.#hear(instance, message);
      });
    });
  }

  #hear(instance: Instance, message: Exclude<FromWorker, { is: 'ready' }>): void {
    instance.settled = message.settled;
    instance.isIdle = message.unsettled === 0;
    this.#busy += message.busy;
    // A histogram counts from 1 microsecond.
    for (const waitMs of message.waitsMs) {
      this.#waits.record(Math.max(1, Math.round(waitMs * 1_000)));
    }
  }

  /** One instance to its end, and what has to be done when that comes too early. Never rejects. */
  async #live(number: number, instance: Instance): Promise<void> {
    const { child } = instance;
    try {
      // What it had sent arrives before its channel is disconnected.
      const [[code, signal]] = await Promise.all([once(child, 'exit'), once(child, 'disconnect')]);
      this.#instances.delete(number);
      this.#settledByTheDead += instance.settled;
      if (this.#isOver || this.#stopped.aborted) return;
      if (number !== this.#killed && ++this.#replacements > MAX_REPLACEMENTS) {
        throw new Error(
          `${MAX_REPLACEMENTS + 1} instances ended early, the last by ${signal ?? code}`,
        );
      }
      go(await this.#start());
    } catch (error) {
      this.#failure.abort(error);
    }
  }

  /** Looks from time to time: for the progress, for the moment to kill, for the end, and for a stall. */
  async #untilDone(): Promise<void> {
    const { messages, killAt } = this.#options;
    let lastSettled = 0;
    let lastMoveMs = performance.now();
    for (;;) {
      await pause(LOOK_MS, this.#stopped);
      const living = [...this.#instances.values()];
      const settled = living.reduce((sum, one) => sum + one.settled, this.#settledByTheDead);
      if (settled !== lastSettled) lastMoveMs = performance.now();
      lastSettled = settled;
      this.#options.onProgress(Math.min(settled, messages), this.#note);
      if (killAt !== null && this.#killed === null && settled >= messages * killAt) {
        if (settled > 0) this.#killOne();
      }
      const isQuiet = settled >= messages || living.every((one) => one.isIdle);
      if (isQuiet && settled > 0 && (await this.#options.isDone(settled))) return;
      if (performance.now() - lastMoveMs > STALL_MS) {
        throw new Error(`no message was done for ${STALL_MS / 1_000} s`);
      }
    }
  }

  #killOne(): void {
    const [number, instance] = [...this.#instances].at(1) ?? [...this.#instances][0] ?? [];
    if (number === undefined || !instance?.child.kill('SIGKILL')) return;
    this.#killed = number;
    this.#note = `worker ${number} killed (-9)`;
  }

  #endAll(signal: 'SIGTERM' | 'SIGKILL'): void {
    for (const { child } of this.#instances.values()) child.kill(signal);
  }
}

function go(child: ChildProcess): void {
  const order: ToWorker = 'go';
  if (child.connected) child.send(order, () => {});
}

/** Rejects with the signal's reason as soon as that is aborted. */
async function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(end, delayMs);
    function end(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    }
    signal.addEventListener('abort', end);
  });
  signal.throwIfAborted();
}

/**
 * The instances of one way, as a supervisor and a broker look after them: started together, replaced when they die, and
 * what a dead one had not acknowledged is delivered again.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import type { FromInstance, Job, ToInstance } from './protocol.ts';
import type { Queue } from './queue.ts';

const WORKER = fileURLToPath(new URL('./worker.js', import.meta.url));

/** Instances that die more often than this in one way have a fault that a replacement has too. */
const MAX_REPLACEMENTS = 5;
/** No message done for so long means that something hangs, in milliseconds. */
const STALL_MS = 60_000;
const LOOK_MS = 20;

export interface CrewOptions {
  readonly job: Omit<Job, 'instance'>;
  readonly instances: number;
  readonly queue: Queue;
  readonly messages: number;
  /** Kill one instance when this share of the messages is done; `null` for none. */
  readonly killAt: number | null;
  readonly signal: AbortSignal;
  onProgress(done: number, note: string): void;
}

export interface Kill {
  readonly instance: number;
  /** How many messages it had not acknowledged. */
  readonly deliveredAgain: number;
}

export interface Effort {
  readonly seconds: number;
  /** From asking for the lock to getting it, in microseconds. */
  readonly waits: RecordableHistogram;
  readonly putBack: number;
  readonly kill: Kill | null;
}

export class Crew {
  readonly #options: CrewOptions;
  readonly #failure = new AbortController();
  /** Aborted from outside or by a failure: everything ends, and nothing new is started. */
  readonly #stopped: AbortSignal;
  readonly #waits = createHistogram();
  readonly #children = new Map<number, ChildProcess>();
  readonly #lives: Promise<void>[] = [];
  #startedMs = 0;
  #endedMs = 0;
  #putBack = 0;
  #lastInstance = 0;
  #replacements = 0;
  #killed = 0;
  #kill: Kill | null = null;
  #note = '';

  constructor(options: CrewOptions) {
    this.#options = options;
    this.#stopped = AbortSignal.any([options.signal, this.#failure.signal]);
  }

  /** Works the queue off. Rejects with the signal's reason when that is aborted; leaves no process behind. */
  async work(): Promise<Effort> {
    const { instances } = this.#options;
    const end = () => this.#endAll();
    this.#stopped.addEventListener('abort', end);
    const watching = setInterval(this.#watch(), LOOK_MS);
    try {
      this.#stopped.throwIfAborted();
      const ready = Array.from({ length: instances }, () => this.#start());
      const together = await Promise.all(ready);
      this.#startedMs = performance.now();
      for (const child of together) go(child);
      // A life that ends early adds the life of its replacement, so the list grows while it is walked.
      for (const life of this.#lives) await life;
      this.#stopped.throwIfAborted();
    } finally {
      clearInterval(watching);
      this.#stopped.removeEventListener('abort', end);
      this.#endAll();
    }
    const seconds = (this.#endedMs - this.#startedMs) / 1_000;
    return { seconds, waits: this.#waits, putBack: this.#putBack, kill: this.#kill };
  }

  /** Resolves when the instance is ready, or has ended without ever being. */
  #start(): Promise<ChildProcess> {
    this.#lastInstance += 1;
    const instance = this.#lastInstance;
    const job: Job = { ...this.#options.job, instance };
    const child = fork(WORKER, [JSON.stringify(job)]);
    this.#children.set(instance, child);
    this.#lives.push(this.#live(instance, child));
    return new Promise((resolve) => {
      child.once('exit', () => resolve(child));
      child.once('error', () => resolve(child));
      child.on('message', (message: FromInstance) => {
        if (message.is === 'ready') resolve(child);
        else this.#hear(message);
      });
    });
  }

  #hear(message: Exclude<FromInstance, { is: 'ready' }>): void {
    if (message.is === 'done') {
      this.#endedMs = performance.now();
      return;
    }
    this.#putBack += message.putBack;
    // A histogram counts from 1 microsecond.
    for (const waitMs of message.waitsMs) {
      this.#waits.record(Math.max(1, Math.round(waitMs * 1_000)));
    }
  }

  /** One instance to its end, and what has to be done when that comes too early. Never rejects. */
  async #live(instance: number, child: ChildProcess): Promise<void> {
    try {
      // What it had sent arrives before its channel is disconnected.
      const [[code, signal]] = await Promise.all([once(child, 'exit'), once(child, 'disconnect')]);
      this.#children.delete(instance);
      if (code === 0 || this.#stopped.aborted) return;
      // Only now, when the process has ended, can nothing of it still be on its way.
      const deliveredAgain = await this.#options.queue.putBackAllOf(instance);
      if (instance === this.#killed) {
        this.#kill = { instance, deliveredAgain };
      } else if (++this.#replacements > MAX_REPLACEMENTS) {
        throw new Error(
          `${MAX_REPLACEMENTS + 1} instances ended early, the last by ${signal ?? code}`,
        );
      }
      if (!this.#stopped.aborted) go(await this.#start());
    } catch (error) {
      this.#failure.abort(error);
    }
  }

  /** Looks at the queue from time to time: for the progress, for the moment to kill, and for a stall. */
  #watch(): () => void {
    const { queue, messages, killAt } = this.#options;
    let lastDone = 0;
    let lastMoveMs = performance.now();
    return () => {
      const done = messages - queue.remaining();
      if (done !== lastDone) lastMoveMs = performance.now();
      lastDone = done;
      if (performance.now() - lastMoveMs > STALL_MS) {
        this.#failure.abort(new Error(`no message was done for ${STALL_MS / 1_000} s`));
      }
      if (killAt !== null && this.#killed === 0 && done > 0 && done >= messages * killAt) {
        this.#killOne();
      }
      this.#options.onProgress(done, this.#note);
    };
  }

  #killOne(): void {
    const [instance, child] = [...this.#children].at(1) ?? [...this.#children][0] ?? [];
    if (instance === undefined || !child?.kill('SIGKILL')) return;
    this.#killed = instance;
    this.#note = `worker ${instance} killed (-9)`;
  }

  #endAll(): void {
    for (const child of this.#children.values()) child.kill('SIGKILL');
  }
}

function go(child: ChildProcess): void {
  const order: ToInstance = 'go';
  if (child.connected) child.send(order, () => {});
}

/**
 * One process of a torture run: several tasks that lock, work, and write down what they did.
 *
 * It believes in its locks to the end: a lease that was lost meanwhile does not keep it from writing. That is what a
 * process does that was stopped between its last look and its write, and what fences are for.
 */
import { setTimeout } from 'node:timers/promises';
import { SeededRandom } from 'leasehold/testing';
import { ENGINES } from './engines/index.ts';
import { nowUs, Recorder } from './history.ts';
import { type FromWorker, keysAt, type Order, type ToWorker } from './orders.ts';
import { codeOf, locksFor } from './subjects.ts';
import { WORKLOADS_BY_NAME } from './workloads/index.ts';
import type { Place } from './workloads/workload.ts';

/** Between two attempts of work that a fault has cost. */
const PAUSE_MS = 20;
const EXIT_WRONG = 70;

const order = JSON.parse(process.argv[2] ?? '') as Order;
const recorder = new Recorder(order.file, order.worker);
const random = new SeededRandom(order.seed);
let finalKeys: readonly string[] | null = null;
let stopBefore: { readonly isFenced: boolean } | null = null;
let numbers = 0;

function say(message: FromWorker): void {
  process.send?.(message);
}

function wrong(what: string): void {
  recorder.write({ is: 'wrong', what });
}

for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
  process.on(event, (error: unknown) => {
    wrong(`${event}: ${error instanceof Error ? error.stack : String(error)}`);
    process.exit(EXIT_WRONG);
  });
}

const locks = locksFor(order, recorder);
const engine = ENGINES[order.engine] as (typeof ENGINES)[string];
const values = engine.makeValues(order.place, order.via);
const workload = WORKLOADS_BY_NAME[order.workload];

const place: Place = {
  random,
  recorder,
  values,
  isFenced: () => order.subject === 'leasehold' && random.chance(0.5),
  newNumber() {
    numbers += 1;
    return `${order.worker}.${numbers}`;
  },
  mayStop(key, isFenced) {
    if (stopBefore === null) return;
    // A peer has no fenced values to stop at.
    if (order.subject === 'leasehold' && stopBefore.isFenced !== isFenced) return;
    stopBefore = null;
    say({ is: 'stopping', key, isFenced });
    // Whoever ordered it lets this process go on again.
    process.kill(process.pid, 'SIGSTOP');
  },
  async locked(key, work) {
    const call = place.newNumber();
    recorder.write({ is: 'asked', call, key });
    let held: Awaited<ReturnType<typeof locks.take>>;
    try {
      held = await locks.take(key);
    } catch (error) {
      const code = codeOf(error, order);
      if (code === null) wrong(`acquire rejected with ${String(error)}`);
      recorder.write({ is: 'refused', call, code: code ?? 'untyped' });
      return false;
    }
    recorder.write({ is: 'granted', call, token: held.token });
    const look = (): void => {
      // The time is taken first: what was valid later was valid then.
      const atUs = nowUs();
      if (held.isValid()) recorder.write({ is: 'held', call }, atUs);
    };
    try {
      return await work(held, look);
    } finally {
      look();
      recorder.write({ is: 'released', call });
      await held.release().catch((error: unknown) => {
        if (order.subject === 'leasehold') wrong(`release rejected with ${String(error)}`);
      });
    }
  },
};

async function task(): Promise<void> {
  while (finalKeys === null) {
    const key = random.pick(keysAt(order.workload, order.startedUs, nowUs()));
    if (!(await workload(place, key, place.isFenced()))) await setTimeout(PAUSE_MS);
  }
  for (const key of finalKeys) {
    while (!(await workload(place, key, order.subject === 'leasehold'))) await setTimeout(PAUSE_MS);
  }
}

async function close(): Promise<void> {
  await locks.close();
  await values.close();
  recorder.close();
  // Nothing is left that could hold this process.
  process.disconnect();
}

process.on('message', (message: ToWorker) => {
  switch (message.is) {
    case 'stop before a write':
      stopBefore = message;
      break;
    case 'never mind':
      stopBefore = null;
      break;
    case 'finish':
      finalKeys = message.keys;
      break;
    default:
      void close();
  }
});

say({ is: 'ready' });
await Promise.all(Array.from({ length: order.tasks }, task));
say({ is: 'finished' });

/** One process of a torture run: does its job, and writes down what it did. */
import { SeededRandom } from 'leasehold/testing';
import { Recorder } from './history.ts';
import { JOBS } from './jobs/index.ts';
import type { Context } from './jobs/job.ts';
import type { FromWorker, Order, ToWorker } from './orders.ts';

const EXIT_WRONG = 70;
/** A process that has not ended so long after it closed everything says what holds it. */
const HELD_AFTER_MS = 2_000;

const order = JSON.parse(process.argv[2] ?? '') as Order;
const recorder = new Recorder(order.file, order.worker);
let stopBefore: { readonly isFenced: boolean } | null = null;
let numbers = 0;

function say(message: FromWorker): void {
  process.send?.(message);
}

const context: Context = {
  order,
  recorder,
  random: new SeededRandom(order.seed),
  finish: null,
  wrong: (what) => recorder.write({ is: 'wrong', what }),
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
};

for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
  process.on(event, (error: unknown) => {
    context.wrong(`${event}: ${error instanceof Error ? error.stack : String(error)}`);
    process.exit(EXIT_WRONG);
  });
}

const job = JOBS[order.workload](context);

async function close(): Promise<void> {
  await job.close();
  recorder.close();
  // Nothing is left that could hold this process.
  process.disconnect();
  const tell = (): void => {
    process.stderr.write(
      `worker ${order.worker} is held by ${process.getActiveResourcesInfo().join()}\n`,
    );
  };
  setTimeout(tell, HELD_AFTER_MS).unref();
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
      context.finish = message;
      break;
    default:
      void close();
  }
});

say({ is: 'ready' });
await job.run();
say({ is: 'finished' });

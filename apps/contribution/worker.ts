/**
 * One instance of the application: a process that takes contributions from the queue and adds each to its total.
 *
 * With the guard `leasehold` it is the keyed consumer, which is all that an application has to write; the other guards
 * show what goes wrong without.
 */
import { subscribe } from 'node:diagnostics_channel';
import { type AcquiredMessage, CHANNELS, LockManager } from 'leasehold';
import { type Consumer, consume, republish } from 'leasehold/consumer';
import {
  add,
  type Contribution,
  NOTHING,
  parseContribution,
  type Total,
  totalCodec,
} from './contribution.ts';
import type { EngineNames } from './engine-names.ts';
import { lockStoreOf, openPlain, sourceOf, stateOf } from './engines.ts';
import { NaiveWorker } from './naive.ts';
import type { FromWorker, Job } from './worker-process.ts';

const REPORT_MS = 100;
/**
 * How long the store keeps the lease of an instance that was killed: the time for which its accounts stand still. A
 * live instance renews, and one that stalls for longer than this is stopped by the fence.
 */
const TTL_MS = 1_000;
/** An account that another instance holds is left to that instance for so long, in milliseconds. */
const WAIT_MS = 5_000;

interface Worker {
  start(): Promise<void>;
  stop(): Promise<void>;
  report(): Omit<Extract<FromWorker, { is: 'progress' }>, 'is' | 'waitsMs'>;
}

function contributionWorker({ engines, tasks }: Job): Worker {
  const locks = new LockManager({ store: lockStoreOf(engines), ttlMs: TTL_MS, waitMs: WAIT_MS });
  let consumer: Consumer | null = null;
  let busy = 0;
  return {
    async start() {
      consumer = contributionConsumer(engines, tasks, locks);
      void consumer.failed.then(crash);
      await consumer.ready;
    },
    async stop() {
      await consumer?.stop();
      await locks.close();
    },
    report() {
      const metrics = consumer?.metrics();
      if (!metrics) return { settled: 0, unsettled: 0, busy: 0, metrics: {} };
      const { delivered, inFlight, applied, duplicates, deadLettered, latency, outbox } = metrics;
      const dead = Object.values(deadLettered).reduce((sum, count) => sum + count, 0);
      const newlyBusy = metrics.busy - busy;
      busy = metrics.busy;
      return {
        settled: applied + dead,
        unsettled: inFlight,
        busy: newlyBusy,
        metrics: {
          delivered,
          applied,
          duplicates,
          busy,
          failed: metrics.failed,
          deadLettered: dead,
          batches: metrics.batches,
          engineErrors: metrics.engineErrors,
          latencyMsSum: latency.sumMs,
          latencyCount: latency.count,
          unsettled: inFlight,
          outboxEntries: outbox?.entries ?? 0,
          outboxOldestAgeMs: outbox?.oldestAgeMs ?? 0,
        },
      };
    },
  };
}

function contributionConsumer(engines: EngineNames, tasks: number, locks: LockManager): Consumer {
  return consume<Contribution, Total>({
    source: sourceOf(engines, tasks),
    locks,
    lockName: (account) => `contribution:${engines.scope}:${account}`,
    decode: decodeContribution,
    keyOf: (message) => message.body.account,
    state: stateOf(engines),
    stateCodec: totalCodec,
    reduce: (total, messages) =>
      messages.reduce((sum, message) => add(sum, message.body), total ?? NOTHING),
    keepState: true,
    waitMs: WAIT_MS,
    onBusy: republish({ delayMs: 500, maxAttempts: 100 }),
  });
}

function decodeContribution(content: Uint8Array): Contribution {
  const parsed = parseContribution(content);
  if (parsed.is === 'contribution') return parsed.contribution;
  throw new Error(parsed.is === 'blank' ? 'the message is empty' : parsed.reason);
}

function naiveWorker({ engines, tasks, guard }: Job): Worker {
  const totals = openPlain(engines);
  const source = sourceOf(engines, tasks);
  const worker = new NaiveWorker({ source, totals, withLock: guard === 'process' });
  return {
    start: () => worker.start(crash),
    async stop() {
      await worker.stop();
      await totals.close();
    },
    report: () => ({ ...worker.counts, busy: 0, metrics: {} }),
  };
}

/** Resolves when the message is on its way, so that a worker can end after its last one. */
function tell(message: FromWorker): Promise<void> {
  return new Promise((resolve) => {
    process.send?.(message, () => resolve());
  });
}

async function main(job: Job): Promise<void> {
  const waitsMs: number[] = [];
  subscribe(CHANNELS.acquired, (message) => {
    const { waitedMs } = message as AcquiredMessage;
    if (waitedMs !== null) waitsMs.push(waitedMs);
  });
  const worker = job.guard === 'leasehold' ? contributionWorker(job) : naiveWorker(job);
  const report = () => tell({ is: 'progress', ...worker.report(), waitsMs: waitsMs.splice(0) });

  const ended = new Promise<void>((resolve) => process.once('SIGTERM', () => resolve()));
  const told = new Promise<void>((resolve) => process.once('message', () => resolve()));
  await tell({ is: 'ready' });
  await Promise.race([told, ended]);
  await worker.start();
  const reporting = setInterval(() => void report(), REPORT_MS);
  await ended;
  await worker.stop();
  clearInterval(reporting);
  await report();
}

/**
 * Ends at once, whatever is going on. A kill is what queue, totals and locks are made for; an exit would wait for
 * transactions that wait for this thread.
 */
function crash(cause?: unknown): void {
  if (cause !== undefined) console.error(cause);
  process.kill(process.pid, 'SIGKILL');
}

// The terminal sends an interrupt to every process of its group: the parent, which gets it too, ends its workers.
process.on('SIGINT', () => {});
process.on('uncaughtException', crash);
// Without a parent there is nobody to work for; it may be gone already.
const orphan = (): void => crash();
process.on('disconnect', orphan);
if (!process.connected) orphan();

await main(JSON.parse(process.argv[2] ?? '{}'));
process.off('disconnect', orphan);
process.disconnect();

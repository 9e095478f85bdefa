/**
 * The service: contributions over HTTP into the queue, a pool of workers that applies them, and what can be looked at.
 */
import { mkdir } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { resolve } from 'node:path';
import type { ServeArguments } from '../arguments.ts';
import type { Contribution, Total } from '../contribution.ts';
import type { EngineNames } from '../engine-names.ts';
import { type ContributionPublisher, Engines } from '../engines.ts';
import { type FromWorker, startWorker, type ToWorker } from '../worker-process.ts';
import { type HttpParts, makeHttp } from './http.ts';
import { Metrics } from './metrics.ts';
import { Pool } from './pool.ts';

/** Messages that one worker is given at a time. */
const TASKS = 100;
const MAX_WORKERS = 64;

export async function serve(options: ServeArguments, signal: AbortSignal): Promise<void> {
  const names = await namesOf(options);
  const engines = await Engines.open(names);
  try {
    const publisher = await engines.publisher();
    try {
      await run(options, names, { engines, publisher, signal });
    } finally {
      await publisher.close();
    }
  } finally {
    await engines.close();
  }
}

interface Parts {
  readonly engines: Engines;
  readonly publisher: ContributionPublisher;
  readonly signal: AbortSignal;
}

async function run(
  options: ServeArguments,
  names: EngineNames,
  { engines, publisher, signal }: Parts,
): Promise<void> {
  const metrics = new Metrics();
  const pool = poolOf(names, metrics);
  const parts: HttpParts = {
    publish: (id: string, contribution: Contribution) => publisher.publish(id, contribution),
    total: (account: string): Promise<Total | null> => engines.total(account),
    async whatIsMissing() {
      if (pool.size > 0 && pool.running === 0) return 'no worker is running';
      return engines.whatIsMissing();
    },
    metrics: () => metrics.read(pool),
    onFault: (cause) => console.error(`${messageOf(cause)}`),
  };
  const server = await makeHttp(parts, options);
  pool.scale(options.workers);
  const unhook = scaleBySignals(pool);
  try {
    await server.listen({ host: options.host, port: options.port });
    const { address, port } = server.server.address() as AddressInfo;
    const count = `${options.workers} worker${options.workers === 1 ? '' : 's'}`;
    console.log(`listening on http://${address}:${port}, ${count}, ${engines.description}`);
    await aborted(signal);
    console.log('stopping');
  } finally {
    unhook();
    // First nothing comes in any more, then what is under way is done.
    await server.close();
    await pool.stop();
  }
}

function poolOf(names: EngineNames, metrics: Metrics): Pool {
  let lastInstance = 0;
  return new Pool({
    start() {
      lastInstance += 1;
      return startWorker({
        instance: lastInstance,
        tasks: TASKS,
        guard: 'leasehold',
        engines: names,
      });
    },
    onMessage(worker, message) {
      const heard = message as FromWorker;
      const order: ToWorker = 'go';
      if (heard.is === 'ready') worker.send(order, () => {});
      else metrics.hear(worker.pid ?? 0, heard.metrics);
    },
    onEnd(worker, how, isWanted) {
      metrics.forget(worker.pid ?? 0);
      console.log(`worker ${worker.pid} ended (${how})${isWanted ? '' : ', another one follows'}`);
    },
  });
}

/** As other servers with worker processes have it: TTIN for one more, TTOU for one less. */
function scaleBySignals(pool: Pool): () => void {
  const more = (): void => pool.scale(Math.min(MAX_WORKERS, pool.size + 1));
  const less = (): void => pool.scale(Math.max(0, pool.size - 1));
  process.on('SIGTTIN', more);
  process.on('SIGTTOU', less);
  return () => {
    process.off('SIGTTIN', more);
    process.off('SIGTTOU', less);
  };
}

async function namesOf({ amqp, redis, locks, data, queue }: ServeArguments): Promise<EngineNames> {
  const folder = resolve(data ?? '.leasehold', queue);
  await mkdir(folder, { recursive: true });
  return { amqp, redis, locks, folder, scope: queue };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
}

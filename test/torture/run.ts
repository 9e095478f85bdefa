/** One run: servers, workers, faults, and what the history says when all has healed. */
import { setTimeout } from 'node:timers/promises';
import { removeFolder, temporaryFolder } from '../servers/processes.ts';
import { judgeLeases, type LeaseFindings } from './checkers/leases.ts';
import { judgeQueue, type QueueFindings } from './checkers/queue.ts';
import { judgeRegisters, keysOf, type RegisterFindings } from './checkers/register.ts';
import { findFaketime } from './clock.ts';
import { Crew } from './crew.ts';
import type { Engine, EngineKind } from './engines/engine.ts';
import { ENGINES } from './engines/index.ts';
import { type Entry, nowUs, readHistory } from './history.ts';
import { type Deeds, torture } from './nemesis.ts';
import { keysAt, type Subject, type WorkloadName } from './orders.ts';
import { type Fault, idleFaults, makePlan, mayCostExclusion, type PlanOptions } from './plan.ts';

export interface RunOptions {
  readonly store: string;
  readonly workload: WorkloadName;
  readonly subject: Subject;
  readonly faults: readonly Fault[];
  readonly seconds: number;
  readonly seed: number;
}

export interface RunResult {
  /** Faults that were asked for, and that there is nothing to do with. */
  readonly idle: readonly Fault[];
  readonly injected: Readonly<Record<string, number>>;
  readonly ranMs: number;
  readonly leases: LeaseFindings;
  readonly fenced: RegisterFindings;
  readonly plain: RegisterFindings;
  readonly queue: QueueFindings;
  /** Whether the store's page says that such faults may let two hold a key at once … */
  readonly mayOverlap: boolean;
  /** … and, with two masters for a while, that the tokens of one may be below those of the other. */
  readonly mayFork: boolean;
  /** From the end of the last fault until everybody had been served on every key. */
  readonly healedInMs: number;
  readonly violations: readonly string[];
}

export const WORKERS = 3;
export const TASKS = 2;
export const TTL_MS = 800;
/** After the last fault, everybody has every key within this time. */
export const SERVED_WITHIN_MS = 20_000;
/** A worker that has closed everything ends by itself, and what was held ends by its ttl. */
const GONE_WITHIN_MS = 10_000;
const LOOK_EVERY_MS = 500;

export async function run(options: RunOptions): Promise<RunResult> {
  const kind = ENGINES[options.store] as EngineKind;
  const faketime = options.faults.includes('clock') ? findFaketime() : null;
  const folder = temporaryFolder();
  const engine = await kind.start(faketime);
  try {
    return await runOn(options, kind, engine, folder, faketime);
  } finally {
    await engine.close();
    removeFolder(folder);
  }
}

async function runOn(
  options: RunOptions,
  kind: EngineKind,
  engine: Engine,
  folder: string,
  faketime: string | null,
): Promise<RunResult> {
  const planOptions = planOptionsOf(options, engine, faketime);
  const plan = makePlan(planOptions);
  const startedUs = nowUs();
  const { place, servers } = engine;
  const { subject, workload, store, seed } = options;
  const crew = await Crew.start({
    order: { subject, workload, engine: store, place, tasks: TASKS, ttlMs: TTL_MS, startedUs },
    seed,
    size: WORKERS,
    folder,
    ports: servers.map(({ port }) => port),
    faketime,
  });
  try {
    const lookout = new Lookout(options, engine, crew);
    const deeds = await torture(plan, crew, engine, () => lookout.hasSeenLoss);
    await lookout.end(startedUs);
    const ranMs = (nowUs() - startedUs) / 1_000;
    const served = await finish(crew, keysAt(workload, startedUs, nowUs()));
    const gone = await close(crew, engine);
    const entries = readHistory(crew.files);
    const findings = await judge(entries, engine, deeds);
    const mayOverlap = mayCostExclusion(plan, kind.weakness);
    const mayFork = mayOverlap && kind.weakness === 'a server that is down';
    return {
      ...findings,
      idle: idleFaults(planOptions),
      injected: deeds.counts,
      ranMs,
      mayOverlap,
      mayFork,
      healedInMs: served.afterMs,
      violations: [
        ...crew.wrong,
        ...served.violations,
        ...gone,
        ...violationsOf(findings, { mayOverlap, mayFork }, kind.keepsOrder),
        ...entries.flatMap((one) => (one.is === 'wrong' ? `${one.worker}: ${one.what}` : [])),
      ],
    };
  } finally {
    for (const server of servers) server.resume();
    await crew.close();
  }
}

function planOptionsOf(options: RunOptions, engine: Engine, faketime: string | null): PlanOptions {
  const durationMs = options.seconds * 1_000;
  const isQueue = options.workload === 'queue';
  const { servers } = engine;
  return {
    seed: options.seed,
    faults: options.faults,
    durationMs,
    // Order is judged where nothing fails.
    workersUntilMs: isQueue ? durationMs * 0.7 : durationMs,
    serversUntilMs: isQueue ? durationMs * 0.4 : durationMs,
    hasValues: !isQueue,
    ttlMs: TTL_MS,
    targets: {
      workers: WORKERS,
      servers: servers.length,
      forgetful: servers.filter(({ forget }) => forget).length,
      clocks: servers.filter(({ setClock }) => setClock).length,
      hasFaketime: faketime !== null,
    },
  };
}

/** Ends the run of a peer as soon as it has lost an update: more were acknowledged than the number says. */
class Lookout {
  hasSeenLoss = false;
  readonly #options: RunOptions;
  readonly #engine: Engine;
  readonly #crew: Crew;
  readonly #timer: NodeJS.Timeout;

  constructor(options: RunOptions, engine: Engine, crew: Crew) {
    this.#options = options;
    this.#engine = engine;
    this.#crew = crew;
    const isWanted = options.subject !== 'leasehold' && options.workload === 'register';
    this.#timer = setInterval(() => {
      if (isWanted) void this.#look().catch(() => {});
    }, LOOK_EVERY_MS);
  }

  /** Without faults that take up the time, the run lasts as long all the same. */
  async end(startedUs: number): Promise<void> {
    const endUs = startedUs + this.#options.seconds * 1_000_000;
    while (!this.hasSeenLoss && nowUs() < endUs) await setTimeout(LOOK_EVERY_MS / 10);
    clearInterval(this.#timer);
  }

  async #look(): Promise<void> {
    const entries = readHistory(this.#crew.files);
    const acknowledged = new Map<string, number>();
    const keyOf = new Map<string, string>();
    for (const entry of entries) {
      if (entry.is === 'reads') keyOf.set(entry.op, entry.key);
      if (entry.is !== 'ended' || entry.outcome !== 'done') continue;
      const key = keyOf.get(entry.op) ?? '';
      acknowledged.set(key, (acknowledged.get(key) ?? 0) + 1);
    }
    for (const [key, count] of acknowledged) {
      const value = Number.parseInt((await this.#engine.values.getPlain(key)) ?? '0', 10);
      if (value < count) this.hasSeenLoss = true;
    }
  }
}

/** Has everybody work once more on every key, now that nothing fails. */
async function finish(
  crew: Crew,
  keys: readonly string[],
): Promise<{ afterMs: number; violations: string[] }> {
  const startMs = performance.now();
  for (const worker of crew.workers) worker.tell({ is: 'finish', keys });
  const isServed = (): boolean => crew.workers.every((worker) => worker.hasSaid('finished'));
  while (!isServed() && performance.now() - startMs < SERVED_WITHIN_MS) await setTimeout(5);
  const violations = crew.workers
    .filter((worker) => !worker.hasSaid('finished'))
    .map(({ index }) => `worker ${index} was not served within ${SERVED_WITHIN_MS} ms`);
  return { afterMs: Math.round(performance.now() - startMs), violations };
}

/** Everybody gives back what they have, and ends; then nothing is left. */
async function close(crew: Crew, engine: Engine): Promise<string[]> {
  const startMs = performance.now();
  for (const worker of crew.workers) worker.tell({ is: 'close' });
  const isOver = (): boolean => performance.now() - startMs > GONE_WITHIN_MS;
  while (crew.workers.some(({ isRunning }) => isRunning) && !isOver()) await setTimeout(5);
  const violations = crew.workers
    .filter(({ isRunning }) => isRunning)
    .map(({ index }) => `worker ${index} closed its manager and did not end`);
  await Promise.all(crew.workers.map((worker) => worker.kill()));
  let left = await engine.leftovers();
  while (left.length > 0 && !isOver()) {
    await setTimeout(50);
    left = await engine.leftovers();
  }
  return [...violations, ...left.map((key) => `left in the store: ${key}`)];
}

type Findings = Pick<RunResult, 'leases' | 'fenced' | 'plain' | 'queue'>;

async function judge(entries: readonly Entry[], engine: Engine, deeds: Deeds): Promise<Findings> {
  const { values } = engine;
  const fenced = new Map<string, string | null>();
  for (const key of keysOf(entries, true)) fenced.set(key, await values.peek(key));
  const plain = new Map<string, string | null>();
  for (const key of keysOf(entries, false)) plain.set(key, await values.getPlain(key));
  return {
    leases: judgeLeases(entries),
    fenced: judgeRegisters(entries, true, fenced),
    plain: judgeRegisters(entries, false, plain),
    queue: judgeQueue(entries, deeds.intervals),
  };
}

function violationsOf(
  findings: Findings,
  { mayOverlap, mayFork }: Pick<RunResult, 'mayOverlap' | 'mayFork'>,
  keepsOrder: boolean,
): string[] {
  const { leases, fenced, queue } = findings;
  const all = (what: string, found: readonly string[]): string[] =>
    found.map((one) => `${what}: ${one}`);
  return [
    ...all('a fenced update was lost', fenced.lost),
    ...all('a fenced value is not linearizable', fenced.notLinearizable),
    ...all('whether a fenced value is linearizable could not be decided', fenced.undecided),
    ...all('a token is too low', mayFork ? [] : leases.tokens),
    ...all('a caller was overtaken in its process', leases.overtaken),
    ...all('two leases were valid at once', mayOverlap ? [] : leases.overlaps),
    ...all('a waiter was overtaken', keepsOrder && !mayFork ? queue.inversions : []),
  ];
}

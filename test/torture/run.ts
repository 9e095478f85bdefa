/** One run: servers, workers, faults, and what the history says when all has healed. */
import { setTimeout } from 'node:timers/promises';
import { removeFolder, temporaryFolder } from '../servers/processes.ts';
import { judgeLeases, type LeaseFindings } from './checkers/leases.ts';
import { accountsOf, judgeLedger, type LedgerFindings } from './checkers/ledger.ts';
import { judgeQueue, type QueueFindings } from './checkers/queue.ts';
import { judgeRegisters, keysOf, type RegisterFindings } from './checkers/register.ts';
import { findFaketime } from './clock.ts';
import { Crew } from './crew.ts';
import type { Engine, EngineKind, EngineServer, Tools } from './engines/engine.ts';
import { ENGINES } from './engines/index.ts';
import { hasOwnNetwork } from './engines/own-network.ts';
import { type Entry, nowUs, readHistory } from './history.ts';
import { Lookout } from './lookout.ts';
import { type Deeds, torture } from './nemesis.ts';
import { keysAt, type Subject, type WorkloadName } from './orders.ts';
import { type Fault, idleFaults, makePlan, mayCostExclusion, type PlanOptions } from './plan.ts';
import { parseLedger, startLedger } from './values/ledger.ts';
import type { Onlooker, ValuesPlace } from './values/values.ts';

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
  readonly fencedLedger: LedgerFindings;
  readonly plainLedger: LedgerFindings;
  /** Whether links between the servers of the engine could be cut. */
  readonly cutsServers: boolean;
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

export async function run(options: RunOptions): Promise<RunResult> {
  const kind = ENGINES[options.store] as EngineKind;
  const tools: Tools = {
    faketime: options.faults.includes('clock') ? findFaketime() : null,
    hasOwnNetwork: hasOwnNetwork(),
  };
  const folder = temporaryFolder();
  const engine = await kind.start(tools);
  try {
    const values = await (options.workload === 'ledger' ? startLedger() : kind.values.start());
    try {
      return await runOn(options, { kind, engine, values, folder, tools });
    } finally {
      await values.close();
    }
  } finally {
    await engine.close();
    removeFolder(folder);
  }
}

interface Stage {
  readonly kind: EngineKind;
  readonly engine: Engine;
  readonly values: ValuesPlace;
  readonly folder: string;
  readonly tools: Tools;
}

async function runOn(options: RunOptions, stage: Stage): Promise<RunResult> {
  const { kind, engine, values, folder, tools } = stage;
  const servers = [...engine.servers, ...values.servers];
  const planOptions = planOptionsOf(options, servers, tools);
  const plan = makePlan(planOptions);
  const startedUs = nowUs();
  const { subject, workload, store, seed } = options;
  const common = { subject, workload, engine: store, tasks: TASKS, ttlMs: TTL_MS, startedUs };
  const crew = await Crew.start({
    order: { ...common, place: engine.place, valuesPlace: values.place },
    seed,
    size: WORKERS,
    folder,
    ports: servers.map(({ port }) => port),
    faketime: tools.faketime,
  });
  try {
    const { onlooker } = values;
    const lookout = new Lookout(options, onlooker, crew);
    const deeds = await torture(plan, { crew, servers, onlooker }, () => lookout.hasSeenLoss);
    await lookout.end(startedUs + options.seconds * 1_000_000);
    const ranMs = (nowUs() - startedUs) / 1_000;
    const served = await finish(crew, onlooker, keysAt(workload, startedUs, nowUs()));
    const gone = await close(crew, engine);
    const entries = readHistory(crew.files);
    const findings = await judge(entries, onlooker, deeds);
    const mayOverlap = mayCostExclusion(plan, kind.weakness);
    const mayFork = mayOverlap && kind.weakness === 'a server that is down';
    return {
      ...findings,
      idle: idleFaults(planOptions),
      injected: deeds.counts,
      ranMs,
      cutsServers: planOptions.targets.linked > 0,
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

function planOptionsOf(
  options: RunOptions,
  servers: readonly EngineServer[],
  { faketime }: Tools,
): PlanOptions {
  const durationMs = options.seconds * 1_000;
  const isQueue = options.workload === 'queue';
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
      linked: servers.filter(({ cutOff }) => cutOff).length,
      hasFaketime: faketime !== null,
    },
  };
}

/** Has everybody work once more on every key, and every posting entered, now that nothing fails. */
async function finish(
  crew: Crew,
  onlooker: Onlooker,
  keys: readonly string[],
): Promise<{ afterMs: number; violations: string[] }> {
  const startMs = performance.now();
  const isOver = (): boolean => performance.now() - startMs > SERVED_WITHIN_MS;
  for (const worker of crew.workers) worker.tell({ is: 'finish', keys });
  const isServed = (): boolean => crew.workers.every((worker) => worker.hasSaid('finished'));
  while (!isServed() && !isOver()) await setTimeout(5);
  while ((await missingPostings(crew, onlooker)) > 0 && !isOver()) await setTimeout(20);
  const violations = crew.workers
    .filter((worker) => !worker.hasSaid('finished'))
    .map(({ index }) => `worker ${index} was not served within ${SERVED_WITHIN_MS} ms`);
  return { afterMs: Math.round(performance.now() - startMs), violations };
}

async function missingPostings(crew: Crew, onlooker: Onlooker): Promise<number> {
  const entries = readHistory(crew.files);
  return judgeLedger(entries, true, await fencedAccounts(entries, onlooker)).missing.length;
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

type Findings = Pick<
  RunResult,
  'leases' | 'fenced' | 'plain' | 'queue' | 'fencedLedger' | 'plainLedger'
>;

async function judge(
  entries: readonly Entry[],
  onlooker: Onlooker,
  deeds: Deeds,
): Promise<Findings> {
  const fenced = new Map<string, string | null>();
  for (const key of keysOf(entries, true)) fenced.set(key, await onlooker.peek(key));
  const plain = new Map<string, string | null>();
  for (const key of keysOf(entries, false)) plain.set(key, await onlooker.getPlain(key));
  const plainAccounts = new Map<string, readonly string[]>();
  for (const key of accountsOf(entries, false)) {
    plainAccounts.set(key, parseLedger(await onlooker.getPlain(key)));
  }
  return {
    leases: judgeLeases(entries),
    fenced: judgeRegisters(entries, true, fenced),
    plain: judgeRegisters(entries, false, plain),
    queue: judgeQueue(entries, deeds.intervals),
    fencedLedger: judgeLedger(entries, true, await fencedAccounts(entries, onlooker)),
    plainLedger: judgeLedger(entries, false, plainAccounts),
  };
}

async function fencedAccounts(
  entries: readonly Entry[],
  onlooker: Onlooker,
): Promise<Map<string, readonly string[]>> {
  const accounts = new Map<string, readonly string[]>();
  for (const key of accountsOf(entries, true)) {
    accounts.set(key, parseLedger(await onlooker.peek(key)));
  }
  return accounts;
}

function violationsOf(
  findings: Findings,
  { mayOverlap, mayFork }: Pick<RunResult, 'mayOverlap' | 'mayFork'>,
  keepsOrder: boolean,
): string[] {
  const { leases, fenced, queue, fencedLedger } = findings;
  const all = (what: string, found: readonly string[]): string[] =>
    found.map((one) => `${what}: ${one}`);
  return [
    ...all('a fenced update was lost', fenced.lost),
    ...all('a fenced value is not linearizable', fenced.notLinearizable),
    ...all('whether a fenced value is linearizable could not be decided', fenced.undecided),
    ...all('an acknowledged message is missing', fencedLedger.missing),
    ...all('a message was applied twice', fencedLedger.twice),
    ...all('a message was applied that nobody has published', fencedLedger.invented),
    ...all('a token is too low', mayFork ? [] : leases.tokens),
    ...all('a caller was overtaken in its process', leases.overtaken),
    ...all('two leases were valid at once', mayOverlap ? [] : leases.overlaps),
    ...all('a waiter was overtaken', keepsOrder && !mayFork ? queue.inversions : []),
  ];
}

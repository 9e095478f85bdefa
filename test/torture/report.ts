/** What a run has shown, for people and for programs. */
import type { Arguments } from './arguments.ts';
import { ENGINES } from './engines/index.ts';
import type { WorkloadName } from './orders.ts';
import type { Fault } from './plan.ts';
import { type RunResult, TASKS, TTL_MS, WORKERS } from './run.ts';
import { LEDGER_IS } from './values/ledger.ts';

export interface Control {
  readonly name: string;
  /** What it did, and how much of that was wrong. */
  readonly operations: number;
  readonly wrong: number;
}

export interface Report {
  readonly store: string;
  readonly workload: WorkloadName;
  readonly seed: number;
  readonly seconds: number;
  readonly faults: readonly Fault[];
  readonly idleFaults: readonly Fault[];
  readonly processes: number;
  readonly tasks: number;
  readonly ttlMs: number;
  readonly cutsServers: boolean;
  readonly injected: Readonly<Record<string, number>>;
  readonly leases: number;
  readonly refusedLeases: Readonly<Record<string, number>>;
  readonly fenced: Counts;
  /** Messages that were published for certain, and those of which nobody knows. */
  readonly ledger: { readonly posted: number; readonly unknown: number };
  readonly orderJudged: number;
  readonly overlaps: number;
  readonly mayOverlap: boolean;
  readonly lowTokens: number;
  readonly mayFork: boolean;
  readonly healedInMs: number;
  readonly controls: readonly Control[];
  readonly violations: readonly string[];
  /** Whether a control that must go wrong did. */
  readonly proves: boolean;
}

interface Counts {
  readonly reads: number;
  readonly updates: number;
  readonly unknown: number;
  readonly refused: number;
}

export function reportOf(options: Arguments, ours: RunResult, peer: RunResult | null): Report {
  const { store, workload, seed, seconds, faults } = options;
  const { fenced, leases, queue, fencedLedger } = ours;
  const controls = CONTROLS[workload](ours, peer);
  return {
    store,
    workload,
    seed,
    seconds,
    faults,
    idleFaults: ours.idle,
    processes: WORKERS,
    tasks: WORKERS * TASKS,
    ttlMs: TTL_MS,
    cutsServers: ours.cutsServers,
    injected: ours.injected,
    leases: workload === 'ledger' ? queue.granted : leases.granted,
    refusedLeases: leases.refused,
    fenced: {
      reads: fenced.reads,
      updates: fenced.updates,
      unknown: fenced.unknown,
      refused: fenced.refused,
    },
    ledger: { posted: fencedLedger.posted, unknown: fencedLedger.unknown },
    orderJudged: queue.judged,
    overlaps: leases.overlaps.length,
    mayOverlap: ours.mayOverlap,
    lowTokens: leases.tokens.length,
    mayFork: ours.mayFork,
    healedInMs: ours.healedInMs,
    controls,
    violations: ours.violations,
    proves:
      controls.length > 0 &&
      controls.every(({ wrong }) => wrong > 0) &&
      (workload !== 'queue' || queue.judged > 0),
  };
}

const OURS_UNFENCED = 'the same locks and faults, without the fence';
const PEER = 'redis-semaphore in their place';

/** What must go wrong, in ours where nothing fences it, and in the peer. */
const CONTROLS: Record<WorkloadName, (ours: RunResult, peer: RunResult | null) => Control[]> = {
  register(ours, peer) {
    const of = (name: string, { plain }: RunResult): Control => ({
      name,
      operations: plain.updates,
      wrong: plain.lost.length,
    });
    return [of(OURS_UNFENCED, ours), ...(peer ? [of(PEER, peer)] : [])];
  },
  ledger(ours, peer) {
    const of = (name: string, { plainLedger }: RunResult): Control => ({
      name,
      operations: plainLedger.posted,
      wrong: plainLedger.missing.length,
    });
    return [of(OURS_UNFENCED, ours), ...(peer ? [of(PEER, peer)] : [])];
  },
  queue(_, peer) {
    if (peer === null) return [];
    const { judged, inversions } = peer.queue;
    return [{ name: PEER, operations: judged, wrong: inversions.length }];
  },
};

const MAX_SHOWN = 20;

export function describe(report: Report): string {
  const { violations, controls } = report;
  const list = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .map(([what, count]) => `${count} x ${what}`)
      .join(', ') || 'none';
  const lines = [
    `${report.store}, ${report.workload}, seed ${report.seed}, ${report.seconds} s, ` +
      `${report.tasks} tasks in ${report.processes} processes, ttl ${report.ttlMs} ms`,
    `faults      ${list(report.injected)}`,
    ...(report.idleFaults.length > 0
      ? [`            nothing to do for ${report.idleFaults.join(', ')} here`]
      : []),
    ...(ENGINES[report.store]?.hasLinks && !report.cutsServers
      ? ['            links between servers are not cut here']
      : []),
    `leases      ${report.leases} granted; refused: ${list(report.refusedLeases)}`,
    workOf(report),
    `overlaps    ${report.overlaps} (${report.mayOverlap ? 'the faults allow them' : 'none allowed'})`,
    `low tokens  ${report.lowTokens} (${report.mayFork ? 'the faults allow them' : 'none allowed'})`,
    `healed in   ${report.healedInMs} ms`,
    ...controls.map((one) => `control     ${one.name}: ${one.wrong} of ${one.operations} wrong`),
    ...violations.slice(0, MAX_SHOWN).map((one) => `WRONG       ${one}`),
  ];
  if (violations.length > MAX_SHOWN)
    lines.push(`            and ${violations.length - MAX_SHOWN} more`);
  if (!report.proves)
    lines.push(
      'PROVES NOTHING: a control that must go wrong did not, or there was nothing to judge',
    );
  if (violations.length === 0) lines.push('nothing is wrong');
  return lines.join('\n');
}

function workOf({ workload, store, fenced, ledger, orderJudged }: Report): string {
  switch (workload) {
    case 'queue':
      return `order       ${orderJudged} pairs of waiters judged`;
    case 'ledger':
      return `messages    ${ledger.posted} published, ${ledger.unknown} of unknown outcome; the ledger is ${LEDGER_IS}`;
    default:
      return (
        `fenced      ${fenced.updates} updates, ${fenced.reads} reads, ${fenced.unknown} of unknown outcome, ` +
        `${fenced.refused} refused by the fence; values are ${ENGINES[store]?.values.are}`
      );
  }
}

import {
  ADD_COLUMNS,
  addInTurns,
  type Entry,
  LIMIT,
  type Outcome,
  type Round,
  rowOf,
  waitsOf,
} from '../adding.ts';
import { contender, NO_LOCK, OURS, peers } from '../contenders.ts';
import { withCrew } from '../crew.ts';
import { tail } from '../histogram.ts';
import {
  atLeast,
  atMost,
  type Check,
  type Column,
  type Effort,
  median,
  type Plot,
  type Report,
  type Table,
  type Workload,
} from '../measure.ts';
import { withServer } from '../server.ts';

const NAME = 'hot-key';
const SIZES = [
  { processes: 2, tasks: 8 },
  { processes: 4, tasks: 25 },
] as const;
const COLUMNS: readonly Column[] = [
  ...ADD_COLUMNS,
  { key: 'mostPassed', label: 'others served in a wait, most', digits: 0 },
];
/** Of these, the fastest is taken for each peer. */
const POLLS_MS = [1, 5, 20] as const;
const QUICK_POLLS_MS = [5] as const;
/** Beside the default of 32: longer tenancies have fewer hand-overs, and longer waits. */
const PASSES = [8, 128, 512] as const;

export const hotKey: Workload = {
  name: NAME,
  summary: 'one key that all want all the time: read a number from Redis, add one, write it back',
  run: (effort) =>
    withServer((server) =>
      withCrew(SIZES[1].processes, async (crew) => {
        const sizes = effort.isQuick ? SIZES.slice(0, 1) : SIZES;
        const parts: Part[] = [];
        for (const size of sizes) {
          const outcomes = await addInTurns(server, crew, entriesOf(size, effort), effort);
          parts.push({ ...size, outcomes });
        }
        return report(parts);
      }),
    ),
};

interface Part {
  readonly processes: number;
  readonly tasks: number;
  readonly outcomes: readonly Outcome[];
}

function entriesOf(size: { processes: number; tasks: number }, effort: Effort): Entry[] {
  const one = { ...size, keys: 1 };
  const polls = effort.isQuick ? QUICK_POLLS_MS : POLLS_MS;
  return [
    LIMIT,
    { name: OURS, contender: contender(OURS), ...one },
    ...(effort.isQuick ? [] : PASSES).map((maxPasses) => {
      const name = `${OURS}, ${maxPasses} passes`;
      return { name, contender: { ...contender(OURS), name, maxPasses }, ...one };
    }),
    ...peers(effort.isQuick ? [] : [null]).map((peer) => ({
      name: peer.name,
      contender: peer,
      ...one,
    })),
    ...peers(polls).map((peer) => ({
      name: peer.name,
      contender: peer,
      tuning: peer.package,
      ...one,
    })),
    { name: 'no lock, all tasks', contender: contender(NO_LOCK), ...one },
  ];
}

function report(parts: readonly Part[]): Report {
  return {
    workload: NAME,
    tables: parts.map(tableOf),
    checks: parts.slice(0, 1).flatMap(checksOf),
    notes: [
      'each peer has its defaults, and of polling every 1, 5 and 20 ms what was fastest in a first round',
      'others served in a wait: how often the number had grown between two sections of one task; by the clock, the longest wait has the longest stall of the machine in it',
      'longest section: the GET and the SET, whoever makes them and under whatever lock',
      'commands each: what all clients send for an operation, beyond the GET and SET of its work',
      'leasehold has its default, 32 passes while another process waits, and fewer and more: what that does to speed and waits',
      'the last row has no lock, so that its sum is wrong: it shows that the check bites',
    ],
    plots: parts.map(plotOf),
  };
}

function tableOf({ processes, tasks, outcomes }: Part): Table {
  return {
    title: `${processes} processes of ${tasks} tasks`,
    columns: COLUMNS,
    rows: outcomes.map(rowOf),
  };
}

function checksOf({ processes, tasks, outcomes }: Part): Check[] {
  const ours = outcomes.find(({ entry }) => entry.name === OURS);
  if (ours === undefined || ours.rounds.length === 0) return [];
  const of = (value: (round: Round) => number): number => median(ours.rounds.map(value));
  // A round of all waiters serves each of them once, and by the clock takes as long as that takes.
  const clockRounds = of(
    ({ longestWaitMs, perSecond }) => longestWaitMs / ((processes * tasks * 1_000) / perSecond),
  );
  const rounds =
    Math.max(...ours.rounds.map(({ mostPassed }) => mostPassed + 1)) / (processes * tasks);
  const size = `${processes} x ${tasks}`;
  const best = Math.max(
    ...outcomes
      .filter(
        ({ entry }) => entry.contender.package !== NO_LOCK && entry.contender.package !== OURS,
      )
      .flatMap((peer) => median(peer.rounds.map(({ perSecond }) => perSecond)) || 0),
  );
  return [
    atLeast(
      `${size}: of one process alone without a lock`,
      of(({ ratio }) => ratio),
      1.2,
    ),
    atLeast(`${size}: of the best peer`, of(({ perSecond }) => perSecond) / best, 1),
    atMost(`${size}: longest wait, in rounds of all waiters`, rounds, 3),
    atMost(`${size}: longest wait, in rounds by the clock`, clockRounds, 3),
    atLeast(
      `${size}: share of the process that had less`,
      of(({ leastShare }) => leastShare),
      0.95,
    ),
    atMost(
      `${size}: commands beyond those of the work`,
      of(({ commands }) => commands),
      0.5,
    ),
  ];
}

function plotOf({ processes, tasks, outcomes }: Part): Plot {
  const shown = outcomes.filter(
    ({ entry, rounds }) => entry.contender.package !== NO_LOCK && rounds.length > 0,
  );
  return {
    file: `hot-key-${processes}x${tasks}-waits`,
    title: `Waits for one key, ${processes} processes of ${tasks} tasks`,
    x: { label: 'wait, ms', isLog: true },
    y: { label: 'share of waits that are longer', isLog: true },
    series: shown.map(({ entry, rounds }) => ({
      name: entry.name,
      points: tail(waitsOf(rounds)),
    })),
  };
}

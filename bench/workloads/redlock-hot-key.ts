/**
 * One key on three independent masters that sixteen tasks of two processes want all the time: this package, and the
 * Redlock of its peers. The work under the lock reads a number from a fourth server, adds one and writes it back.
 */
import {
  ADD_COLUMNS,
  addInTurns,
  type Entry,
  LIMIT,
  type Outcome,
  type Round,
  rowOf,
} from '../adding.ts';
import { contender, OURS, peers } from '../contenders.ts';
import { withCrew } from '../crew.ts';
import { withMasters } from '../masters.ts';
import {
  atLeast,
  atMost,
  type Check,
  type Effort,
  median,
  type Report,
  type Row,
  type Workload,
} from '../measure.ts';
import { type BenchServer, withServer } from '../server.ts';

const NAME = 'redlock-hot-key';
const NODES = 3;
const PROCESSES = 2;
const TASKS = 8;
const MIN_OF_PEERS = 3;
/** The defaults of a `LockManager` on Redlock: what the fairness bound is made of, see docs/ARCHITECTURE.md. */
const MAX_PASSES = 96;
const MAX_PASS_MS = 100;
/** A contender that goes on for so long after its time has come to a stand. */
const MAX_LATE_MS = 10_000;
const QUICK_MAX_LATE_MS = 3_000;
/** Of these and its default, the fastest is taken for each peer. */
const POLLS_MS = [5, 20] as const;
/** Longer rounds than where one server has the locks: some peers take them seldom. */
const ROUND_SHARE = 3;

export const redlockHotKey: Workload = {
  name: NAME,
  summary: `one key on ${NODES} independent masters, ${PROCESSES} processes of ${TASKS} tasks`,
  run: (effort) =>
    withMasters(NODES, (masters) =>
      withServer((server) =>
        withCrew(PROCESSES, async (crew) => {
          const longer = { ...effort, roundMs: effort.roundMs * ROUND_SHARE };
          return report(await addInTurns(server, crew, entriesOf(masters, effort), longer));
        }),
      ),
    ),
};

function entriesOf(masters: readonly BenchServer[], { isQuick }: Effort): Entry[] {
  const polls = isQuick ? POLLS_MS.slice(0, 1) : [null, ...POLLS_MS];
  const able = peers(polls).filter(({ package: name }) => name !== '@verrou/core');
  const maxLateMs = isQuick ? QUICK_MAX_LATE_MS : MAX_LATE_MS;
  const all = { processes: PROCESSES, tasks: TASKS, keys: 1, masters, maxLateMs };
  return [
    LIMIT,
    { name: OURS, contender: contender(OURS), ...all },
    ...able.map((peer) => ({ name: peer.name, contender: peer, tuning: peer.package, ...all })),
  ];
}

function report(outcomes: readonly Outcome[]): Report {
  const ours = outcomes.find(({ entry }) => entry.name === OURS) as Outcome;
  const others = outcomes.filter(({ entry }) => entry.tuning !== undefined);
  // Round by round, since the speed of the machine drifts.
  const timesOf = (peer: Outcome): number =>
    median(ours.rounds.flatMap((round, at) => round.perSecond / (peer.rounds[at]?.perSecond ?? 0)));
  const best = Math.min(...others.filter(({ invalid }) => invalid === undefined).map(timesOf));
  const waited = median(ours.rounds.map((round) => round.longestWaitMs / boundOf(round)));
  const row = (outcome: Outcome): Row => {
    const made = rowOf(outcome);
    if (outcome.invalid !== undefined || outcome.entry.tuning === undefined) return made;
    return { ...made, figures: { ...made.figures, times: timesOf(outcome) } };
  };
  const checks: Check[] = [
    atLeast('of the best peer', best, MIN_OF_PEERS),
    atMost('longest wait, of the fairness bound', waited, 1),
  ];
  return {
    workload: NAME,
    tables: [
      {
        title: `${PROCESSES} processes of ${TASKS} tasks`,
        columns: [...ADD_COLUMNS, { key: 'times', label: 'ours is so many times', digits: 1 }],
        rows: outcomes.map(row),
      },
    ],
    checks,
    notes: [
      'each peer with its defaults or polling every 5 or 20 ms, whichever was fastest in a first round',
      'the fairness bound: 96 passes or 100 ms, and one hold, by the longest hold of a round; messages are left out',
      'server µs: of the server with the number; every sum of every round was right; @verrou/core has no Redlock',
    ],
    plots: [],
  };
}

/** How long this package may let the other process wait, by its longest hold, messages left out, in milliseconds. */
function boundOf({ longestHoldMs }: Round): number {
  return Math.min(MAX_PASSES * longestHoldMs, MAX_PASS_MS) + longestHoldMs;
}

import { setTimeout } from 'node:timers/promises';
import { BARE_PUBLISH, contender, OURS, peers } from '../contenders.ts';
import { type Crew, withCrew } from '../crew.ts';
import type { HandOverResult } from '../jobs.ts';
import {
  atMost,
  type Column,
  type Effort,
  median,
  percentile,
  type Row,
  type Workload,
  warmUpMs,
} from '../measure.ts';
import { type BenchServer, withServer } from '../server.ts';

const PROCESSES = 2;
const HOLD_MS = 4;
const PINGS = 200;
/** Round trips of a hold that keeps everything awake. */
const HOLD_PINGS = 4;
const MAX_ROUND_TRIPS = 2;
const COLUMNS: readonly Column[] = [
  { key: 'p50Ms', label: 'p50 ms', digits: 2 },
  { key: 'p99Ms', label: 'p99 ms', digits: 2 },
  { key: 'roundTrips', label: 'round trips', digits: 1 },
  { key: 'busyRoundTrips', label: 'busy round trips', digits: 1 },
  { key: 'count', label: 'hand-overs', digits: 0 },
];
const AWAKE_COLUMNS: readonly Column[] = [
  { key: 'p50Ms', label: 'p50 ms', digits: 3 },
  { key: 'p99Ms', label: 'p99 ms', digits: 3 },
  { key: 'pingMs', label: 'PING p50 ms', digits: 3 },
  { key: 'roundTrips', label: 'round trips', digits: 2 },
  { key: 'count', label: 'hand-overs', digits: 0 },
];

export const handOver: Workload = {
  name: 'hand-over',
  summary:
    'from a release in one process to the grant in another that waits, nothing else going on',
  run: (effort) =>
    withServer((server) =>
      withCrew(PROCESSES, async (crew) => {
        const rows = await measure(server, crew, effort);
        const awake = await measureAwake(server, crew, effort);
        const ours = (of: readonly Row[]): number =>
          of.find(({ name }) => name === OURS)?.figures['roundTrips'] ?? Infinity;
        return {
          workload: 'hand-over',
          tables: [
            {
              title: `${PROCESSES} processes, holds of ${HOLD_PINGS} PINGs`,
              columns: AWAKE_COLUMNS,
              rows: awake,
            },
            { title: `${PROCESSES} processes, holds of ${HOLD_MS} ms`, columns: COLUMNS, rows },
            {
              title: 'where the time of a hand-over goes',
              columns: [{ key: 'us', label: 'p50 µs', digits: 0 }],
              rows: await trace(server, crew, effort),
            },
          ],
          checks: [
            atMost('hand-over p50, in round trips, all awake', ours(awake), MAX_ROUND_TRIPS),
            atMost('hand-over p50, in round trips, after a sleep', ours(rows), MAX_ROUND_TRIPS),
          ],
          notes: [
            `with holds of ${HOLD_PINGS} PINGs, a round trip is the median of these PINGs: both processes and the server are at work, and nobody has to be woken from a sleep`,
            `with holds of ${HOLD_MS} ms, a round trip is the median PING of the same round from an idle process, one every ${HOLD_MS} ms, as hand-overs come`,
            'bare PUBLISH: no lock, one process tells the other that it is its turn; nothing can be faster',
            'busy round trips: by PINGs one right after the other, which find everything awake',
          ],
          plots: [],
        };
      }),
    ),
};

interface Hand {
  readonly timesMs: readonly number[];
  readonly pingMs: number;
}

/** With a PING of both kinds. */
interface SleepyHand extends Hand {
  readonly busyPingMs: number;
}

async function measure(server: BenchServer, crew: Crew, effort: Effort): Promise<Row[]> {
  const contenders = [
    contender(BARE_PUBLISH),
    contender(OURS),
    ...peers(effort.isQuick ? [5] : [null, 1]),
  ];
  const { port } = server;
  const rounds = contenders.map((): SleepyHand[] => []);
  for (let round = 0; round < effort.rounds; round += 1) {
    for (const [index, one] of contenders.entries()) {
      await crew.run({ kind: 'warm-up', port, contender: one });
      if (round === 0 && one.package !== BARE_PUBLISH) {
        const durationMs = warmUpMs(effort);
        await crew.run({ kind: 'add', port, contender: one, keys: 1, tasks: 1, durationMs });
      }
      const pingMs = await pingOf(server, HOLD_MS);
      const busyPingMs = await pingOf(server, 0);
      const durationMs = 2 * effort.roundMs;
      const hold = { ms: HOLD_MS };
      const job = { kind: 'hand-over', port, contender: one, hold, durationMs } as const;
      const timesMs = handOversOf(await crew.run(job));
      if (timesMs.length > 0) rounds[index]?.push({ timesMs, pingMs, busyPingMs });
    }
  }
  return contenders.map(({ name }, index) => {
    const own = rounds[index] ?? [];
    const busy = own.map((round) => median(round.timesMs) / round.busyPingMs);
    return rowOf(name, own, { busyRoundTrips: median(busy) });
  });
}

/** Without any pause: what is measured is the way of a message, and what is done for it. */
async function measureAwake(server: BenchServer, crew: Crew, effort: Effort): Promise<Row[]> {
  const contenders = [contender(BARE_PUBLISH), contender(OURS)];
  const { port } = server;
  const hold = { pings: HOLD_PINGS };
  const rounds = contenders.map((): Hand[] => []);
  for (let round = 0; round <= effort.rounds; round += 1) {
    for (const [index, one] of contenders.entries()) {
      await crew.run({ kind: 'warm-up', port, contender: one });
      const durationMs = 2 * effort.roundMs;
      const results = await crew.run({ kind: 'hand-over', port, contender: one, hold, durationMs });
      const timesMs = handOversOf(results);
      const pingMs = median(results.flatMap(({ pingsMs }) => pingsMs));
      // The first one warms up.
      if (round > 0 && timesMs.length > 0) rounds[index]?.push({ timesMs, pingMs });
    }
  }
  return contenders.map(({ name }, index) => {
    const own = rounds[index] ?? [];
    return rowOf(name, own, { pingMs: median(own.map(({ pingMs }) => pingMs)) });
  });
}

/** All rounds of one contender, by the PINGs of each. */
function rowOf(name: string, rounds: readonly Hand[], more: Row['figures']): Row {
  const timesMs = rounds.flatMap((round) => round.timesMs);
  if (timesMs.length === 0) return { name, figures: {}, invalid: 'no hand-over took place' };
  const figures = {
    p50Ms: median(timesMs),
    p99Ms: percentile(timesMs, 0.99),
    roundTrips: median(rounds.map((round) => median(round.timesMs) / round.pingMs)),
    count: timesMs.length,
    ...more,
  };
  return { name, figures };
}

/** After a pause everything has fallen asleep or out of the caches, for a PING as for a hand-over. */
async function pingOf(server: BenchServer, pauseMs: number): Promise<number> {
  const timesMs: number[] = [];
  for (let ping = 0; ping < PINGS; ping += 1) {
    if (pauseMs > 0) await setTimeout(pauseMs);
    const startMs = performance.now();
    await server.admin.ping();
    timesMs.push(performance.now() - startMs);
  }
  return median(timesMs);
}

/** From each release to the grant that came next, where that is in another process. */
function handOversOf(results: readonly HandOverResult[]): number[] {
  return pairsOf(results).map(({ release, grant }) => grant.atMs - release.atMs);
}

interface Moment {
  readonly atMs: number;
  readonly process: number;
  readonly isGrant: boolean;
  /** In a traced run: of a release, its write; of a grant, the read that brought it. */
  readonly socketMs: number;
}

function pairsOf(results: readonly HandOverResult[]): { release: Moment; grant: Moment }[] {
  const moments = results.flatMap((result, process): Moment[] => [
    ...result.grantedAtMs.map((atMs, index) => {
      return { atMs, process, isGrant: true, socketMs: result.readAtMs[index] ?? Number.NaN };
    }),
    ...result.releasedAtMs.map((atMs, index) => {
      return { atMs, process, isGrant: false, socketMs: result.wroteAtMs[index] ?? Number.NaN };
    }),
  ]);
  moments.sort((a, b) => a.atMs - b.atMs);
  return moments.flatMap((grant, index) => {
    const release = moments[index - 1];
    if (!grant.isGrant || !release || release.isGrant || release.process === grant.process)
      return [];
    return [{ release, grant }];
  });
}

/** Where the time goes: a run of its own, since the watching costs something as well. */
async function trace(server: BenchServer, crew: Crew, effort: Effort): Promise<Row[]> {
  const { port } = server;
  await server.admin.config('RESETSTAT');
  const durationMs = 4 * effort.roundMs;
  const results = await crew.run({
    kind: 'hand-over',
    port,
    contender: contender(OURS),
    hold: { ms: HOLD_MS },
    durationMs,
    isTraced: true,
  });
  const stats = await server.admin.info('commandstats');
  const script = Number(/cmdstat_evalsha:.*usec_per_call=([\d.]+)/.exec(stats)?.[1]);
  const pairs = pairsOf(results);
  const of = (part: (release: Moment, grant: Moment) => number): number =>
    median(pairs.map(({ release, grant }) => part(release, grant) * 1_000));
  const parts: [string, number][] = [
    ['the releasing process, from the call to the write', of((a) => a.socketMs - a.atMs)],
    ['from its write to the read of the next process', of((a, b) => b.socketMs - a.socketMs)],
    ['... of which the script on the server', script],
    ['the next process, from the read to the grant', of((_, b) => b.atMs - b.socketMs)],
    ['all', of((a, b) => b.atMs - a.atMs)],
  ];
  return parts.map(([name, us]) => ({ name, figures: { us } }));
}

/**
 * What fails when: a schedule that the seed, the faults that were asked for, and what there is to break decide wholly.
 *
 * There are two lanes, so that two faults may meet: one of the worker processes, one of servers and the network. In a
 * lane they follow each other.
 */
import { SeededRandom } from 'leasehold/testing';
import type { Weakness } from './engines/engine.ts';

export const FAULTS = ['kill', 'pause', 'partition', 'clock', 'restart', 'lostreply'] as const;
export type Fault = (typeof FAULTS)[number];

export type Way = 'requests' | 'replies' | 'both';

/** Servers and workers by their number; `null` is all of them. */
export type Action =
  | { readonly is: 'stop a worker'; readonly worker: number }
  /** Between its read and its write, when it next comes there. */
  | {
      readonly is: 'stop a worker before it writes';
      readonly worker: number;
      readonly isFenced: boolean;
    }
  | { readonly is: 'kill a worker'; readonly worker: number }
  | { readonly is: 'set the clock of a worker'; readonly worker: number; readonly seconds: number }
  | { readonly is: 'stop a server'; readonly server: number }
  | { readonly is: 'kill a server'; readonly server: number }
  | { readonly is: 'restart a server'; readonly server: number }
  | { readonly is: 'restart a server without its data'; readonly server: number }
  | { readonly is: 'set the clock of a server'; readonly server: number; readonly seconds: number }
  | {
      readonly is: 'cut';
      readonly worker: number | null;
      readonly server: number | null;
      readonly way: Way;
    }
  /** Clients still reach it. `requests` is what it sends to the others, `replies` what they send to it. */
  | { readonly is: 'cut a server off from the others'; readonly server: number; readonly way: Way }
  | { readonly is: 'lose replies'; readonly worker: number; readonly server: number };

export interface Step {
  readonly atMs: number;
  readonly forMs: number;
  readonly action: Action;
}

export interface Plan {
  readonly durationMs: number;
  readonly workers: readonly Step[];
  readonly servers: readonly Step[];
}

/** What there is to break. */
export interface Targets {
  readonly workers: number;
  /** The servers of the engine, and last those of the values. */
  readonly servers: number;
  /** How many of them may lose their data, have a clock that can be set, have links that can be cut: the first ones. */
  readonly forgetful: number;
  readonly clocks: number;
  readonly linked: number;
  readonly hasFaketime: boolean;
}

export interface PlanOptions {
  readonly seed: number;
  readonly faults: readonly Fault[];
  readonly durationMs: number;
  /** Workers, and servers and the network, are left in peace from here on. */
  readonly workersUntilMs: number;
  readonly serversUntilMs: number;
  /** Whether there are reads and writes to stop between. */
  readonly hasValues: boolean;
  readonly ttlMs: number;
  readonly targets: Targets;
}

const GAP_MS = [200, 1_200] as const;
/** Before the first fault there is load. */
const WARM_UP_MS = 600;
/** A server's clock goes back to the right time after a fault, and tokens must not fall behind for long. */
const SERVER_CLOCK_SECONDS = 4;
const WORKER_CLOCK_SECONDS = 3_600;

/** Draws a fault for that moment; `null` when it must not come then. */
type Draw = (
  random: SeededRandom,
  atMs: number,
) => { readonly action: Action; readonly forMs: number } | null;

export function makePlan(options: PlanOptions): Plan {
  const random = new SeededRandom(options.seed);
  return {
    durationMs: options.durationMs,
    workers: lane(workerDraws(options), random.fork(), options.workersUntilMs),
    servers: lane(serverDraws(options), random.fork(), options.serversUntilMs),
  };
}

/** The faults that were asked for and that there is nothing to do with. */
export function idleFaults(options: PlanOptions): Fault[] {
  return options.faults.filter((fault) => {
    const one = { ...options, faults: [fault] };
    return workerDraws(one).length === 0 && serverDraws(one).length === 0;
  });
}

function lane(draws: readonly Draw[], random: SeededRandom, durationMs: number): Step[] {
  const steps: Step[] = [];
  const [first] = draws;
  if (first === undefined) return steps;
  for (let atMs = WARM_UP_MS; ; ) {
    atMs += random.between(...GAP_MS);
    const drawn = (steps.length === 0 ? first : random.pick(draws))(random, atMs);
    if (atMs + (drawn?.forMs ?? 0) > durationMs) return steps;
    if (drawn === null) continue;
    const { action, forMs } = drawn;
    steps.push({ atMs: Math.round(atMs), forMs: Math.round(forMs), action });
    atMs += forMs;
  }
}

function workerDraws({ faults, targets, ttlMs, hasValues }: PlanOptions): Draw[] {
  const draws: Draw[] = [];
  const worker = (random: SeededRandom): number => random.whole(0, targets.workers - 1);
  if (faults.includes('pause')) {
    // What no lock survives without a fence: it comes first, and where there is none, or no run would prove anything.
    let isFenced = true;
    const stopBeforeWrite: Draw = (random) => {
      isFenced = !isFenced;
      return {
        action: { is: 'stop a worker before it writes', worker: worker(random), isFenced },
        forMs: random.between(1.5, 2.5) * ttlMs,
      };
    };
    if (hasValues) draws.push(stopBeforeWrite, stopBeforeWrite);
    draws.push((random) => ({
      action: { is: 'stop a worker', worker: worker(random) },
      forMs: random.between(0.2, 2.5) * ttlMs,
    }));
  }
  if (faults.includes('kill')) {
    draws.push((random) => ({
      action: { is: 'kill a worker', worker: worker(random) },
      forMs: random.between(0, ttlMs),
    }));
  }
  if (faults.includes('clock') && targets.hasFaketime) {
    draws.push((random) => ({
      action: {
        is: 'set the clock of a worker',
        worker: worker(random),
        seconds: random.whole(-WORKER_CLOCK_SECONDS, WORKER_CLOCK_SECONDS),
      },
      forMs: random.between(0.3, 2) * ttlMs,
    }));
  }
  return draws;
}

function serverDraws(options: PlanOptions): Draw[] {
  const { faults, targets, ttlMs, serversUntilMs } = options;
  if (targets.servers === 0) return [];
  const draws: Draw[] = [];
  const server = (random: SeededRandom): number => random.whole(0, targets.servers - 1);
  const someMs = (random: SeededRandom): number => random.between(0.2, 2.5) * ttlMs;
  if (faults.includes('pause')) {
    draws.push((random) => ({
      action: { is: 'stop a server', server: server(random) },
      forMs: someMs(random),
    }));
  }
  if (faults.includes('kill')) {
    draws.push((random) => ({
      action: { is: 'kill a server', server: server(random) },
      forMs: someMs(random),
    }));
  }
  if (faults.includes('restart')) draws.push(restart(options));
  if (faults.includes('clock') && targets.hasFaketime && targets.clocks > 0) {
    draws.push((random, atMs) => {
      // Set before a loss of data, tokens would begin anew below those of the wrong clock.
      if (faults.includes('restart') && atMs < serversUntilMs / 2) return null;
      const seconds = random.whole(-SERVER_CLOCK_SECONDS, SERVER_CLOCK_SECONDS);
      const server = random.whole(0, targets.clocks - 1);
      const action = { is: 'set the clock of a server', server, seconds } as const;
      return { action, forMs: someMs(random) };
    });
  }
  if (faults.includes('partition')) {
    const way = (random: SeededRandom): Way => random.pick(['requests', 'replies', 'both', 'both']);
    if (targets.linked > 0) {
      draws.push((random) => ({
        action: {
          is: 'cut a server off from the others',
          server: random.whole(0, targets.linked - 1),
          way: way(random),
        },
        // Long enough for the others to notice, more often than not.
        forMs: random.between(0.5, 4) * ttlMs,
      }));
    }
    draws.push((random) => ({
      action: {
        is: 'cut',
        worker: random.chance(0.8) ? random.whole(0, targets.workers - 1) : null,
        server: random.chance(0.4) ? null : server(random),
        way: way(random),
      },
      forMs: someMs(random),
    }));
  }
  if (faults.includes('lostreply')) {
    draws.push((random) => ({
      action: {
        is: 'lose replies',
        worker: random.whole(0, targets.workers - 1),
        server: server(random),
      },
      forMs: random.between(0.2, 1) * ttlMs,
    }));
  }
  return draws;
}

/** Data are lost in the first half only when clocks are set as well, which they are in the second. */
function restart({ faults, targets, ttlMs, serversUntilMs }: PlanOptions): Draw {
  return (random, atMs) => {
    const mayForget =
      targets.forgetful > 0 && (!faults.includes('clock') || atMs < serversUntilMs / 2);
    const forMs = random.between(0, ttlMs);
    if (mayForget && random.chance(0.6)) {
      const server = random.whole(0, targets.forgetful - 1);
      return { action: { is: 'restart a server without its data', server }, forMs };
    }
    return {
      action: { is: 'restart a server', server: random.whole(0, targets.servers - 1) },
      forMs,
    };
  };
}

/** Whether the plan has a fault after which two leases may be valid at once. */
export function mayCostExclusion(plan: Plan, weakness: Weakness): boolean {
  if (weakness === 'none') return false;
  return plan.servers.some(({ action }) => {
    switch (action.is) {
      case 'restart a server without its data':
      case 'set the clock of a server':
        return true;
      case 'stop a server':
      case 'kill a server':
      case 'restart a server':
      case 'cut a server off from the others':
        return weakness === 'a server that is down';
      default:
        return false;
    }
  });
}

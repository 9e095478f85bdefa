/** Does what the plan says, at its time, and undoes it. */
import { setTimeout } from 'node:timers/promises';
import type { TcpProxy } from '../servers/proxy.ts';
import type { Interval } from './checkers/queue.ts';
import type { Crew, Worker } from './crew.ts';
import type { EngineServer } from './engines/engine.ts';
import { nowUs } from './history.ts';
import type { Action, Plan, Step } from './plan.ts';
import type { Onlooker } from './values/values.ts';

/** How long a worker has to come to a place where it should stop. */
const STOP_WAIT_MS = 4_000;
/** … and others to overwrite what it is about to write. */
const OVERWRITE_WAIT_MS = 8_000;
const CROSSING_MS = 200;
const POLL_MS = 5;
/** While replies get lost, connections are cut so often. */
const CUT_EVERY_MS = 120;
/** After a fault, clients connect again and waiters are found again; until then its consequences go on. */
const AFTERMATH_US = 3_000_000;

export interface Deeds {
  /** How often what was done. */
  readonly counts: Readonly<Record<string, number>>;
  readonly intervals: readonly Interval[];
}

/** What can be broken: servers by their number, and what tells how the work goes on meanwhile. */
export interface Victims {
  readonly crew: Crew;
  readonly servers: readonly EngineServer[];
  readonly onlooker: Onlooker;
}

type Undo = () => unknown;

export async function torture(plan: Plan, victims: Victims, isOver: () => boolean): Promise<Deeds> {
  const counts: Record<string, number> = {};
  const intervals: Interval[] = [];
  let startMs = performance.now();

  async function lane(steps: readonly Step[]): Promise<void> {
    for (const { atMs, forMs, action } of steps) {
      await setTimeout(Math.max(0, startMs + atMs - performance.now()));
      // What took longer than it should on a busy machine does not make the run longer.
      if (isOver() || performance.now() - startMs > plan.durationMs) return;
      const fromUs = nowUs();
      const undo = await act(action, victims);
      if (undo === null) continue;
      counts[action.is] = (counts[action.is] ?? 0) + 1;
      await setTimeout(forMs);
      await undo();
      const toUs = nowUs() + AFTERMATH_US;
      intervals.push({ fromUs, toUs, worker: 'worker' in action ? action.worker : null });
    }
  }

  // The first fault is one that no lock survives without a fence: nothing gets into its way, however busy the machine.
  await lane(plan.workers.slice(0, 1));
  startMs = performance.now() - (plan.workers[0]?.atMs ?? 0);
  await Promise.all([lane(plan.workers.slice(1)), lane(plan.servers)]);
  return { counts, intervals };
}

/** Begins, and says how to end it; `null` when there was nothing to do. */
async function act(action: Action, { crew, servers, onlooker }: Victims): Promise<Undo | null> {
  switch (action.is) {
    case 'stop a worker before it writes':
      return stopBeforeWrite(action, crew.workers[action.worker] as Worker, onlooker);
    case 'stop a worker':
    case 'kill a worker':
    case 'set the clock of a worker':
      return actOnWorker(action, crew.workers[action.worker] as Worker);
    case 'cut':
      return cut(proxiesOf(crew, action.worker, action.server), action.way);
    case 'lose replies':
      return loseReplies(proxiesOf(crew, action.worker, action.server));
    default:
      return actOnServer(action, servers[action.server] as EngineServer);
  }
}

/** Between its read and its write, until others have written meanwhile. */
async function stopBeforeWrite(
  { isFenced }: { readonly isFenced: boolean },
  worker: Worker,
  onlooker: Onlooker,
): Promise<Undo | null> {
  worker.tell({ is: 'stop before a write', isFenced });
  await within(STOP_WAIT_MS, async () => worker.stoppedBefore !== null);
  const stopped = worker.stoppedBefore;
  if (stopped === null) {
    worker.tell({ is: 'never mind' });
    // It may stop all the same, when the message crosses its decision.
    await setTimeout(CROSSING_MS);
    worker.resume();
    return null;
  }
  const look = (): Promise<string | null> =>
    stopped.isFenced ? onlooker.peek(stopped.key) : onlooker.getPlain(stopped.key);
  const before = await look().catch(() => undefined);
  return async () => {
    await within(OVERWRITE_WAIT_MS, async () => before === undefined || (await look()) !== before);
    worker.resume();
  };
}

/** Waits for the condition, in vain if it must be. */
async function within(ms: number, isTrue: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + ms;
  while (performance.now() < deadlineMs && !(await isTrue().catch(() => false))) {
    await setTimeout(POLL_MS);
  }
}

async function actOnWorker(
  action: Extract<Action, { is: 'stop a worker' | 'kill a worker' | 'set the clock of a worker' }>,
  worker: Worker,
): Promise<Undo> {
  switch (action.is) {
    case 'stop a worker':
      worker.pause();
      return () => worker.resume();
    case 'kill a worker':
      await worker.kill();
      return () => worker.start();
    default:
      worker.setClock(action.seconds);
      return () => worker.setClock(0);
  }
}

async function actOnServer(
  action: Extract<Action, { is: `${string}server${string}` }>,
  server: EngineServer,
): Promise<Undo | null> {
  switch (action.is) {
    case 'stop a server':
      server.pause();
      return () => server.resume();
    case 'kill a server':
      await server.kill();
      return () => server.startAgain();
    case 'restart a server':
      await server.stop();
      return () => server.startAgain();
    case 'restart a server without its data':
      if (!server.forget) return null;
      await server.forget();
      return () => server.startAgain();
    case 'cut a server off from the others':
      return server.cutOff?.(action.way) ?? null;
    default:
      if (!server.setClock) return null;
      server.setClock(action.seconds);
      return () => server.setClock?.(0);
  }
}

/** What is held arrives late when the network heals in time, and is lost with its connection otherwise. */
function cut(proxies: readonly TcpProxy[], way: 'requests' | 'replies' | 'both'): Undo {
  for (const proxy of proxies) {
    if (way === 'both') proxy.blackhole();
    else proxy.blackhole(way);
  }
  return () => {
    for (const proxy of proxies) proxy.forward();
  };
}

/** Requests arrive and are done; their replies, and with them the connections, are lost again and again. */
function loseReplies(proxies: readonly TcpProxy[]): Undo {
  const lose = (): void => {
    for (const proxy of proxies) void proxy.loseReply(() => true);
  };
  lose();
  const timer = setInterval(lose, CUT_EVERY_MS);
  return () => {
    clearInterval(timer);
    for (const proxy of proxies) proxy.forward();
  };
}

function proxiesOf(crew: Crew, worker: number | null, server: number | null): TcpProxy[] {
  const workers = worker === null ? crew.workers : [crew.workers[worker] as Worker];
  return workers.flatMap(({ proxies }) =>
    server === null ? proxies : [proxies[server] as TcpProxy],
  );
}

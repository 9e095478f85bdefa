/**
 * What happens in one schedule, as plain data drawn from its seed: who works on which keys and how, how the network and
 * the clocks behave, and which faults strike when. A plan says nothing about what the outcome must be.
 */
import type { Guarantees } from '../../core/store.ts';
import { SeededRandom } from './random.ts';
import { FINE_WEATHER, type Weather } from './store.ts';

/**
 * - `calm`: nothing fails; hand-overs must be prompt.
 * - `leaky`: requests and replies get lost and connections break, while leases last long: recovery must not wait for them.
 * - `rough`: messages, connections, processes and the server fail, and no data is lost: leases must still exclude.
 * - `lossy`: the server loses data or time as well: only the fence can protect the data.
 * - `silent`: calls of some processes are never answered, not even with an error.
 */
export type Profile = 'calm' | 'leaky' | 'rough' | 'lossy' | 'silent';

export interface Operation {
  readonly thinkMs: number;
  readonly keys: readonly string[];
  readonly mode: 'exclusive' | 'shared' | 'permit';
  /** Of a permit. */
  readonly limit: number | null;
  readonly form: 'acquire' | 'try' | 'withLock';
  readonly ttlMs: number;
  readonly waitMs: number;
  readonly retainMs: number;
  /** 0: no limit. */
  readonly maxHoldMs: number;
  readonly holdMs: number;
  readonly abortAfterMs: number | null;
  /** Looks at its lease before it writes; a careless holder leaves that to the fence. */
  readonly isCareful: boolean;
  readonly watchesSignal: boolean;
}

export interface ProcessPlan {
  readonly name: string;
  readonly startMs: number;
  readonly rate: number;
  readonly wallMs: number;
  readonly maxPasses: number;
  readonly maxPassMs: number;
  readonly tasks: readonly (readonly Operation[])[];
}

/** What strikes one process. */
export type ProcessFault = { readonly atMs: number; readonly process: string } & (
  | { readonly is: 'pause'; readonly forMs: number; readonly asleep: boolean }
  | { readonly is: 'kill'; readonly noticed: boolean }
  | { readonly is: 'cut'; readonly forMs: number; readonly noticed: boolean }
  | { readonly is: 'wall'; readonly byMs: number }
  | { readonly is: 'close'; readonly graceMs: number }
  | { readonly is: 'hang' }
);

/** What strikes the server, or everybody. */
export type SharedFault = { readonly atMs: number } & (
  | { readonly is: 'storm'; readonly forMs: number; readonly weather: Weather }
  | { readonly is: 'restart'; readonly forMs: number; readonly keepsData: boolean }
  | { readonly is: 'server-clock'; readonly byMs: number }
  | { readonly is: 'revoke'; readonly key: string }
);

export type Fault = ProcessFault | SharedFault;

export interface Plan {
  readonly seed: number;
  readonly profile: Profile;
  readonly handOver: Guarantees['handOver'];
  readonly order: Guarantees['order'];
  readonly epochs: 'clock' | 'counter';
  readonly serverRate: number;
  /** The limit of each key that is a semaphore, `null` for a lock. */
  readonly keys: ReadonlyMap<string, number | null>;
  readonly processes: readonly ProcessPlan[];
  readonly weather: Weather;
  readonly timeoutMs: number;
  readonly maxLatenessMs: number;
  readonly faults: readonly Fault[];
  /** No fault strikes, lasts or has a late effect after this. */
  readonly healMs: number;
  readonly maxTtlMs: number;
  readonly maxRetainMs: number;
}

/** The clocks of two machines differ by less than the one per cent that the core allows for. */
const RATES = [0.9955, 1, 1.0045] as const;
/** The shortest and the longest ttl. */
const TTL_MS: Record<Profile, readonly [number, number]> = {
  calm: [1_500, 4_000],
  leaky: [60_000, 90_000],
  rough: [60, 400],
  lossy: [60, 400],
  silent: [60, 400],
};
/** A wait that only a fault, or a defect, can make too short. */
const PATIENT_MS = 20_000;
const WRONG_LIMIT_SHARE = 0.03;
const MAX_LONG_TTL_MS = 4_000;

export function makePlan(seed: number): Plan {
  const random = new SeededRandom(seed);
  const profile = pickProfile(random);
  const isCalm = profile === 'calm' || profile === 'leaky';
  const keys = drawKeys(random);
  const ttlMs = random.whole(...TTL_MS[profile]);
  const weather = drawWeather(random, isCalm);
  // A retained lease is given back when the process hears that it is wanted, and that message may be lost.
  const retains = profile !== 'leaky' && random.chance(0.3);
  const pace = { isCalm, ttlMs, keys, retains };
  const processes = drawProcesses(random.fork(), pace);
  const operations = processes.flatMap((process) => process.tasks.flat());
  const faultsMs = random.whole(300, 2_500);
  const faults = drawFaults(random.fork(), { profile, processes, keys, forMs: faultsMs, ttlMs });
  const handOver = random.chance(0.75) ? 'direct' : 'signalled';
  return {
    seed,
    profile,
    handOver,
    order: handOver === 'signalled' && random.chance(0.5) ? 'none' : 'arrival',
    epochs: profile === 'lossy' || random.chance(0.7) ? 'clock' : 'counter',
    serverRate: random.pick(RATES),
    keys,
    processes,
    weather,
    timeoutMs: random.whole(30, 250) + 2 * weather.maxDelayMs,
    maxLatenessMs: random.pick([0, 1, 4]),
    faults,
    healMs: Math.max(0, ...faults.map(endOf)),
    maxTtlMs: Math.max(...operations.map((operation) => operation.ttlMs)),
    maxRetainMs: Math.max(...operations.map((operation) => operation.retainMs)),
  };
}

function pickProfile(random: SeededRandom): Profile {
  const dice = random.next();
  if (dice < 0.3) return 'calm';
  if (dice < 0.45) return 'leaky';
  if (dice < 0.85) return 'rough';
  return dice < 0.94 ? 'lossy' : 'silent';
}

function drawKeys(random: SeededRandom): ReadonlyMap<string, number | null> {
  const keys = new Map<string, number | null>([['a', null]]);
  if (random.chance(0.35)) keys.set('b', null);
  if (random.chance(0.25)) keys.set('s', random.whole(1, 3));
  return keys;
}

function drawWeather(random: SeededRandom, isCalm: boolean): Weather {
  const maxDelayMs = random.pick(isCalm ? [0.2, 2, 6] : [1, 8, 30]);
  return {
    ...FINE_WEATHER,
    minDelayMs: 0.05,
    maxDelayMs,
    inOrder: random.chance(0.5),
  };
}

interface Pace {
  readonly isCalm: boolean;
  readonly ttlMs: number;
  readonly keys: ReadonlyMap<string, number | null>;
  readonly retains: boolean;
}

function drawProcesses(random: SeededRandom, pace: Pace): ProcessPlan[] {
  const retainMs = pace.retains ? random.whole(5, 2 * pace.ttlMs) : 0;
  // One busy process and one that waits show best how far leases are passed on.
  const isCrowded = random.chance(0.2);
  return Array.from({ length: random.pick([1, 2, 2, 3, 3, 4]) }, (_, index) => ({
    name: `p${index + 1}`,
    startMs: random.chance(0.5) ? 0 : random.between(0, 100),
    rate: random.pick(RATES),
    wallMs: random.between(0, 1e9),
    maxPasses: random.pick([0, 1, 3, 32]),
    maxPassMs: random.pick([0, 20, 100, 100_000]),
    tasks: Array.from({ length: isCrowded && index === 0 ? 6 : random.pick([1, 1, 2, 3]) }, () =>
      Array.from({ length: random.whole(2, 5) }, () => drawOperation(random, pace, retainMs)),
    ),
  }));
}

function drawOperation(random: SeededRandom, pace: Pace, retainMs: number): Operation {
  const { isCalm, keys } = pace;
  const locks = [...keys].filter(([, limit]) => limit === null).map(([key]) => key);
  const [key, limit] = random.pick([...keys]);
  const isSet = limit === null && locks.length > 1 && random.chance(0.2);
  const ttlMs = random.chance(0.15) ? Math.ceil(pace.ttlMs * 0.7) : pace.ttlMs;
  const isLong = random.chance(isCalm ? 0.03 : 0.15);
  return {
    thinkMs: drawThinkMs(random, isCalm),
    // The order in which a caller names its keys does not matter.
    keys: isSet ? [...locks].reverse() : [key],
    mode: limit !== null ? 'permit' : random.chance(0.25) ? 'shared' : 'exclusive',
    // Now and then somebody is wrong about the limit.
    limit: limit !== null && random.chance(WRONG_LIMIT_SHARE) ? limit + 1 : limit,
    form: random.pick(['acquire', 'acquire', 'withLock', 'withLock', 'try']),
    ttlMs,
    waitMs: random.chance(0.2) ? random.whole(1, 120) : PATIENT_MS,
    retainMs: random.chance(0.8) ? retainMs : 0,
    maxHoldMs: random.chance(0.06) ? random.whole(5, 60) : 0,
    holdMs: isLong
      ? random.between(0, 2 * Math.min(ttlMs, MAX_LONG_TTL_MS))
      : random.chance(0.3)
        ? 0
        : random.between(0, 30),
    abortAfterMs: random.chance(0.1) ? random.between(0, 60) : null,
    isCareful: random.chance(0.5),
    watchesSignal: random.chance(0.8),
  };
}

function drawThinkMs(random: SeededRandom, isCalm: boolean): number {
  if (random.chance(0.4)) return 0;
  return random.between(0, isCalm || random.chance(0.7) ? 60 : 500);
}

interface FaultScope {
  readonly profile: Profile;
  readonly processes: readonly ProcessPlan[];
  readonly keys: ReadonlyMap<string, number | null>;
  readonly forMs: number;
  readonly ttlMs: number;
}

function drawFaults(random: SeededRandom, scope: FaultScope): Fault[] {
  const { profile, forMs } = scope;
  const faults: Fault[] = [];
  if (random.chance(0.2)) {
    faults.push({
      is: 'close',
      atMs: random.between(0, forMs),
      process: random.pick(scope.processes).name,
      graceMs: random.pick([0, 0, 50, 500]),
    });
  }
  if (profile === 'calm') return faults;
  if (profile === 'leaky') return [...faults, ...drawLeaks(random, scope)];

  faults.push(drawStorm(random, scope));
  const sleeps = random.chance(0.3);
  for (let count = random.whole(0, 4); count > 0; count -= 1) {
    faults.push(drawFault(random, scope, sleeps));
  }
  if (profile === 'lossy') faults.push(...drawLosses(random, scope));
  if (profile === 'silent') {
    const process = random.pick(scope.processes).name;
    faults.push({ is: 'hang', atMs: random.between(0, forMs), process });
  }
  return faults;
}

/** Only what the core must notice by itself, and repair without waiting for a lease to end. */
function drawLeaks(random: SeededRandom, scope: FaultScope): Fault[] {
  const weather: Weather = {
    ...FINE_WEATHER,
    minDelayMs: 0.05,
    maxDelayMs: random.pick([2, 20]),
    inOrder: random.chance(0.5),
    requestLoss: random.between(0, 0.2),
    replyLoss: random.between(0, 0.2),
    rejected: random.between(0, 0.2),
  };
  const faults: Fault[] = [{ is: 'storm', atMs: 0, forMs: scope.forMs, weather }];
  for (let count = random.whole(0, 3); count > 0; count -= 1) {
    const atMs = random.between(0, scope.forMs);
    const forMs = random.between(1, 400);
    const process = random.pick(scope.processes).name;
    const noticed = random.chance(0.5);
    if (random.chance(0.7)) faults.push({ is: 'cut', atMs, process, forMs, noticed });
    else faults.push({ is: 'restart', atMs, forMs, keepsData: true });
  }
  return faults;
}

function drawStorm(random: SeededRandom, { forMs }: FaultScope): Fault {
  const often = random.pick([0.02, 0.1, 0.3]);
  const draw = (): number => (random.chance(0.5) ? random.between(0, often) : 0);
  const weather: Weather = {
    minDelayMs: 0.05,
    maxDelayMs: random.pick([2, 20, 120]),
    inOrder: random.chance(0.3),
    requestLoss: draw(),
    replyLoss: draw(),
    twice: draw(),
    late: draw(),
    lateMs: random.pick([100, 1_000]),
    rejected: draw(),
    hanging: 0,
    eventLoss: random.chance(0.1) ? 1 : draw(),
    eventTwice: draw(),
    eventLate: random.chance(0.5) ? 0.5 : draw(),
  };
  const atMs = random.chance(0.5) ? 0 : random.between(0, forMs);
  return { is: 'storm', atMs, forMs: random.between(100, forMs), weather };
}

/** A machine that sleeps has only its wall clock to tell: `sleeps` excludes that this one is set back. */
function drawFault(random: SeededRandom, scope: FaultScope, sleeps: boolean): Fault {
  const atMs = random.between(0, scope.forMs);
  const process = random.pick(scope.processes).name;
  const lastsMs = random.between(1, random.chance(0.5) ? scope.ttlMs / 2 : 3 * scope.ttlMs);
  const noticed = random.chance(0.5);
  const asleep = sleeps && random.chance(0.5);
  switch (random.pick(['pause', 'pause', 'kill', 'cut', 'cut', 'restart', 'wall'] as const)) {
    case 'pause':
      return { is: 'pause', atMs, process, forMs: lastsMs, asleep };
    case 'kill':
      return { is: 'kill', atMs, process, noticed };
    case 'cut':
      return { is: 'cut', atMs, process, forMs: lastsMs, noticed };
    case 'restart':
      return { is: 'restart', atMs, forMs: lastsMs, keepsData: true };
    case 'wall':
      return { is: 'wall', atMs, process, byMs: random.between(sleeps ? 0 : -2_000, 2_000) };
  }
}

/** A server that forgets its epochs must at least keep its clock from going back: that is all that orders them then. */
function drawLosses(random: SeededRandom, scope: FaultScope): Fault[] {
  const forgets = random.chance(0.5);
  const minJumpMs = forgets ? 0 : -1_500;
  const draw = (): Fault => {
    const atMs = random.between(0, scope.forMs);
    const dice = random.pick([forgets ? 'restart' : 'clock', 'clock', 'revoke'] as const);
    if (dice === 'restart') {
      return { is: 'restart', atMs, forMs: random.between(1, 200), keepsData: false };
    }
    if (dice === 'clock') {
      return { is: 'server-clock', atMs, byMs: random.whole(minJumpMs, 1_500) };
    }
    return { is: 'revoke', atMs, key: random.pick([...scope.keys.keys()]) };
  };
  return Array.from({ length: random.whole(1, 3) }, draw);
}

/** When the last effect of a fault is over. A manager that is closed disturbs nobody. */
function endOf(fault: Fault): number {
  if (fault.is === 'close') return 0;
  if (fault.is === 'storm') {
    return fault.atMs + fault.forMs + fault.weather.lateMs + fault.weather.maxDelayMs;
  }
  // Set back, the clock of the server keeps everything for so much longer.
  if (fault.is === 'server-clock') return fault.atMs + Math.abs(fault.byMs);
  return fault.atMs + ('forMs' in fault ? fault.forMs : 0);
}

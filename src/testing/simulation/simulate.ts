/**
 * Runs one schedule: several lock managers, each in a simulated process of its own, against one simulated server, with
 * everything that happens decided by a seed.
 */
import { LockManager } from '../../core/manager.ts';
import { type Bounds, Checks, type Party } from './checks.ts';
import {
  type Fault,
  makePlan,
  type Operation,
  type Plan,
  type ProcessFault,
  type ProcessPlan,
  type SharedFault,
} from './plan.ts';
import { SimulatedProcess } from './process.ts';
import { SeededRandom } from './random.ts';
import { FencedRegister } from './register.ts';
import { SimulatedServer } from './server.ts';
import { SimulatedStore, type Weather } from './store.ts';
import { Timeline } from './timeline.ts';
import { Witness } from './witness.ts';
import { Worker } from './worker.ts';

export interface SimulationOptions {
  /** A whole number; the same seed makes the same schedule. */
  readonly seed: number;
  /** Is told what happens, line by line. */
  readonly onTrace?: (line: string) => void;
}

export interface SimulationReport {
  readonly plan: Plan;
  /** What was wrong; empty, as it should be. */
  readonly violations: readonly string[];
  /** How often what happened: leases, losses, refusals, writes. */
  readonly counts: Readonly<Record<string, number>>;
  /** How many moments the schedule had. */
  readonly steps: number;
  /** Two runs of one seed have the same fingerprint. */
  readonly fingerprint: number;
}

/** A schedule has some hundreds of moments; one that never ends is a defect. */
const MAX_STEPS = 60_000;
const MAX_MS = 3_600_000;
/** The longest that the core waits before it asks again what was not answered. */
const MAX_RETRY_MS = 1_000;
/** `close` waits for a silent store so long, first for its leases and then for itself. */
const MAX_CLOSE_MS = 10_000;

interface Place {
  readonly party: Party;
  readonly plan: ProcessPlan;
  readonly store: SimulatedStore;
  readonly locks: LockManager;
  readonly worker: Worker;
  running: number;
  closed: Promise<void> | null;
}

/** Runs the schedule of a seed, and judges it. Never rejects because of what it finds. */
export async function simulate(options: SimulationOptions): Promise<SimulationReport> {
  const simulation = new Simulation(options);
  const onUnhandled = (reason: unknown): void =>
    simulation.checks.fail(`unhandled: ${String(reason)}`);
  process.on('unhandledRejection', onUnhandled);
  try {
    await simulation.run();
  } finally {
    process.off('unhandledRejection', onUnhandled);
  }
  return simulation.report();
}

class Simulation {
  readonly checks: Checks;
  readonly #plan: Plan;
  readonly #timeline: Timeline;
  readonly #random: SeededRandom;
  readonly #server: SimulatedServer;
  readonly #registers: ReadonlyMap<string, FencedRegister>;
  readonly #places: readonly Place[];
  readonly #bounds: Bounds;
  readonly #onTrace: ((line: string) => void) | undefined;
  #fingerprint = 0;

  constructor({ seed, onTrace }: SimulationOptions) {
    this.#onTrace = onTrace;
    this.#plan = makePlan(seed);
    this.#random = new SeededRandom(seed ^ 0x5eed);
    this.#timeline = new Timeline(this.#random.fork());
    this.#bounds = boundsOf(this.#plan);
    this.checks = new Checks(this.#timeline, this.#bounds);
    this.#server = new SimulatedServer({
      timeline: this.#timeline,
      rate: this.#plan.serverRate,
      handOver: this.#plan.handOver,
      order: this.#plan.order,
      epochs: this.#plan.epochs,
      onFault: (what) => this.checks.fail(what),
    });
    this.#registers = new Map(
      [...this.#plan.keys.keys()].map((key) => [key, new FencedRegister()]),
    );
    this.#places = this.#plan.processes.map((process) => this.#makePlace(process));
  }

  async run(): Promise<void> {
    this.#trace('plan', () =>
      JSON.stringify(this.#plan, (_, part) => (part instanceof Map ? [...part] : part)),
    );
    for (const fault of this.#plan.faults) {
      this.#timeline.after(fault.atMs, () => this.#strike(fault));
    }
    for (const place of this.#places) this.#startPlace(place);
    await this.#runUntil('the work', () => this.#places.every((place) => isDone(place)));
    await this.#runFor('the healing', this.#plan.healMs + 1 - this.#timeline.nowMs);
    for (const check of [
      () => this.#checkEverybodyCanWork(),
      () => this.#checkNothingIsLeft(),
      () => this.#checkClose(),
    ]) {
      // What a schedule leaves behind after it went wrong says nothing.
      if (this.checks.violations.length === 0) await check();
    }
  }

  report(): SimulationReport {
    return {
      plan: this.#plan,
      violations: this.checks.violations,
      counts: this.checks.counts,
      steps: this.#timeline.steps,
      fingerprint: this.#fingerprint,
    };
  }

  #makePlace(plan: ProcessPlan): Place {
    const timeline = this.#timeline;
    const random = this.#random;
    const { name, rate, wallMs, maxPasses, maxPassMs } = plan;
    const { maxLatenessMs, timeoutMs, weather } = this.#plan;
    const trace = (line: () => string): void => this.#trace(name, line);
    const process = new SimulatedProcess({
      name,
      timeline,
      random: random.fork(),
      rate,
      wallMs,
      maxLatenessMs,
    });
    const server = this.#server;
    const store = new SimulatedStore({
      timeline,
      random: random.fork(),
      server,
      process,
      timeoutMs,
      weather,
    });
    const witness = new Witness({ store, clock: process.clock, trace });
    const dice = random.fork();
    const locks = new LockManager({
      store: witness,
      clock: process.clock,
      random: () => dice.next(),
      identity: `${name}:1`,
      fairness: { maxPasses, maxPassMs },
    });
    const party = { process, witness, maxPasses, maxPassMs, isHung: false, isClosed: false };
    this.checks.join(party);
    const worker = new Worker({
      timeline,
      random: random.fork(),
      checks: this.checks,
      party,
      locks,
      registers: this.#registers,
      trace,
      releaseBoundMs: this.#plan.maxTtlMs + this.#bounds.slackMs,
    });
    return { party, plan, store, locks, worker, running: 0, closed: null };
  }

  #startPlace(place: Place): void {
    place.running = place.plan.tasks.length;
    this.#timeline.after(place.plan.startMs, () => {
      place.party.process.enter(() => {
        for (const operations of place.plan.tasks) this.#startTask(place, operations);
      });
    });
  }

  #startTask(place: Place, operations: readonly Operation[]): void {
    const ends = (): void => {
      place.running -= 1;
    };
    place.worker.run(operations).then(ends, (error) => {
      ends();
      this.checks.fail(`a worker of ${place.plan.name} failed: ${error?.stack ?? error}`);
    });
  }

  // --- Faults ----------------------------------------------------------------------------------------------------------

  #strike(fault: Fault): void {
    this.#trace('fault', () => JSON.stringify(fault));
    if ('process' in fault) this.#strikeProcess(fault);
    else this.#strikeAll(fault);
  }

  #strikeProcess(fault: ProcessFault): void {
    const place = this.#placeOf(fault.process);
    const { party, store } = place;
    const { process } = party;
    switch (fault.is) {
      case 'pause':
        process.pause(fault);
        return;
      case 'kill':
        process.kill();
        this.checks.died(party);
        if (fault.noticed) this.#server.disconnect(process.name);
        return;
      case 'cut':
        store.cut({ serverNotices: fault.noticed });
        this.#timeline.after(fault.forMs, () => store.restore());
        return;
      case 'wall':
        process.clock.jumpWall(fault.byMs);
        return;
      case 'close':
        process.enter(() => void this.#close(place, fault.graceMs));
        return;
      case 'hang':
        party.isHung = true;
        store.weather = { ...store.weather, hanging: 1 };
        return;
      default:
        fault satisfies never;
    }
  }

  #strikeAll(fault: SharedFault): void {
    switch (fault.is) {
      case 'storm':
        this.#setWeather(fault.weather);
        this.#timeline.after(fault.forMs, () => this.#setWeather(this.#plan.weather));
        return;
      case 'restart':
        this.#server.stop(fault);
        this.#timeline.after(fault.forMs, () => {
          this.#server.start();
          for (const { store } of this.#places) store.restore();
        });
        return;
      case 'server-clock':
        this.#server.jumpClock(fault.byMs);
        return;
      case 'revoke':
        this.#server.revoke(fault.key);
        return;
      default:
        fault satisfies never;
    }
  }

  #setWeather(weather: Weather): void {
    for (const { store, party } of this.#places) if (!party.isHung) store.weather = weather;
  }

  // --- The end -------------------------------------------------------------------------------------------------------

  /** Whatever happened before, a caller of every process can still have every key. */
  async #checkEverybodyCanWork(): Promise<void> {
    let open = 0;
    for (const place of this.#healthyPlaces()) {
      for (const [key, limit] of this.#plan.keys) {
        if (isDisputed(this.#plan, key, limit)) continue;
        open += 1;
        const operation = closingOperation(this.#plan, key, limit);
        void place.worker.perform(operation).then((ending) => {
          open -= 1;
          if (ending === 'no lease')
            this.checks.fail(`in the end ${place.plan.name} got no ${key}`);
        });
      }
    }
    await this.#runUntil('the last round', () => open === 0);
  }

  /** Once everybody has given back what they had, neither side has anything left. */
  async #checkNothingIsLeft(): Promise<void> {
    const { maxRetainMs, maxTtlMs, timeoutMs } = this.#plan;
    const quietMs = 2 * (maxRetainMs + maxTtlMs + timeoutMs + MAX_RETRY_MS);
    await this.#runFor('the quiet', quietMs);
    for (const { plan, party, locks } of this.#healthyPlaces()) {
      const { keys, leases, waiting } = locks.usage;
      if (keys + leases + waiting > 0) {
        this.checks.fail(
          `${plan.name} has ${keys} keys, ${leases} leases, ${waiting} waiting left`,
        );
      }
      const timers = party.process.clock.pendingTimers();
      if (timers > 0) this.checks.fail(`${plan.name} has ${timers} timers left`);
    }
    for (const key of this.#plan.keys.keys()) {
      // Whoever fell silent is forgotten in the next step.
      this.#server.drop('probe', { key, owner: 'probe' }, undefined);
    }
    for (const [key, state] of this.#server.states()) {
      this.checks.fail(`the server has something left of ${key}: ${JSON.stringify(state)}`);
    }
  }

  async #checkClose(): Promise<void> {
    const places = this.#places.filter(({ party }) => !party.process.isDead);
    let open = places.length;
    const startedMs = this.#timeline.nowMs;
    for (const place of places) {
      void this.#close(place, 0).then(() => {
        open -= 1;
        if (place.store.isOpen) this.checks.fail(`${place.plan.name} left its store open`);
      });
    }
    await this.#runUntil('the close', () => open === 0);
    const spentMs = this.#timeline.nowMs - startedMs;
    // In the time of the timeline, which may be shorter than that of the process.
    if (spentMs > MAX_CLOSE_MS * 1.01 + this.#bounds.slackMs)
      this.checks.fail(`close took ${spentMs} ms`);
    await this.#runFor('the end', this.#plan.maxTtlMs + this.#bounds.slackMs);
    for (const { plan, party } of places) {
      const timers = party.process.clock.pendingTimers();
      if (timers > 0) this.checks.fail(`${plan.name} has ${timers} timers left after its close`);
    }
  }

  #close(place: Place, graceMs: number): Promise<void> {
    this.#trace(place.plan.name, () => `close within ${graceMs} ms`);
    place.party.isClosed = true;
    place.closed ??= place.locks.close({ graceMs });
    return place.closed;
  }

  // --- The machinery -------------------------------------------------------------------------------------------------

  /** Goes on until `isDone`, or through all moments up to a time. */
  async #runUntil(what: string, isDone: () => boolean): Promise<void> {
    await this.#timeline.settle();
    const look = (): void => this.checks.look();
    while (this.checks.violations.length === 0 && !isDone()) {
      const isOver = this.#timeline.steps > MAX_STEPS || this.#timeline.nowMs > MAX_MS;
      if (!isOver && (await this.#timeline.step(MAX_MS, look))) continue;
      this.checks.fail(`${what} does not end; ${this.checks.waiting.length} callers wait`);
    }
  }

  async #runFor(what: string, forMs: number): Promise<void> {
    let isOver = false;
    this.#timeline.after(forMs, () => {
      isOver = true;
    });
    await this.#runUntil(what, () => isOver);
  }

  #healthyPlaces(): Place[] {
    return this.#places.filter(
      ({ party }) => !party.process.isDead && !party.isClosed && !party.isHung,
    );
  }

  #placeOf(name: string): Place {
    return this.#places.find((place) => place.plan.name === name) as Place;
  }

  #trace(who: string, line: () => string): void {
    if (this.#onTrace) this.#onTrace(`[${this.#timeline.nowMs.toFixed(3)}] ${who} ${line()}`);
    // Cheap, and different as soon as anything happens at another time or in another place.
    const mixed = Math.imul(this.#fingerprint ^ Math.round(this.#timeline.nowMs * 1e6), 0x01000193);
    this.#fingerprint = (mixed ^ who.charCodeAt(who.length - 1)) >>> 0;
  }
}

function isDone({ running, party }: Place): boolean {
  return running === 0 || party.process.isDead;
}

/** What may be asked of a schedule, given what happens in it. */
function boundsOf(plan: Plan): Bounds {
  const { maxLatenessMs, maxTtlMs, timeoutMs, weather, profile } = plan;
  const slackMs = 2 * maxLatenessMs + 6;
  const hopMs = weather.maxDelayMs + maxLatenessMs;
  // A release and a grant are two hops. A claim that was withdrawn on its way is dropped again, which takes four more,
  // and several of those may stand in line.
  const promptMs = 16 * hopMs + 10;
  // What was not answered is asked again, and perhaps once more when two of them stand in line.
  const repairedMs = promptMs + 2 * (timeoutMs + MAX_RETRY_MS);
  // A holder and a waiter that fell silent each cost their ttl, and then somebody must look.
  const expiredMs = repairedMs + 3 * maxTtlMs;
  const idleMs = {
    calm: promptMs,
    leaky: repairedMs,
    rough: expiredMs,
    lossy: expiredMs,
    silent: expiredMs,
  };
  return {
    isCalm: profile === 'calm',
    isLossy: profile === 'lossy',
    healMs: plan.healMs,
    idleMs: idleMs[profile],
    slackMs,
  };
}

/** Somebody uses another limit for this key, so that the right one may be refused for a while. */
function isDisputed(plan: Plan, key: string, limit: number | null): boolean {
  return plan.processes.some(({ tasks }) =>
    tasks.flat().some((operation) => operation.keys[0] === key && operation.limit !== limit),
  );
}

function closingOperation(plan: Plan, key: string, limit: number | null): Operation {
  return {
    thinkMs: 0,
    keys: [key],
    mode: limit === null ? 'exclusive' : 'permit',
    limit,
    form: 'acquire',
    ttlMs: plan.maxTtlMs,
    waitMs: 100_000,
    retainMs: 0,
    maxHoldMs: 0,
    holdMs: 5,
    abortAfterMs: null,
    isCareful: true,
    watchesSignal: true,
  };
}

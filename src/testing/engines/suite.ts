/**
 * What a case of the suites for states and outboxes is, and how one is run. Nothing here knows a test runner.
 */
import assert from 'node:assert/strict';
import type { Elision, StateStore } from '../../consumer/contracts.ts';
import type { LeaseStore } from '../../core/store.ts';
import { actionOf, type Hook, type StoreModule, whyNot } from '../conformance/fixture.ts';
import { delay, turn } from '../conformance/trial.ts';
import { EngineProcess } from './process.ts';

/** What every state and every outbox is, besides what it does. */
export interface Engine {
  readonly name: string;
  open(): Promise<void>;
  close(): Promise<void>;
}

/** What a case wants of the engines of its world; outboxes need none of it. */
export interface WorldSettings {
  readonly windowMs: number;
}

/** Data that nobody else uses, for one run of one case. */
export interface EngineWorld<Kind extends Engine> {
  /** A new engine, not open yet, that sees the same data as the others of this world: one for each "process". */
  engine(): Kind;
  /** Ends everything that the world began, files and processes included. Its engines are closed by then. */
  close(): Promise<void>;
}

/** Every entry is required: a fault that cannot be made says why. */
export interface EngineHooks<World> {
  /** Ends what keeps the data and starts it again. All engines of the world are closed by then. */
  readonly restart: Hook<(world: World) => Promise<void>>;
  /** Lets other processes into this world, to be killed. */
  readonly processes: Hook<(world: World) => StoreModule>;
  /** A state store of this world, and a lease store beside it, so that locks can be elided. Neither is open yet. */
  readonly elision: Hook<(world: World) => BesideLocks>;
}

export interface BesideLocks {
  readonly state: StateStore;
  readonly leases: LeaseStore;
}

export interface EngineFixture<
  Kind extends Engine,
  World extends EngineWorld<Kind> = EngineWorld<Kind>,
> {
  /** The name of the engine's folder in `src`, and after a comma what is particular. */
  readonly name: string;
  makeWorld(settings: WorldSettings): Promise<World>;
  readonly hooks: EngineHooks<World>;
}

export type EngineHookName = keyof EngineHooks<unknown>;

export const engineHookNames: readonly EngineHookName[] = ['restart', 'processes', 'elision'];

export interface EngineCase<Kind extends Engine> {
  /** Unique, and a sentence that is true of every engine that passes. */
  readonly name: string;
  readonly hooks?: readonly EngineHookName[];
  /** Default a day: longer than any case takes. */
  readonly windowMs?: number;
  run(trial: EngineTrial<Kind>): Promise<void>;
}

/** Forgets which kind of world the hooks of a fixture take: the suite hands them only worlds of its own. */
export function defineEngineFixture<Kind extends Engine, World extends EngineWorld<Kind>>(
  fixture: EngineFixture<Kind, World>,
): EngineFixture<Kind> {
  return fixture as unknown as EngineFixture<Kind>;
}

const DAY_MS = 86_400_000;
const PATIENCE_MS = 20_000;
const POLL_MS = 5;

/** One run of one case: a world of its own, the engines and processes that the case opens in it, and their end. */
export class EngineTrial<Kind extends Engine> {
  readonly #fixture: EngineFixture<Kind>;
  readonly #world: EngineWorld<Kind>;
  readonly #patienceMs: number;
  #open: { close(): Promise<unknown> }[] = [];

  constructor(fixture: EngineFixture<Kind>, world: EngineWorld<Kind>, patienceMs: number) {
    this.#fixture = fixture;
    this.#world = world;
    this.#patienceMs = patienceMs;
  }

  /** An open engine, as another process would have it. */
  async engine(): Promise<Kind> {
    const engine = this.#world.engine();
    await this.settles('opening', engine.open());
    this.#open.push(engine);
    return engine;
  }

  /** Both of them open, and what the state store does without taking locks. */
  async elision(): Promise<BesideLocks & { readonly elision: Elision }> {
    const { state, leases } = actionOf(this.#fixture.hooks.elision)(this.#world);
    await this.settles('opening', state.open());
    this.#open.push(state);
    await this.settles(
      'opening',
      leases.open(() => {}),
    );
    this.#open.push(leases);
    const elision = state.elision?.(leases);
    assert(elision, 'the state store says that these leases are not beside its states');
    return { state, leases, elision };
  }

  async spawn(): Promise<EngineProcess> {
    const from = actionOf(this.#fixture.hooks.processes)(this.#world);
    const child = new EngineProcess(from);
    this.#open.push({ close: () => child.kill() });
    await this.settles('the start of a process', child.ready);
    return child;
  }

  /** Closes everything of this trial, and restarts what keeps the data. */
  async restart(): Promise<void> {
    await this.#closeAll();
    await actionOf(this.#fixture.hooks.restart)(this.#world);
  }

  /** The first value of the condition that is not false, looked for again and again. */
  async until<Value>(
    what: string,
    condition: () => Value | false | Promise<Value | false>,
  ): Promise<Value> {
    const startedMs = performance.now();
    for (;;) {
      const value = await condition();
      if (value !== false) return value;
      const waitedMs = performance.now() - startedMs;
      assert(waitedMs < this.#patienceMs, `waited ${this.#patienceMs} ms in vain: ${what}`);
      await delay(POLL_MS);
    }
  }

  /** The outcome of the promise; fails when there is none in time. */
  async settles<Value>(what: string, promise: Promise<Value>): Promise<Value> {
    let timer: NodeJS.Timeout | undefined;
    const tooLate = new Promise<never>((_, reject) => {
      const message = `waited ${this.#patienceMs} ms in vain: ${what} did not settle`;
      timer = setTimeout(() => reject(new assert.AssertionError({ message })), this.#patienceMs);
    });
    try {
      return await Promise.race([promise, tooLate]);
    } finally {
      clearTimeout(timer);
    }
  }

  async close(): Promise<void> {
    try {
      await this.#closeAll();
    } finally {
      await this.settles('closing the world', this.#world.close());
    }
  }

  async #closeAll(): Promise<void> {
    const open = this.#open;
    this.#open = [];
    const closing = open.map((one) => this.settles('closing an engine', one.close()));
    const failed = (await Promise.allSettled(closing)).find((one) => one.status === 'rejected');
    if (failed) throw failed.reason;
  }
}

/** Why this case does not apply to that engine, in a sentence; `null` when it does. */
export function engineSkipReason<Kind extends Engine>(
  one: EngineCase<Kind>,
  fixture: EngineFixture<Kind>,
): string | null {
  for (const name of one.hooks ?? []) {
    const reason = whyNot(fixture.hooks[name]);
    if (reason !== null) return reason;
  }
  return null;
}

/** Rejects with an assertion that says what is wrong with the engine. */
export async function runEngineCase<Kind extends Engine>(
  one: EngineCase<Kind>,
  fixture: EngineFixture<Kind>,
  { patienceMs = PATIENCE_MS }: { readonly patienceMs?: number } = {},
): Promise<void> {
  const unhandled: unknown[] = [];
  const note = (reason: unknown): void => {
    unhandled.push(reason);
  };
  process.on('unhandledRejection', note);
  try {
    const world = await fixture.makeWorld({ windowMs: one.windowMs ?? DAY_MS });
    const trial = new EngineTrial(fixture, world, patienceMs);
    try {
      await one.run(trial);
    } finally {
      await trial.close();
    }
    // Rejections count as unhandled only after the turn in which they happened.
    await turn();
    await turn();
  } finally {
    process.off('unhandledRejection', note);
  }
  assert.deepEqual(unhandled, [], 'a promise was rejected and nobody handled it');
}

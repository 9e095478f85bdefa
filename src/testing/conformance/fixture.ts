/**
 * What a store gives so that the conformance suite can run against it, and what can be done to its engine.
 */
import type { LeaseStore } from '../../core/store.ts';

/** Something that a fixture can do to its engine, or the reason why that makes no sense there. */
export type Hook<Action> = Action | NotApplicable;

export interface NotApplicable {
  /** A sentence for people; the suite skips the cases that need the hook, and says this. */
  readonly notApplicable: string;
}

/** What an engine keeps for one key. */
export interface KeyReport {
  readonly key: string;
  /** Owner values that stand as holders, expired ones that were not removed yet included. */
  readonly holders: readonly string[];
  /** Owner values that stand in the queue. */
  readonly waiters: readonly string[];
}

/** How a process of its own gets a store of the same world: `(await import(module))[factory](options)`. */
export interface StoreModule {
  /** A module name, or the URL of a file. */
  readonly module: string;
  /** The export that makes a store. */
  readonly factory: string;
  /** The argument of the factory; it travels as JSON. */
  readonly options: unknown;
}

/** An engine that nobody else uses, for one run of one case. */
export interface StoreWorld {
  /** A new store, not open yet, that sees the same keys as the others of this world: one for each "process". */
  store(): LeaseStore;
  /** Ends everything that the world began, files and processes included. Its stores are closed by then. */
  close(): Promise<void>;
}

export interface StoreFixture<World extends StoreWorld = StoreWorld> {
  /** The name of the store's folder in `src`. */
  readonly name: string;
  makeWorld(): Promise<World>;
  readonly hooks: StoreHooks<World>;
}

/** Every entry is required: a fault that cannot be made says why. */
export interface StoreHooks<World extends StoreWorld = StoreWorld> {
  /** Everything that the engine keeps in this world; a key that nobody holds or waits for is not in it. */
  readonly inspect: Hook<(world: World) => Promise<readonly KeyReport[]>>;
  /**
   * Ends the engine and starts it again, with whatever it keeps over a restart. The suite has closed all stores of the
   * world by then, and makes new ones afterwards.
   */
  readonly restart: Hook<(world: World) => Promise<void>>;
  /** Lets other processes into this world, to be killed and stopped. */
  readonly processes: Hook<(world: World) => StoreModule>;
}

/** Forgets which kind of world the hooks of a fixture take: the suite hands them only worlds of its own. */
export function defineFixture<World extends StoreWorld>(
  fixture: StoreFixture<World>,
): StoreFixture {
  return fixture as unknown as StoreFixture;
}

export type HookName = keyof StoreHooks;

export const hookNames: readonly HookName[] = ['inspect', 'restart', 'processes'];

/** The reason why a hook cannot apply; `null` when it can. */
export function whyNot(hook: Hook<unknown>): string | null {
  const { notApplicable } = hook as Partial<NotApplicable>;
  return notApplicable ?? null;
}

/** What the hook does. The suite asks only for hooks that its case has named. */
export function actionOf<Action extends (world: never) => unknown>(hook: Hook<Action>): Action {
  if (typeof hook === 'function') return hook;
  throw new TypeError(`a case uses a hook that it did not name: ${whyNot(hook)}`);
}

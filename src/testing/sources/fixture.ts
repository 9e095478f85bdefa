/**
 * What a source gives so that the conformance suite can run against it, and what can be done to its engine.
 */
import type { DeadLetters, MessageSource } from '../../consumer/contracts.ts';
import type { Publisher } from '../../consumer/publication.ts';
import type { Hook } from '../conformance/fixture.ts';

/** A queue that nobody else uses, for one run of one case. */
export interface SourceWorld {
  /** A new source of this queue, not open yet. */
  source(options?: { readonly prefetch?: number }): MessageSource;
  publisher(): Publisher;
  deadLetters(): DeadLetters;
  /** Ends everything that the world began. Its sources are closed by then. */
  close(): Promise<void>;
}

/** How a process of its own gets a source of the same world: `(await import(module))[factory](options)`. */
export interface SourceModule {
  /** A module name, or the URL of a file. */
  readonly module: string;
  readonly factory: string;
  /** The argument of the factory; it travels as JSON. */
  readonly options: unknown;
}

/** Every entry is required: a fault that cannot be made says why. */
export interface SourceHooks<World extends SourceWorld = SourceWorld> {
  /** Takes their connections away from the sources of this world, which make them again by themselves. */
  readonly cut: Hook<(world: World) => Promise<void>>;
  /** Ends the engine and starts it again, under the sources that are open. */
  readonly restart: Hook<(world: World) => Promise<void>>;
  /** Lets other processes into this world, to be killed. */
  readonly processes: Hook<(world: World) => SourceModule>;
}

export type SourceHookName = keyof SourceHooks;

export const sourceHookNames: readonly SourceHookName[] = ['cut', 'restart', 'processes'];

export interface SourceFixture<World extends SourceWorld = SourceWorld> {
  /** The name of the source's folder in `src`; more may follow after a comma. */
  readonly name: string;
  makeWorld(): Promise<World>;
  readonly hooks: SourceHooks<World>;
}

/** Forgets which kind of world the hooks of a fixture take: the suite hands them only worlds of its own. */
export function defineSourceFixture<World extends SourceWorld>(
  fixture: SourceFixture<World>,
): SourceFixture {
  return fixture as unknown as SourceFixture;
}

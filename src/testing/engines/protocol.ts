/** What the suite and a process of its own say to each other. */
import type { StoreModule } from '../conformance/fixture.ts';

/** What such a process can be told to do, with one engine. */
export interface EngineCommands {
  /** Loads a state under a token; what came of it. */
  load(key: string, token: string): Promise<'loaded' | 'stale'>;
  /** Adds one to a state, again and again, with one new message each time, until it is killed. Tells of each commit. */
  add(key: string, token: string): Promise<never>;
  /** Puts one message after the other until it is killed. Tells of each that is safe. */
  fill(name: string): Promise<never>;
  /** Claims entries of an outbox, and keeps them. */
  claim(most: number, leaseMs: number): Promise<readonly string[]>;
}

export type EngineCommand = keyof EngineCommands;

export interface EngineStart {
  readonly from: StoreModule;
}

export interface EngineRequest {
  readonly id: number;
  readonly command: EngineCommand;
  readonly args: readonly unknown[];
}

export type EngineReply =
  | { readonly is: 'ready' }
  /** The id of a message that the engine has answered for. */
  | { readonly is: 'done'; readonly message: string }
  | { readonly is: 'value'; readonly id: number; readonly value: unknown }
  | { readonly is: 'error'; readonly id: number; readonly message: string };

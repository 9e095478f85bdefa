/**
 * What a torture run needs to know of an engine. A store is added with one file beside this one, and a line in
 * `index.ts`.
 */
import type { Cluster, Redis } from 'ioredis';
import type { LeaseStore } from 'leasehold';
import type { Values } from '../values/values.ts';

/** From a server's port to the port of the proxy through which this worker reaches it. */
export type Via = Readonly<Record<number, number>>;

/** A server that can be broken. */
export interface EngineServer {
  readonly name: string;
  readonly port: number;
  pause(): void;
  resume(): void;
  kill(): Promise<void>;
  /** Ends it in order. */
  stop(): Promise<void>;
  startAgain(): Promise<void>;
  /** Removes its data, while it is down. Missing: what it has must not be lost. */
  readonly forget?: () => void;
  /** Sets its clock, relative to the right time. Missing: its clock cannot be set. */
  readonly setClock?: (seconds: number) => void;
}

/** What a worker needs to reach the engine; it travels as JSON. */
export type Place = Readonly<Record<string, unknown>>;

export interface Engine {
  readonly place: Place;
  /** Those that may lose their data and those whose clock can be set come first. */
  readonly servers: readonly EngineServer[];
  /** The values that the lock protects, as an onlooker reaches them. */
  readonly values: Values;
  /** What is left of locks when all is given back. */
  leftovers(): Promise<string[]>;
  close(): Promise<void>;
}

/**
 * What may let two hold a key at once, as the store's page says: nothing that a torture run does; a server that loses its
 * data or its clock; or already one that is down, since another one takes over and may lack its last writes.
 */
export type Weakness = 'none' | 'a forgetful server' | 'a server that is down';

export interface EngineKind {
  readonly weakness: Weakness;
  /** Where the values are, for people. */
  readonly valuesAre: string;
  /** Starts the servers. With the path of libfaketime their clocks can be set. */
  start(faketime: string | null): Promise<Engine>;
  /** In a worker: a store, and what ends the client that it was made with. */
  makeStore(place: Place, via: Via): { readonly store: LeaseStore; readonly close: () => void };
  /** A client for a peer's locks. Missing: peers cannot use this engine. */
  readonly makeClient?: (place: Place, via: Via) => Redis | Cluster;
  makeValues(place: Place, via: Via): Values;
  /** Whether waiters of several processes are served in the order in which they came. */
  readonly keepsOrder: boolean;
}

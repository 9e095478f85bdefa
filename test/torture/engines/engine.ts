/**
 * What a torture run needs to know of an engine. A store is added with one file beside this one, and a line in
 * `index.ts`.
 */
import type { Cluster, Redis } from 'ioredis';
import type { LeaseStore } from 'leasehold';
import type { Way } from '../plan.ts';
import type { ValuesKind } from '../values/values.ts';

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
  /** Ends it and removes its data. Missing: what it has must not be lost. */
  readonly forget?: () => Promise<void>;
  /** Sets its clock, relative to the right time. Missing: its clock cannot be set. */
  readonly setClock?: (seconds: number) => void;
  /**
   * Cuts it off from the other servers, not from clients, and says how to end that. The way is the server's: its requests are
   * what it sends, whoever began. Missing: there are no links, or nothing to cut them with.
   */
  readonly cutOff?: (way: Way) => () => void;
}

/** What a worker needs to reach something; it travels as JSON. */
export type Place = Readonly<Record<string, unknown>>;

export interface Engine {
  readonly place: Place;
  /** Those that may lose their data, whose clock can be set, and that can be cut off, come first. */
  readonly servers: readonly EngineServer[];
  /** What is left of locks when all is given back. */
  leftovers(): Promise<string[]>;
  close(): Promise<void>;
}

/** What there is to break an engine with, besides signals and proxies. */
export interface Tools {
  /** The path of libfaketime: clocks can be set. */
  readonly faketime: string | null;
  /** This run has a network of its own: whatever is sent over it can be dropped. */
  readonly hasOwnNetwork: boolean;
}

/**
 * What may let two hold a key at once, as the store's page says: nothing that a torture run does; a server that loses its
 * data or its clock; or already one that is down, since another one takes over and may lack its last writes.
 */
export type Weakness = 'none' | 'a forgetful server' | 'a server that is down';

export interface EngineKind {
  readonly weakness: Weakness;
  /** Where the values are that its locks protect. */
  readonly values: ValuesKind;
  /** Whether its servers talk to each other. */
  readonly hasLinks: boolean;
  start(tools: Tools): Promise<Engine>;
  /** In a worker: a store, and what ends the client that it was made with. */
  makeStore(place: Place, via: Via): { readonly store: LeaseStore; readonly close: () => void };
  /** A client for a peer's locks. Missing: peers cannot use this engine. */
  readonly makeClient?: (place: Place, via: Via) => Redis | Cluster;
  /** Whether waiters of several processes are served in the order in which they came. */
  readonly keepsOrder: boolean;
}

/** What the lock protects: for each key a fenced value, and one without a fence. */
import type { Lease } from 'leasehold';
import type { EngineServer, Place, Via } from '../engines/engine.ts';

/** As somebody sees them who has no lock. */
export interface Onlooker {
  /** Reads the fenced value, and leaves the fence as it is. */
  peek(key: string): Promise<string | null>;
  getPlain(key: string): Promise<string | null>;
  close(): Promise<void>;
}

export interface Values extends Onlooker {
  /** Both reject with a `StaleTokenError` when the fence refuses. */
  getFenced(key: string, lease: Lease): Promise<string | null>;
  setFenced(key: string, value: string, lease: Lease): Promise<void>;
  setPlain(key: string, value: string): Promise<void>;
}

/** Where values are, on servers that may be stopped, killed and cut off, but keep their data. */
export interface ValuesPlace {
  readonly place: Place;
  readonly servers: readonly EngineServer[];
  readonly onlooker: Onlooker;
  close(): Promise<void>;
}

export interface ValuesKind {
  /** For people. */
  readonly are: string;
  start(): Promise<ValuesPlace>;
  /** In a worker. */
  connect(place: Place, via: Via): Values;
}

export const FENCED = 'fenced:';
export const PLAIN = 'plain:';

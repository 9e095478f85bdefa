/** The values that the lock protects: for each key a fenced one, and one without a fence. */
import type { Lease } from 'leasehold';

export interface Values {
  /** Both reject with a `StaleTokenError` when the fence refuses. */
  getFenced(key: string, lease: Lease): Promise<string | null>;
  setFenced(key: string, value: string, lease: Lease): Promise<void>;
  getPlain(key: string): Promise<string | null>;
  setPlain(key: string, value: string): Promise<void>;
  /** Reads the fenced value without a lease, and leaves the fence as it is. */
  peek(key: string): Promise<string | null>;
  close(): Promise<void>;
}

export const FENCED = 'fenced:';
export const PLAIN = 'plain:';

/**
 * What a state on Redis remembers, read from its field `r`: see scripts/remembered.ts.
 */
import type { Redis } from 'ioredis';
import { WIDTH } from '../../dist/src/redis/scripts/remembered.js';

export interface StateRecord {
  readonly current: number;
  readonly mayHaveDead: boolean;
  /** Of each generation, how many of its ids stand in the state. */
  readonly young: readonly number[];
}

/** Up to the young ids of the current generation, and from there to those of the others. */
const [HEAD, OTHERS] = [31, 26];

export async function recordOf(client: Redis, key: string): Promise<StateRecord> {
  const bytes = await client.hgetBuffer(key, 'r');
  if (bytes === null) throw new Error(`'${key}' has no record`);
  const byteAt = (at: number): number => bytes[at] ?? 0;
  const [flags, current, size] = [byteAt(0), byteAt(1), byteAt(HEAD - 1)];
  const othersAt = HEAD + size * WIDTH;
  const young = [0, 0, 0];
  young[current - 1] = size;
  if (flags >= 2) {
    young[current % 3] = byteAt(othersAt + OTHERS / 2 - 1);
    young[(current + 1) % 3] = byteAt(othersAt + OTHERS - 1);
  }
  return { current, mayHaveDead: flags % 2 === 1, young };
}

/**
 * What a state on Redis remembers, read from its field `r`: see scripts/remembered.ts.
 */
import type { Redis } from 'ioredis';

export interface StateRecord {
  readonly current: number;
  readonly mayHaveDead: boolean;
  /** Of each generation, how many of its ids stand in the state. */
  readonly young: readonly number[];
}

const HEADER = 18;
const GENERATION = 13;

export async function recordOf(client: Redis, key: string): Promise<StateRecord> {
  const bytes = await client.hgetBuffer(key, 'r');
  if (bytes === null) throw new Error(`'${key}' has no record`);
  const young = [1, 2, 3].map((number) => bytes[HEADER + number * GENERATION - 1] ?? 0);
  return { current: bytes[0] ?? 0, mayHaveDead: bytes[1] === 1, young };
}

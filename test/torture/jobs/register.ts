/** A number that is read, made one larger, and written: fenced, or without a fence. */
import { setTimeout } from 'node:timers/promises';
import type { Lease } from 'leasehold';
import { StaleTokenError } from 'leasehold/redis';
import type { Place, Workload } from './workload.ts';

const MAX_THOUGHT_MS = 20;
const PEEK_CHANCE = 0.1;

export const register: Workload = async (place, key, isFenced) => {
  if (isFenced && place.random.chance(PEEK_CHANCE)) await peek(place, key);
  return place.locked(key, async ({ lease }, look) => {
    look();
    const isDone = await addOne(place, key, isFenced ? lease : null, look);
    return isDone;
  });
};

/** With a lease, to the fenced value. */
async function addOne(
  { random, recorder, values, newNumber, mayStop }: Place,
  key: string,
  lease: Lease | null,
  look: () => void,
): Promise<boolean> {
  const op = newNumber();
  const isFenced = lease !== null;
  try {
    recorder.write({ is: 'reads', op, key, isFenced });
    const value = lease ? await values.getFenced(key, lease) : await values.getPlain(key);
    recorder.write({ is: 'has-read', op, value });
    look();
    await setTimeout(random.between(0, MAX_THOUGHT_MS));
    const next = `${Number.parseInt(value ?? '0', 10) + 1}:${op}`;
    mayStop(key, isFenced);
    recorder.write({ is: 'writes', op, value: next });
    await (lease ? values.setFenced(key, next, lease) : values.setPlain(key, next));
    recorder.write({ is: 'ended', op, outcome: 'done' });
    return true;
  } catch (error) {
    const outcome = error instanceof StaleTokenError ? 'stale' : 'unknown';
    recorder.write({ is: 'ended', op, outcome });
    return false;
  }
}

/** Anybody may look at the value at any time. */
async function peek({ recorder, values, newNumber }: Place, key: string): Promise<void> {
  const op = newNumber();
  recorder.write({ is: 'reads', op, key, isFenced: true });
  try {
    recorder.write({ is: 'has-read', op, value: await values.peek(key) });
  } catch {
    recorder.write({ is: 'ended', op, outcome: 'unknown' });
  }
}

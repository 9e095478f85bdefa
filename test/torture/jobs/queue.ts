/** Nothing but the lock: who gets it when. */
import { setTimeout } from 'node:timers/promises';
import type { Workload } from './workload.ts';

const MAX_HOLD_MS = 4;

export const queue: Workload = ({ random, locked }, key) =>
  locked(key, async (_, look) => {
    look();
    await setTimeout(random.between(0, MAX_HOLD_MS));
    return true;
  });

/**
 * Several tasks that lock, work, and write down what they did.
 *
 * They believe in their locks to the end: a lease that was lost meanwhile does not keep them from writing. That is what a
 * process does that was stopped between its last look and its write, and what fences are for.
 */
import { setTimeout } from 'node:timers/promises';
import { ENGINES } from '../engines/index.ts';
import { nowUs } from '../history.ts';
import { keysAt } from '../orders.ts';
import { codeOf, type Held, locksFor } from '../subjects.ts';
import type { Context, Job } from './job.ts';
import type { Place, Workload } from './workload.ts';

/** Between two attempts of work that a fault has cost. */
const PAUSE_MS = 20;

export function tasksJob(context: Context, workload: Workload): Job {
  const { order, random, recorder, wrong, newNumber } = context;
  const isOurs = order.subject === 'leasehold';
  const locks = locksFor(order, recorder);
  const engine = ENGINES[order.engine] as (typeof ENGINES)[string];
  const values = engine.values.connect(order.valuesPlace, order.via);

  const locked: Place['locked'] = async (key, work) => {
    const call = newNumber();
    recorder.write({ is: 'asked', call, key });
    let held: Held;
    try {
      held = await locks.take(key);
    } catch (error) {
      const code = codeOf(error, order);
      if (code === null) wrong(`acquire rejected with ${String(error)}`);
      recorder.write({ is: 'refused', call, code: code ?? 'untyped' });
      return false;
    }
    recorder.write({ is: 'granted', call, token: held.token });
    const look = (): void => {
      // The time is taken first: what was valid later was valid then.
      const atUs = nowUs();
      if (held.isValid()) recorder.write({ is: 'held', call }, atUs);
    };
    try {
      return await work(held, look);
    } finally {
      look();
      recorder.write({ is: 'released', call });
      await held.release().catch((error: unknown) => {
        if (isOurs) wrong(`release rejected with ${String(error)}`);
      });
    }
  };
  const place: Place = { ...context, values, locked };

  async function task(): Promise<void> {
    while (context.finish === null) {
      const key = random.pick(keysAt(order.workload, order.startedUs, nowUs()));
      const isFenced = isOurs && random.chance(0.5);
      if (!(await workload(place, key, isFenced))) await setTimeout(PAUSE_MS);
    }
    for (const key of context.finish.keys) {
      while (!(await workload(place, key, isOurs))) await setTimeout(PAUSE_MS);
    }
  }

  return {
    async run() {
      await Promise.all(Array.from({ length: order.tasks }, task));
    },
    async close() {
      await locks.close();
      await values.close();
    },
  };
}

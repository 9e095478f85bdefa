import { describe, it } from 'vitest';
import { runSchedules } from './schedules.ts';

// Two files, so that they run on two cores.
const FIRST_SEED = 1;
const SCHEDULES = 6_000;
const STEP = 1_000;

describe('every schedule keeps what the package promises', () => {
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SCHEDULES; seed += STEP) {
    it(`of the seeds from ${seed} to ${seed + STEP - 1}`, async () => {
      await runSchedules(seed, STEP);
    });
  }
});

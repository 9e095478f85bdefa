/**
 * Random schedules of faults, judged from outside: every message was applied exactly once, or waits for a person.
 */
import * as core from 'leasehold';
import * as consumer from 'leasehold/consumer';
import * as memory from 'leasehold/memory';
import { expect, test } from 'vitest';
import { simulate } from './simulation.ts';

const FIRST_SEED = Number(process.env['SEED'] ?? 1);
const SEEDS = Number(process.env['SEEDS'] ?? (process.env['SEED'] ? 1 : 1_500));

test(`schedules ${FIRST_SEED} to ${FIRST_SEED + SEEDS - 1} lose nothing and apply nothing twice`, async () => {
  const totals: Record<string, number> = {};
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed += 1) {
    const { wrong, counts } = await simulate({ core, consumer, memory }, seed);
    const replay = `replay it with: SEED=${seed} npx vitest run test/consumer/simulation.test.ts`;
    expect(wrong, replay).toEqual([]);
    for (const [what, count] of Object.entries(counts)) totals[what] = (totals[what] ?? 0) + count;
  }
  process.stdout.write(`${JSON.stringify(totals)}\n`);
}, 300_000);

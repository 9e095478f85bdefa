/**
 * Runs the schedules of many seeds, and fails with the one command that replays the first that went wrong.
 */
import { type SimulationReport, simulate } from 'leasehold/testing';
import { expect } from 'vitest';

/** What the schedules of a range had in them, added up. */
export type Tally = Map<string, number>;

const TRACE_LINES = 40;

export async function runSchedules(firstSeed: number, count: number): Promise<Tally> {
  const tally: Tally = new Map();
  for (let seed = firstSeed; seed < firstSeed + count; seed += 1) {
    const report = await simulate({ seed });
    if (report.violations.length > 0) expect.fail(await describeFailure(report));
    add(tally, `profile ${report.plan.profile}`, 1);
    for (const [what, times] of Object.entries(report.counts)) add(tally, what, times);
    for (const fault of report.plan.faults) add(tally, `fault ${fault.is}`, 1);
  }
  return tally;
}

async function describeFailure({ plan, violations }: SimulationReport): Promise<string> {
  const trace: string[] = [];
  await simulate({ seed: plan.seed, onTrace: (line) => trace.push(line) });
  return [
    `seed ${plan.seed} (${plan.profile}): ${violations[0]}`,
    `replay it with: npm run simulate -- --seed ${plan.seed} --trace`,
    ...trace.slice(-TRACE_LINES),
  ].join('\n');
}

function add(tally: Tally, what: string, times: number): void {
  tally.set(what, (tally.get(what) ?? 0) + times);
}

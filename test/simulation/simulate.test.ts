import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { makePlan, type Profile, simulate } from 'leasehold/testing';
import { describe, expect, it } from 'vitest';
import { runSchedules } from './schedules.ts';

const PROGRAM = fileURLToPath(
  new URL('../../dist/src/testing/simulation/program.js', import.meta.url),
);
const run = promisify(execFile);

/** The first seed of each profile, so that this test does not depend on how seeds are drawn. */
function seedOf(profile: Profile): number {
  let seed = 1;
  while (makePlan(seed).profile !== profile) seed += 1;
  return seed;
}

const PROFILES = ['calm', 'leaky', 'rough', 'lossy', 'silent'] as const;

describe('a seed', () => {
  it.each(PROFILES)('decides everything that happens in a %s schedule', async (profile) => {
    const seed = seedOf(profile);
    const traces: string[][] = [[], []];
    const reports = await Promise.all(
      // One after the other would do; side by side they could disturb each other, and must not.
      traces.map((trace) => simulate({ seed, onTrace: (line) => trace.push(line) })),
    );
    expect(traces[0]).toEqual(traces[1]);
    expect(traces[0]?.length).toBeGreaterThan(10);
    expect(reports[0]?.fingerprint).toBe(reports[1]?.fingerprint);
  });

  it('makes another schedule than the next', async () => {
    const prints = new Set<number>();
    for (let seed = 1; seed <= 50; seed += 1) prints.add((await simulate({ seed })).fingerprint);
    expect(prints.size).toBe(50);
  });
});

describe('the schedules', () => {
  it('have everything in them that they are to judge', async () => {
    const tally = await runSchedules(20_000, 400);
    const happened = [
      ...PROFILES.map((profile) => `profile ${profile}`),
      ...['pause', 'kill', 'cut', 'wall', 'close', 'hang', 'storm', 'restart'].map(
        (fault) => `fault ${fault}`,
      ),
      'fault server-clock',
      'fault revoke',
      'leases',
      'leases passed on',
      'leases passed on while wanted',
      'leases lost',
      'writes accepted',
      'writes fenced',
      'refused with ACQUIRE_TIMEOUT',
      'refused with STORE_UNAVAILABLE',
      'refused with CLAIM_REFUSED',
      'refused with MANAGER_CLOSED',
      'refused with LEASE_LOST',
      'refused with Error: the caller changed its mind',
    ];
    const missing = happened.filter((what) => !tally.has(what));
    expect(missing).toEqual([]);
  });
});

describe('npm run simulate', () => {
  it('replays one seed with a trace', async () => {
    const { stdout } = await run(process.execPath, [PROGRAM, '--seed', '7', '--trace']);
    expect(stdout).toContain('plan {"seed":7');
    expect(stdout).toMatch(/seed 7: \w+, /);
  });

  it('runs a range of seeds', async () => {
    const { stdout } = await run(process.execPath, [PROGRAM, '--from', '5', '--count', '20']);
    expect(stdout).toBe('20 schedules from seed 5: all right\n');
  });

  it('says how it is used when the command is wrong', async () => {
    const failure = run(process.execPath, [PROGRAM, '--seed', 'x']);
    await expect(failure).rejects.toMatchObject({ code: 2, stderr: /whole number.*\nusage:/ });
  });
});

/** Short runs of the torture. See docs/reliability.md for long ones. */
import { expect, test } from 'vitest';
import { lane, TOOLS } from '../servers/require.ts';
import { command, expectTorture } from './torture.ts';

const NO_CONTROL = ['--no-control'];

lane('torture of Redis', TOOLS.redis, () => {
  test('one server, and a peer that must fail', { timeout: 120_000 }, async () => {
    await expectTorture(['--store', 'redis', '--seconds', '10'], 1);
  });

  test('the order of hand-over, and a peer that has none', { timeout: 120_000 }, async () => {
    await expectTorture(['--store', 'redis', '--workload', 'queue', '--seconds', '10'], 1);
  });
});

test('an embedded store', { timeout: 120_000 }, async () => {
  await expectTorture(['--store', 'embedded', '--seconds', '8', ...NO_CONTROL], 1);
});

test.each([
  ['--store is one of', []],
  ['--store is one of', ['--store', 'paper']],
  ['--workload is one of', ['--store', 'redis', '--workload', 'none']],
  ['--faults is one of', ['--store', 'redis', '--faults', 'kill,fire']],
  ['--seconds is a whole number', ['--store', 'redis', '--seconds', '1.5']],
  ['--seed is a whole number', ['--store', 'redis', '--seed=-1']],
  ["Unknown option '--loud'", ['--store', 'redis', '--loud']],
])('a wrong command line: %s', async (message, args) => {
  const { code, stderr } = await command(args);
  expect(code).toBe(2);
  expect(stderr).toContain(message);
  expect(stderr).toContain('npm run torture -- --store');
});

/** Short runs of the torture, of stores that need a majority. */
import { test } from 'vitest';
import { lane, TOOLS } from '../servers/require.ts';
import { expectTorture } from './torture.ts';

const SHORT = ['--seconds', '8', '--no-control'];

lane('torture of Redlock', TOOLS.redis, () => {
  test('three masters', { timeout: 120_000 }, async () => {
    await expectTorture(['--store', 'redlock', ...SHORT], 1);
  });
});

lane('torture of ZooKeeper', TOOLS.zookeeper, () => {
  test('an ensemble', { timeout: 120_000 }, async () => {
    await expectTorture(['--store', 'zookeeper', ...SHORT], 1);
  });
});

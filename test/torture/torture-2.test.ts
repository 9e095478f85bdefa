/** Short runs of the torture, of stores that fail over. */
import { test } from 'vitest';
import { lane, TOOLS } from '../servers/require.ts';
import { expectTorture } from './torture.ts';

lane('torture of Redis with replicas', TOOLS.redis, () => {
  test.each(['sentinel', 'cluster'])('%s', { timeout: 120_000 }, async (store) => {
    await expectTorture(['--store', store, '--seconds', '8', '--no-control'], 1);
  });
});

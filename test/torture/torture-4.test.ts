/** A short run of the torture in which the keyed consumer keeps a ledger, with its messages on a broker. */
import { test } from 'vitest';
import { lane, TOOLS } from '../servers/require.ts';
import { expectTorture } from './torture.ts';

const LEDGER = ['--workload', 'ledger', '--seconds', '3', '--no-control'];

lane('torture of RabbitMQ and Redis', TOOLS.rabbitmq, () => {
  test('a ledger', { timeout: 240_000 }, async () => {
    await expectTorture(['--store', 'redis', ...LEDGER], 7);
  });
});

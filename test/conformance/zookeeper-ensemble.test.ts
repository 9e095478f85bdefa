import { afterAll } from 'vitest';
import { lane, TOOLS } from '../servers/require.ts';
import { zookeeperEnsemble } from './fixtures/zookeeper.ts';
import { registerSuite } from './register.ts';

lane('conformance of ZooKeeper on an ensemble', TOOLS.zookeeper, () => {
  afterAll(zookeeperEnsemble.endShared);
  registerSuite(zookeeperEnsemble.fixture, { but: ['restart'] });
});

import { afterAll } from 'vitest';
import { lane, TOOLS } from '../servers/require.ts';
import { zookeeperServer } from './fixtures/zookeeper.ts';
import { registerSuite } from './register.ts';

lane('conformance of ZooKeeper on one server', TOOLS.zookeeper, () => {
  afterAll(zookeeperServer.endShared);
  registerSuite(zookeeperServer.fixture, { but: ['restart'] });
});

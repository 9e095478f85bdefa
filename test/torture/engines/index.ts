/** Every engine that can be tortured. */
import { clusterEngine } from './cluster.ts';
import { embeddedEngine } from './embedded.ts';
import type { EngineKind } from './engine.ts';
import { redisEngine } from './redis.ts';
import { redlockEngine } from './redlock.ts';
import { replicatedEngine, sentinelEngine } from './sentinel.ts';
import { zookeeperEngine } from './zookeeper.ts';

export const ENGINES: Readonly<Record<string, EngineKind>> = {
  redis: redisEngine,
  sentinel: sentinelEngine,
  'sentinel-replicated': replicatedEngine,
  cluster: clusterEngine,
  redlock: redlockEngine,
  zookeeper: zookeeperEngine,
  embedded: embeddedEngine,
};

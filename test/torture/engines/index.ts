/** Every engine that can be tortured. */
import { clusterEngine } from './cluster.ts';
import { embeddedEngine } from './embedded.ts';
import type { EngineKind } from './engine.ts';
import { redisEngine } from './redis.ts';
import { sentinelEngine } from './sentinel.ts';

export const ENGINES: Readonly<Record<string, EngineKind>> = {
  redis: redisEngine,
  sentinel: sentinelEngine,
  cluster: clusterEngine,
  embedded: embeddedEngine,
};

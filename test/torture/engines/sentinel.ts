/**
 * A master with two replicas behind three Sentinels, reached by a client of ioredis that is handed in: with grants that
 * the master makes alone, and with grants that a replica must have.
 */
import { Redis } from 'ioredis';
import { redis } from 'leasehold/redis';
import { SentinelGroup } from '../../servers/redis.ts';
import { redisValues } from '../values/redis.ts';
import type { EngineKind, Place, Via } from './engine.ts';
import { natMap } from './nat-map.ts';
import { breakable, keysLeft } from './redis-server.ts';
import { startValues } from './start.ts';

export const sentinelEngine: EngineKind = engineWith(0);
export const replicatedEngine: EngineKind = engineWith(1);

function engineWith(minReplicas: number): EngineKind {
  return {
    weakness: 'a server that is down',
    keepsOrder: true,
    valuesAre: 'on a Redis server of their own that keeps its data',

    async start() {
      const group = await SentinelGroup.start();
      const values = await startValues();
      const { sentinels, name } = group;
      return {
        place: { sentinels, name, valuesPort: values.server.port },
        servers: [
          ...group.servers.map((server, index) =>
            breakable(server, `server ${index}`, { forget: true, clock: false }),
          ),
          values.breakable,
        ],
        values: values.onlooker,
        leftovers: async () => keysLeft([await group.master()]),
        async close() {
          await group.close();
          await values.close();
        },
      };
    },

    makeStore(place, via) {
      const client = makeClient(place, via);
      const store = redis(client, { requestTimeoutMs: 400, minReplicas, replicaTimeoutMs: 300 });
      return { store, close: () => client.disconnect() };
    },

    makeClient,

    makeValues: (place, via) => redisValues(via[place['valuesPort'] as number] as number),
  };
}

function makeClient(place: Place, via: Via): Redis {
  const client = new Redis({
    sentinels: place['sentinels'] as { host: string; port: number }[],
    name: place['name'] as string,
    natMap: natMap(via),
    socketTimeout: 500,
  });
  client.on('error', () => {});
  return client;
}

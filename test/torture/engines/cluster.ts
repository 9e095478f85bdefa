/** A Redis Cluster of three masters and three replicas, reached by a client of ioredis that is handed in. */
import { Cluster } from 'ioredis';
import { redis } from 'leasehold/redis';
import { RedisCluster } from '../../servers/redis.ts';
import { redisValues } from '../values/redis.ts';
import type { EngineKind, Place, Via } from './engine.ts';
import { natMap } from './nat-map.ts';
import { breakable, keysLeft } from './redis-server.ts';
import { startValues } from './start.ts';

export const clusterEngine: EngineKind = {
  weakness: 'a server that is down',
  keepsOrder: true,
  valuesAre: 'on a Redis server of their own that keeps its data',

  async start() {
    const cluster = await RedisCluster.start();
    const values = await startValues();
    const servers = [...cluster.masters, ...cluster.replicas];
    return {
      place: { ports: servers.map(({ port }) => port), valuesPort: values.server.port },
      servers: [
        ...servers.map((server, index) =>
          breakable(server, `node ${index}`, { forget: true, clock: false }),
        ),
        values.breakable,
      ],
      values: values.onlooker,
      leftovers: () => keysLeft(servers),
      async close() {
        await cluster.close();
        await values.close();
      },
    };
  },

  makeStore(place, via) {
    const client = makeClient(place, via);
    const store = redis(client, { requestTimeoutMs: 400 });
    return { store, close: () => client.disconnect() };
  },

  makeClient,

  makeValues: (place, via) => redisValues(via[place['valuesPort'] as number] as number),
};

function makeClient(place: Place, via: Via): Cluster {
  const nodes = (place['ports'] as number[]).map((port) => ({
    host: '127.0.0.1',
    port: via[port] as number,
  }));
  const client = new Cluster(nodes, {
    natMap: natMap(via),
    slotsRefreshInterval: 500,
    redisOptions: { socketTimeout: 500 },
  });
  client.on('error', () => {});
  return client;
}

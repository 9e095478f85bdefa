/** A Redis Cluster of three masters and three replicas, reached by a client of ioredis that is handed in. */
import { Cluster } from 'ioredis';
import { redis } from 'leasehold/redis';
import { BUS_OFFSET, RedisCluster } from '../../servers/redis.ts';
import { redisValues } from '../values/redis.ts';
import type { EngineKind, Place, Via } from './engine.ts';
import { natMap } from './nat-map.ts';
import { Links } from './own-network.ts';
import { breakable, keysLeft } from './redis-server.ts';

export const clusterEngine: EngineKind = {
  weakness: 'a server that is down',
  keepsOrder: true,
  hasLinks: true,
  values: redisValues,

  async start({ hasOwnNetwork }) {
    const links = hasOwnNetwork ? new Links() : null;
    const cluster = await RedisCluster.start(3, 1, 1_000, links?.sourceOf);
    const servers = [...cluster.masters, ...cluster.replicas];
    return {
      place: { ports: servers.map(({ port }) => port) },
      servers: servers.map((server, index) => {
        const ports = [server.port, server.port + BUS_OFFSET];
        return breakable(server, {
          name: `node ${index}`,
          forgets: true,
          ...(links && { cutOff: (way) => links.cutOff(index, ports, way) }),
        });
      }),
      leftovers: () => keysLeft(servers),
      close: () => cluster.close(),
    };
  },

  makeStore(place, via) {
    const client = makeClient(place, via);
    const store = redis(client, { requestTimeoutMs: 400 });
    return { store, close: () => client.disconnect() };
  },

  makeClient,
};

function makeClient(place: Place, via: Via): Cluster {
  const nodes = (place['ports'] as number[]).map((port) => ({
    host: '127.0.0.1',
    port: via[port] as number,
  }));
  const client = new Cluster(nodes, {
    natMap: natMap(via),
    redisOptions: { socketTimeout: 500 },
  });
  client.on('error', () => {});
  // Not by `slotsRefreshInterval`: closed in the middle of such a refresh, ioredis goes on with them for ever.
  setInterval(() => client.refreshSlotsCache(), 500).unref();
  return client;
}

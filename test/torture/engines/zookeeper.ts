/** An ensemble of three ZooKeeper servers. One at a time may lose its data, while the other two have everything. */
import { zookeeper } from 'leasehold/zookeeper';
import { until } from '../../servers/processes.ts';
import { ZooKeeperEnsemble } from '../../servers/zookeeper.ts';
import { nodeClient } from '../../servers/zookeeper-client.ts';
import { redisValues } from '../values/redis.ts';
import type { EngineKind, EngineServer } from './engine.ts';

const ROOT = '/leasehold';

export const zookeeperEngine: EngineKind = {
  weakness: 'none',
  keepsOrder: true,
  hasLinks: true,
  values: redisValues,

  async start() {
    const ensemble = await ZooKeeperEnsemble.start();
    return {
      place: { ports: ensemble.servers.map(({ port }) => port) },
      servers: ensemble.servers.map((_, index) => breakable(ensemble, index)),
      leftovers: () => placesLeft(ensemble.connect),
      close: () => ensemble.close(),
    };
  },

  makeStore(place, via) {
    const connect = (place['ports'] as number[]).map((port) => `127.0.0.1:${via[port]}`).join();
    const store = zookeeper({ connect, root: ROOT, requestTimeoutMs: 400 });
    return { store, close: () => {} };
  },
};

function breakable(ensemble: ZooKeeperEnsemble, index: number): EngineServer {
  const server = ensemble.servers[index] as (typeof ensemble.servers)[number];
  const others = ensemble.servers.filter((one) => one !== server);
  const startAgain = async (): Promise<void> => {
    server.startAgain();
    await server.ready();
  };
  return {
    name: `server ${index}`,
    port: server.port,
    pause: () => server.pause(),
    resume: () => server.resume(),
    kill: () => server.kill(),
    stop: () => server.stop(),
    startAgain,
    async forget() {
      // Who answers that it leads or follows has all that the leader had: a majority goes on without this one's data.
      await until('the others serve', async () => {
        const modes = await Promise.all(others.map((one) => one.mode()));
        return modes.every((mode) => mode !== 'none');
      });
      await server.kill();
      server.forget();
    },
    cutOff: (way) => {
      ensemble.isolate(server, way);
      return () => ensemble.reconnect();
    },
  };
}

/** Nodes of keys stay for a while, empty. */
async function placesLeft(connect: string): Promise<string[]> {
  const client = await nodeClient(connect);
  try {
    const keys = await client.children(ROOT);
    const lines = await Promise.all(keys.map((key) => client.children(`${ROOT}/${key}`)));
    return lines.flat();
  } finally {
    client.close();
  }
}

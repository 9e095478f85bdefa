/**
 * Real Redis servers: one, a master with replicas and Sentinels, a Cluster. Each from a folder of its own.
 */
import { writeFileSync } from 'node:fs';
import { Redis } from 'ioredis';
import { freePort, removeFolder, Server, temporaryFolder, until } from './processes.ts';

const HOST = '127.0.0.1';
/** The port of a cluster's bus is so far above that for clients. */
export const BUS_OFFSET = 10_000;
const SLOTS = 16_384;
/** Two tests may draw the same port in the same moment. */
const MAX_STARTS = 5;

/** One redis-server, and a connection to look at it. */
export class RedisServer {
  readonly port: number;
  readonly folder: string;
  readonly #args: readonly string[];
  readonly #environment: Readonly<Record<string, string>>;
  #server: Server;

  private constructor(
    port: number,
    folder: string,
    args: readonly string[],
    environment: Readonly<Record<string, string>>,
  ) {
    this.port = port;
    this.folder = folder;
    this.#args = args;
    this.#environment = environment;
    this.#server = this.#spawn();
  }

  /** Starts a server that keeps its data, unless the arguments say otherwise. */
  static async start(
    args: readonly string[] = [],
    alsoAbove = 0,
    environmentOf: (folder: string) => Readonly<Record<string, string>> = () => ({}),
  ): Promise<RedisServer> {
    for (let attempt = 1; ; attempt += 1) {
      const folder = temporaryFolder();
      const port = await freePort(alsoAbove);
      const server = new RedisServer(port, folder, args, environmentOf(folder));
      try {
        await server.#ready();
        return server;
      } catch (error) {
        await server.close();
        if (attempt === MAX_STARTS) throw error;
      }
    }
  }

  get url(): string {
    return `redis://${HOST}:${this.port}`;
  }

  /** A client for the test's own looks. The test ends it. */
  client(): Redis {
    const client = new Redis(this.port, HOST, {
      retryStrategy: () => 50,
      maxRetriesPerRequest: null,
    });
    client.on('error', () => {});
    return client;
  }

  /** Sends one command over a connection of its own. */
  async command(...args: (string | number)[]): Promise<unknown> {
    const options = { retryStrategy: () => null, lazyConnect: true, enableReadyCheck: false };
    const client = new Redis(this.port, HOST, options);
    client.on('error', () => {});
    try {
      await client.connect();
      return await client.call(...(args.map(String) as [string, ...string[]]));
    } finally {
      client.disconnect();
    }
  }

  pause(): void {
    this.#server.pause();
  }

  resume(): void {
    this.#server.resume();
  }

  async kill(): Promise<void> {
    await this.#server.end('SIGKILL');
  }

  /** Starts it again on the same port, with what is in its folder. */
  async startAgain(): Promise<void> {
    this.#server = this.#spawn();
    await this.#ready();
  }

  /** As `startAgain`, but slowly, and does not wait for the end: so many µs for each command that was written. */
  async startLoading(delayUs: number): Promise<void> {
    this.#server = this.#spawn(['--key-load-delay', String(delayUs)]);
    await until('redis-server loads its data', async () => {
      return /^loading:1/m.test(String(await this.command('INFO', 'persistence')));
    });
  }

  /** Ends it in order. */
  async stop(): Promise<void> {
    await this.#server.end('SIGTERM');
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.startAgain();
  }

  async close(): Promise<void> {
    await this.kill();
    removeFolder(this.folder);
  }

  #spawn(more: readonly string[] = []): Server {
    const settings = ['--bind', HOST, '--save', '', '--dir', this.folder];
    const durable = ['--appendonly', 'yes', '--appendfsync', 'always'];
    const args = ['--port', String(this.port), ...settings, ...durable, ...this.#args, ...more];
    const env = { ...process.env, ...this.#environment };
    return new Server('redis-server', 'redis-server', args, this.folder, env);
  }

  async #ready(): Promise<void> {
    await until('redis-server answers', async () => {
      if (!this.#server.isRunning) return true;
      return (await this.command('PING')) === 'PONG';
    });
    // Somebody else's server may answer on this port.
    if (!this.#server.isRunning) throw new Error('redis-server ended as soon as it had begun');
  }
}

/** Arguments of a server that is started next. */
export type More = () => readonly string[];

const NOTHING_MORE: More = () => [];
const [REPLICAS, SENTINELS] = [2, 3];
/** For how long a master may be silent where no failover is wanted, on a machine that stalls. */
export const CALM_MS = 60_000;
/** Of clients in tests that are not about time-outs, on a machine that stalls. */
export const PATIENT = { requestTimeoutMs: 10_000 };

/** A master, its replicas, and Sentinels that watch them. */
export class SentinelGroup {
  readonly name = 'main';
  readonly servers: readonly RedisServer[];
  readonly sentinelPorts: readonly number[];
  readonly #sentinels: readonly Server[];
  readonly #folder: string;

  private constructor(
    servers: readonly RedisServer[],
    sentinelPorts: readonly number[],
    sentinels: readonly Server[],
    folder: string,
  ) {
    this.servers = servers;
    this.sentinelPorts = sentinelPorts;
    this.#sentinels = sentinels;
    this.#folder = folder;
  }

  /** `downAfterMs`: for how long a master may be silent before another one is chosen. */
  static async start({ more = NOTHING_MORE, downAfterMs = 500 } = {}): Promise<SentinelGroup> {
    const settings = [
      ...['--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1'],
      ...['--replica-announce-ip', HOST],
    ];
    const master = await RedisServer.start([...settings, ...more()]);
    const replicaOf = ['--replicaof', `${HOST} ${master.port}`];
    const servers = [master];
    for (let index = 0; index < REPLICAS; index += 1) {
      servers.push(await RedisServer.start([...settings, ...replicaOf, ...more()]));
    }
    const folder = temporaryFolder();
    const ports: number[] = [];
    const watchers: Server[] = [];
    for (let index = 0; index < SENTINELS; index += 1) {
      const port = await freePort();
      const file = `${folder}/${port}.conf`;
      writeFileSync(
        file,
        [
          `port ${port}`,
          `bind ${HOST}`,
          `dir ${folder}`,
          `sentinel announce-ip ${HOST}`,
          `sentinel monitor main ${HOST} ${master.port} ${Math.floor(SENTINELS / 2) + 1}`,
          `sentinel down-after-milliseconds main ${downAfterMs}`,
          'sentinel failover-timeout main 2000',
          '',
        ].join('\n'),
      );
      ports.push(port);
      watchers.push(
        new Server('redis-sentinel', 'redis-server', [file, '--sentinel', ...more()], folder),
      );
    }
    const group = new SentinelGroup(servers, ports, watchers, folder);
    await orClose(group, 'the replicas follow and the Sentinels know each other', async () => {
      const info = String(await master.command('INFO', 'replication'));
      if (!info.includes(`connected_slaves:${REPLICAS}`)) return false;
      for (const port of ports) {
        const facts = (await sentinelCommand(port, 'SENTINEL', 'MASTER', 'main')) as string[];
        if (factOf(facts, 'num-other-sentinels') !== String(SENTINELS - 1)) return false;
        if (factOf(facts, 'num-slaves') !== String(REPLICAS)) return false;
      }
      return true;
    });
    return group;
  }

  get sentinels(): { host: string; port: number }[] {
    return this.sentinelPorts.map((port) => ({ host: HOST, port }));
  }

  get url(): string {
    const hosts = this.sentinelPorts.map((port) => `${HOST}:${port}`).join(',');
    return `redis+sentinel://${hosts}/${this.name}`;
  }

  /** The server that the Sentinels hold for the master. */
  async master(): Promise<RedisServer> {
    const [, port] = (await sentinelCommand(
      this.sentinelPorts[0] as number,
      'SENTINEL',
      'GET-MASTER-ADDR-BY-NAME',
      'main',
    )) as [string, string];
    return this.servers.find((server) => server.port === Number(port)) as RedisServer;
  }

  /** As the option of `start`, from now on. */
  async setDownAfter(downAfterMs: number): Promise<void> {
    const setting = ['main', 'down-after-milliseconds', String(downAfterMs)];
    for (const port of this.sentinelPorts) {
      await sentinelCommand(port, 'SENTINEL', 'SET', ...setting);
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#sentinels.map((sentinel) => sentinel.end()));
    await Promise.all(this.servers.map((server) => server.close()));
    removeFolder(this.#folder);
  }
}

/** Masters that share the slots, each with replicas. */
export class RedisCluster {
  readonly masters: readonly RedisServer[];
  readonly replicas: readonly RedisServer[];

  private constructor(masters: readonly RedisServer[], replicas: readonly RedisServer[]) {
    this.masters = masters;
    this.replicas = replicas;
  }

  static async start(
    masters = 3,
    replicasEach = 1,
    nodeTimeoutMs = 1_000,
    more = NOTHING_MORE,
  ): Promise<RedisCluster> {
    const settings = [
      ...['--cluster-enabled', 'yes', '--cluster-config-file', 'nodes.conf'],
      ...['--cluster-node-timeout', String(nodeTimeoutMs), '--cluster-announce-ip', HOST],
      ...['--repl-diskless-sync-delay', '0', '--cluster-require-full-coverage', 'no'],
      ...['--cluster-allow-replica-migration', 'no', '--enable-debug-command', 'yes'],
    ];
    const count = masters * (1 + replicasEach);
    const servers: RedisServer[] = [];
    for (let index = 0; index < count; index += 1) {
      servers.push(await RedisServer.start([...settings, ...more()], BUS_OFFSET));
    }
    const cluster = new RedisCluster(servers.slice(0, masters), servers.slice(masters));
    for (const [index, master] of cluster.masters.entries()) {
      const first = Math.floor((index * SLOTS) / masters);
      const last = Math.floor(((index + 1) * SLOTS) / masters) - 1;
      await master.command('CLUSTER', 'ADDSLOTSRANGE', first, last);
      await master.command('CLUSTER', 'SET-CONFIG-EPOCH', index + 1);
    }
    for (const server of servers.slice(1)) {
      await server.command('CLUSTER', 'MEET', HOST, (servers[0] as RedisServer).port);
    }
    await until('the nodes know each other', async () => {
      for (const server of servers) {
        const info = String(await server.command('CLUSTER', 'INFO'));
        if (!info.includes(`cluster_known_nodes:${count}`)) return false;
      }
      return true;
    });
    for (const [index, replica] of cluster.replicas.entries()) {
      const master = cluster.masters[index % masters] as RedisServer;
      const id = String(await master.command('CLUSTER', 'MYID'));
      await until('a replica accepts its master', async () => {
        return (await replica.command('CLUSTER', 'REPLICATE', id)) === 'OK';
      });
    }
    await until('the cluster is up', () => cluster.#isUp());
    return cluster;
  }

  get nodes(): { host: string; port: number }[] {
    return [...this.masters, ...this.replicas].map(({ port }) => ({ host: HOST, port }));
  }

  /** For how long a master may be silent before a replica takes its place, from now on. All of them have to run. */
  async setNodeTimeout(nodeTimeoutMs: number): Promise<void> {
    for (const server of [...this.masters, ...this.replicas]) {
      await server.command('CONFIG', 'SET', 'cluster-node-timeout', nodeTimeoutMs);
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.masters, ...this.replicas].map((server) => server.close()));
  }

  async #isUp(): Promise<boolean> {
    for (const server of [...this.masters, ...this.replicas]) {
      if (!String(await server.command('CLUSTER', 'INFO')).includes('cluster_state:ok'))
        return false;
      const slots = (await server.command('CLUSTER', 'SLOTS')) as unknown[][];
      const complete =
        slots.length >= this.masters.length && slots.every((range) => range.length > 3);
      if (!complete && this.replicas.length > 0) return false;
    }
    for (const replica of this.replicas) {
      const info = String(await replica.command('INFO', 'replication'));
      if (!info.includes('master_link_status:up')) return false;
    }
    return true;
  }
}

/** Waits, and leaves nothing running when it was in vain. */
async function orClose(
  servers: { close(): Promise<void> },
  what: string,
  isTrue: () => Promise<boolean>,
): Promise<void> {
  try {
    await until(what, isTrue);
  } catch (error) {
    await servers.close();
    throw error;
  }
}

async function sentinelCommand(port: number, ...args: [string, ...string[]]): Promise<unknown> {
  const client = new Redis(port, HOST, { retryStrategy: () => null, lazyConnect: true });
  client.on('error', () => {});
  try {
    await client.connect();
    return await client.call(...args);
  } finally {
    client.disconnect();
  }
}

function factOf(facts: readonly string[], name: string): string | undefined {
  return facts[facts.indexOf(name) + 1];
}

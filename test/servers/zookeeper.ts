/**
 * Real ZooKeeper servers: one, or an ensemble of three. Each from a folder of its own, with ticks of a tenth of the usual.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { freePort, removeFolder, Server, temporaryFolder, until } from './processes.ts';

const HOST = '127.0.0.1';
const JAR = '/usr/share/java/zookeeper.jar';
const TICK_MS = 200;
const MAX_STARTS = 5;
/** How long a server may take for the answer to four letters. */
const COMMAND_TIMEOUT_MS = 2_000;

const SETTINGS = {
  tickTime: TICK_MS,
  minSessionTimeout: 2 * TICK_MS,
  // The suite's longest ttl is two minutes.
  maxSessionTimeout: 200_000,
  initLimit: 50,
  syncLimit: 25,
  maxClientCnxns: 0,
  'admin.enableServer': false,
  '4lw.commands.whitelist': '*',
};

const JAVA = [
  '-Xmx128m',
  '-XX:+UseSerialGC',
  '-XX:TieredStopAtLevel=1',
  '-Dzookeeper.forceSync=no',
  // Members of an ensemble that start one after the other wait for up to a minute before they ask again.
  '-Dzookeeper.fastleader.maxNotificationInterval=500',
  // Empty containers are looked for each minute otherwise.
  '-Dznode.container.checkIntervalMs=250',
];

export interface ZooKeeperSettings {
  readonly [name: string]: string | number | boolean;
}

/** One server, alone or as a member of an ensemble. */
export class ZooKeeperServer {
  readonly port: number;
  readonly folder: string;
  readonly #settings: ZooKeeperSettings;
  #server: Server;

  constructor(port: number, settings: ZooKeeperSettings = {}, id: number | null = null) {
    this.port = port;
    this.folder = temporaryFolder();
    this.#settings = settings;
    if (id !== null) {
      mkdirSync(`${this.folder}/data`);
      writeFileSync(`${this.folder}/data/myid`, String(id));
    }
    this.#server = this.#spawn();
  }

  static async start(settings: ZooKeeperSettings = {}): Promise<ZooKeeperServer> {
    for (let attempt = 1; ; attempt += 1) {
      const server = new ZooKeeperServer(await freePort(), settings);
      try {
        await server.ready();
        return server;
      } catch (error) {
        await server.close();
        if (attempt === MAX_STARTS) throw error;
      }
    }
  }

  /** `host:port` */
  get address(): string {
    return `${HOST}:${this.port}`;
  }

  get isRunning(): boolean {
    return this.#server.isRunning;
  }

  /** The answer to one of the four-letter words. */
  async command(word: string): Promise<string> {
    return new Promise((resolve, reject) => {
      let text = '';
      const socket = connect(this.port, HOST, () => socket.end(word));
      socket.setTimeout(COMMAND_TIMEOUT_MS, () => socket.destroy(new Error('no answer')));
      socket.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      socket.on('error', reject);
      socket.on('close', () => resolve(text));
    });
  }

  /** A figure of `mntr`; 0 as long as the server does not know it. */
  async metric(name: string): Promise<number> {
    const line = new RegExp(`^${name}\\t(.*)$`, 'm').exec(await this.command('mntr'));
    return Number(line?.[1] ?? 0);
  }

  async mode(): Promise<string> {
    return /^Mode: (\w+)$/m.exec(await this.command('srvr'))?.[1] ?? 'none';
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
  startAgain(): void {
    this.#server = this.#spawn();
  }

  async restart(): Promise<void> {
    await this.#server.end('SIGTERM');
    this.startAgain();
    await this.ready();
  }

  async ready(): Promise<void> {
    await until('ZooKeeper answers', async () => {
      if (!this.#server.isRunning) return true;
      return (await this.mode()) !== 'none';
    });
    // Somebody else's server may answer on this port.
    if (!this.#server.isRunning) throw new Error('ZooKeeper ended as soon as it had begun');
  }

  async close(): Promise<void> {
    await this.kill();
    removeFolder(this.folder);
  }

  #spawn(): Server {
    const data = { dataDir: `${this.folder}/data`, clientPort: this.port, clientPortAddress: HOST };
    const lines = Object.entries({ ...SETTINGS, ...data, ...this.#settings });
    const file = `${this.folder}/zoo.cfg`;
    writeFileSync(file, lines.map(([name, value]) => `${name}=${value}\n`).join(''));
    const main = 'org.apache.zookeeper.server.quorum.QuorumPeerMain';
    const args = [...JAVA, '-cp', `${this.folder}:${JAR}`, main, file];
    return new Server('zookeeper', 'java', args, this.folder);
  }
}

/** Three servers, of which two are a majority. */
export class ZooKeeperEnsemble {
  readonly servers: readonly ZooKeeperServer[];

  private constructor(servers: readonly ZooKeeperServer[]) {
    this.servers = servers;
  }

  static async start(): Promise<ZooKeeperEnsemble> {
    for (let attempt = 1; ; attempt += 1) {
      const ids = [1, 2, 3];
      const ports = await distinctPorts(3 * ids.length);
      const members = Object.fromEntries(
        ids.map((id) => [`server.${id}`, `${HOST}:${ports[3 + id - 1]}:${ports[6 + id - 1]}`]),
      );
      const servers = ids.map((id) => new ZooKeeperServer(ports[id - 1] as number, members, id));
      const ensemble = new ZooKeeperEnsemble(servers);
      try {
        await Promise.all(servers.map((server) => server.ready()));
        return ensemble;
      } catch (error) {
        await ensemble.close();
        if (attempt === MAX_STARTS) throw error;
      }
    }
  }

  /** `host:port,host:port,host:port` */
  get connect(): string {
    return this.servers.map(({ address }) => address).join(',');
  }

  /** Waits for it, when there is none at the moment. */
  async leader(): Promise<ZooKeeperServer> {
    return this.#oneWith('leader');
  }

  async follower(): Promise<ZooKeeperServer> {
    return this.#oneWith('follower');
  }

  async close(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.close()));
  }

  async #oneWith(mode: string): Promise<ZooKeeperServer> {
    let found: ZooKeeperServer | undefined;
    await until(`there is a ${mode}`, async () => {
      for (const server of this.servers) {
        const is = await server.command('srvr').catch(() => '');
        if (is.includes(`Mode: ${mode}`)) found = server;
      }
      return found !== undefined;
    });
    return found as ZooKeeperServer;
  }
}

async function distinctPorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) ports.add(await freePort());
  return [...ports];
}

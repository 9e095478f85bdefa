/**
 * Real ZooKeeper servers: one, or an ensemble of three. Each from a folder of its own, with ticks of a tenth of the usual.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { freePort, removeFolder, Server, temporaryFolder, until } from './processes.ts';
import { TcpProxy, type Way } from './proxy.ts';

const HOST = '127.0.0.1';
const JAR = '/usr/share/java/zookeeper.jar';
const TICK_MS = 200;
const MAX_STARTS = 5;
/** Of an ensemble. */
const SIZE = 3;
/** Until a proxy is told its server's port. */
const NOWHERE = 0;
/**
 * Who follows a leader that does not listen yet is refused, and tries again for some seconds. A
 * connection that is closed instead makes it look for another leader, while the first one waits for
 * followers until `initLimit` is over: elections took up to minutes.
 */
const PATIENT = { patienceMs: 3_000 };
/** How long a server may take for the answer to four letters. */
const COMMAND_TIMEOUT_MS = 20_000;
/** The same for one that is asked again and again: as it begins, it takes connections and forgets them. */
const POLL_TIMEOUT_MS = 200;

const SETTINGS = {
  tickTime: TICK_MS,
  minSessionTimeout: 2 * TICK_MS,
  // The suite's longest ttl is two minutes.
  maxSessionTimeout: 200_000,
  initLimit: 25,
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
];
/** How often the servers look for empty containers: each minute otherwise. */
const CONTAINER_CHECK_MS = 250;

interface ServerOptions {
  /** Of zoo.cfg. */
  readonly settings?: Readonly<Record<string, string | number | boolean>>;
  readonly containerCheckMs?: number;
  /** As a member of an ensemble. */
  readonly id?: number;
}

/** One server, alone or as a member of an ensemble. */
export class ZooKeeperServer {
  readonly port: number;
  readonly folder: string;
  #settings: NonNullable<ServerOptions['settings']>;
  readonly #containerCheckMs: number;
  #server: Server;

  constructor(port: number, options: ServerOptions = {}) {
    const { settings = {}, containerCheckMs = CONTAINER_CHECK_MS, id } = options;
    this.port = port;
    this.folder = temporaryFolder();
    this.#settings = settings;
    this.#containerCheckMs = containerCheckMs;
    if (id !== undefined) {
      mkdirSync(`${this.folder}/data`);
      writeFileSync(`${this.folder}/data/myid`, String(id));
    }
    this.#server = this.#spawn();
  }

  static async start(options: ServerOptions = {}): Promise<ZooKeeperServer> {
    for (let attempt = 1; ; attempt += 1) {
      const server = new ZooKeeperServer(await freePort(), options);
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
  async command(word: string, timeoutMs = COMMAND_TIMEOUT_MS): Promise<string> {
    return new Promise((resolve, reject) => {
      let text = '';
      const socket = connect(this.port, HOST, () => socket.end(word));
      socket.setTimeout(timeoutMs, () => socket.destroy(new Error('no answer')));
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

  /** `none` as long as it does not serve. */
  async mode(): Promise<string> {
    const answer = await this.command('srvr', POLL_TIMEOUT_MS);
    return /^Mode: (\w+)$/m.exec(answer)?.[1] ?? 'none';
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

  /** Ends it in order. */
  async stop(): Promise<void> {
    await this.#server.end('SIGTERM');
  }

  /** Removes its data, while it is down. It stays the member of an ensemble that it was. */
  forget(): void {
    rmSync(`${this.folder}/data/version-2`, { recursive: true, force: true });
  }

  /** Starts it again on the same port, with what is in its folder, and with other settings if they are given. */
  startAgain(settings: ServerOptions['settings'] = {}): void {
    this.#settings = { ...this.#settings, ...settings };
    this.#server = this.#spawn();
  }

  async restart(): Promise<void> {
    await this.stop();
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
    const check = `-Dznode.container.checkIntervalMs=${this.#containerCheckMs}`;
    const args = [...JAVA, check, '-cp', `${this.folder}:${JAR}`, main, file];
    return new Server('zookeeper', 'java', args, this.folder);
  }
}

/** Three servers, of which two are a majority. They talk to each other through proxies, so that one can be cut off. */
export class ZooKeeperEnsemble {
  readonly servers: readonly ZooKeeperServer[];
  /** From each server to each other one: two proxies, for the quorum and for elections. */
  readonly #links: readonly Link[];

  private constructor(servers: readonly ZooKeeperServer[], links: readonly Link[]) {
    this.servers = servers;
    this.#links = links;
  }

  static async start(): Promise<ZooKeeperEnsemble> {
    for (let attempt = 1; ; attempt += 1) {
      const links = await makeLinks();
      // The proxies listen already: none of these is the port of one.
      const ports = await distinctPorts(3 * SIZE);
      const members = Array.from({ length: SIZE }, (_, index) => ({
        client: ports[3 * index] as number,
        peers: [ports[3 * index + 1] as number, ports[3 * index + 2] as number] as const,
      }));
      aim(links, members);
      const servers = members.map(({ client, peers }, from) => {
        const settings: Record<string, string> = {};
        for (let to = 0; to < SIZE; to += 1) {
          const link = linkOf(links, from, to);
          const seen = link === undefined ? peers : link.proxies.map(({ port }) => port);
          settings[`server.${to + 1}`] = `${HOST}:${seen.join(':')}`;
        }
        return new ZooKeeperServer(client, { settings, id: from + 1 });
      });
      const ensemble = new ZooKeeperEnsemble(servers, links);
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
  async leader(among: readonly ZooKeeperServer[] = this.servers): Promise<ZooKeeperServer> {
    return oneWith('leader', among);
  }

  async follower(): Promise<ZooKeeperServer> {
    return oneWith('follower', this.servers);
  }

  /**
   * Nothing passes any more between it and the other servers, or only one way: what it sends them (`requests`) is held, or
   * what they send to it (`replies`), whoever made the connection. Clients reach all of them.
   */
  isolate(server: ZooKeeperServer, way: Way | 'both' = 'both'): void {
    const index = this.servers.indexOf(server);
    for (const { from, to, proxies } of this.#links) {
      const held = from === index ? way : OTHER_WAY[way];
      if (from !== index && to !== index) continue;
      for (const proxy of proxies) {
        if (held === 'both') proxy.blackhole();
        else proxy.blackhole(held);
      }
    }
  }

  /** The servers reach each other again. */
  reconnect(): void {
    for (const { proxies } of this.#links) for (const proxy of proxies) proxy.forward();
  }

  /** Ends every fault, and waits until all three serve. */
  async heal(): Promise<void> {
    this.reconnect();
    for (const server of this.servers) {
      server.resume();
      if (!server.isRunning) server.startAgain();
    }
    await Promise.all(this.servers.map((server) => server.ready()));
  }

  async close(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.close()));
    for (const { proxies } of this.#links) await Promise.all(proxies.map((one) => one.close()));
  }
}

interface Member {
  readonly client: number;
  /** For the quorum, and for elections. */
  readonly peers: readonly [number, number];
}

const OTHER_WAY = { requests: 'replies', replies: 'requests', both: 'both' } as const;

interface Link {
  readonly from: number;
  readonly to: number;
  readonly proxies: readonly [TcpProxy, TcpProxy];
}

async function makeLinks(): Promise<Link[]> {
  const links: Link[] = [];
  for (let from = 0; from < SIZE; from += 1) {
    for (let to = 0; to < SIZE; to += 1) {
      if (from === to) continue;
      const quorum = await TcpProxy.start(NOWHERE, PATIENT);
      links.push({ from, to, proxies: [quorum, await TcpProxy.start(NOWHERE)] });
    }
  }
  return links;
}

function aim(links: readonly Link[], members: readonly Member[]): void {
  for (const { from, to, proxies } of links) {
    const [quorum, election] = proxies;
    const { peers } = members[to] as Member;
    quorum.retarget(peers[0]);
    election.retarget(peers[1]);
    // For an election the server with the higher number dials, to where the other one says that it
    // is. That must be a proxy as well, or a server that is cut off goes on to take part.
    const back = linkOf(links, to, from) as Link;
    election.disguise(`:${members[from]?.peers[1]}`, `:${back.proxies[1].port}`);
  }
}

function linkOf(links: readonly Link[], from: number, to: number): Link | undefined {
  return links.find((link) => link.from === from && link.to === to);
}

async function oneWith(
  mode: string,
  servers: readonly ZooKeeperServer[],
): Promise<ZooKeeperServer> {
  let found: ZooKeeperServer | undefined;
  await until(`there is a ${mode}`, async () => {
    for (const server of servers) {
      if ((await server.mode().catch(() => 'none')) === mode) found = server;
    }
    return found !== undefined;
  });
  return found as ZooKeeperServer;
}

async function distinctPorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) ports.add(await freePort());
  return [...ports];
}

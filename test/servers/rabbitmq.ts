/**
 * Real RabbitMQ brokers: one, or a cluster. Each node from a folder of its own; nodes of one cluster share an epmd.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { freePort, removeFolder, Server, temporaryFolder, until } from './processes.ts';

const HOST = '127.0.0.1';
/** The launcher itself: the wrapper in the system's path switches the user and drops the environment. */
const LAUNCHER = '/usr/lib/rabbitmq/bin/rabbitmq-server';
const CONTROL = '/usr/lib/rabbitmq/bin/rabbitmqctl';
const COOKIE = 'LEASEHOLD-TESTS';
const AMQP_HEADER = Buffer.from([0x41, 0x4d, 0x51, 0x50, 0, 0, 9, 1]);
/**
 * By default a copy that its queue could not take, as while no node leads that queue, is tried again after three to six
 * minutes, and all that is due from the same delay queue waits behind it.
 */
const RETRY_MS = 1_000;
const VM_ARGUMENTS = [
  '-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none',
  `-rabbit dead_letter_worker_publisher_confirm_timeout ${RETRY_MS}`,
].join(' ');
const READY_TIMEOUT_MS = 90_000;
/** For hooks that start one: seconds on an idle machine, and much more on a busy one. */
export const BROKER_START_MS = 120_000;
/** Two tests may draw the same port in the same moment. */
const MAX_STARTS = 3;

export interface BrokerOptions {
  /** Whether the plugin for exchanges that hash is enabled. */
  readonly hasHashExchange?: boolean;
  /** Further lines of its configuration. */
  readonly configuration?: readonly string[];
}

interface Place {
  readonly name: string;
  readonly port: number;
  readonly epmdPort: number;
  readonly peers: readonly string[];
}

/** The daemon with which the nodes of one cluster find each other. */
class Epmd {
  readonly port: number;
  readonly #server: Server;
  readonly #folder: string;

  constructor(port: number) {
    this.port = port;
    this.#folder = temporaryFolder();
    const args = ['-port', String(port), '-address', HOST];
    this.#server = new Server('epmd', 'epmd', args, this.#folder);
  }

  async close(): Promise<void> {
    await this.#server.end();
    removeFolder(this.#folder);
  }
}

/** One broker. */
export class RabbitServer {
  readonly port: number;
  readonly folder: string;
  readonly #environment: Readonly<Record<string, string>>;
  readonly #epmd: Epmd | null;
  #server: Server;

  private constructor(
    place: Place,
    folder: string,
    environment: Readonly<Record<string, string>>,
    epmd: Epmd | null,
  ) {
    this.port = place.port;
    this.folder = folder;
    this.#environment = environment;
    this.#epmd = epmd;
    this.#server = this.#spawn();
  }

  static async start(options: BrokerOptions = {}): Promise<RabbitServer> {
    for (let attempt = 1; ; attempt += 1) {
      const epmd = new Epmd(await freePort());
      const port = await freePort();
      const name = `leasehold-${port}@localhost`;
      const place = { name, port, epmdPort: epmd.port, peers: [] };
      const server = await RabbitServer.spawn(place, options, epmd);
      try {
        await server.ready();
        return server;
      } catch (error) {
        await server.close();
        if (attempt === MAX_STARTS) throw error;
      }
    }
  }

  /** Starts a node without waiting for it. It owns the epmd that it is given. */
  static async spawn(
    place: Place,
    options: BrokerOptions,
    epmd: Epmd | null,
  ): Promise<RabbitServer> {
    const folder = temporaryFolder();
    const distPort = await freePort();
    const lines = [
      `listeners.tcp.default = ${HOST}:${place.port}`,
      'disk_free_limit.absolute = 50MB',
      ...(options.configuration ?? []),
    ];
    if (place.peers.length > 0) {
      lines.push('cluster_formation.peer_discovery_backend = classic_config');
      lines.push('cluster_formation.randomized_startup_delay_range.min = 0');
      lines.push('cluster_formation.randomized_startup_delay_range.max = 1');
      for (const [index, peer] of place.peers.entries()) {
        lines.push(`cluster_formation.classic_config.nodes.${index + 1} = ${peer}`);
      }
    }
    writeFileSync(`${folder}/rabbitmq.conf`, `${lines.join('\n')}\n`);
    const plugins = options.hasHashExchange ? 'rabbitmq_consistent_hash_exchange' : '';
    writeFileSync(`${folder}/enabled_plugins`, `[${plugins}].\n`);
    writeFileSync(`${folder}/.erlang.cookie`, COOKIE, { mode: 0o400 });
    mkdirSync(`${folder}/log`);
    const environment = {
      PATH: process.env['PATH'] ?? '',
      HOME: folder,
      RABBITMQ_CONF_ENV_FILE: '/dev/null',
      RABBITMQ_NODENAME: place.name,
      RABBITMQ_CONFIG_FILE: `${folder}/rabbitmq.conf`,
      RABBITMQ_MNESIA_BASE: `${folder}/mnesia`,
      RABBITMQ_LOG_BASE: `${folder}/log`,
      RABBITMQ_ENABLED_PLUGINS_FILE: `${folder}/enabled_plugins`,
      RABBITMQ_PID_FILE: `${folder}/pid`,
      RABBITMQ_DIST_PORT: String(distPort),
      ERL_EPMD_PORT: String(place.epmdPort),
      ERL_EPMD_ADDRESS: HOST,
      RUNNING_UNDER_SYSTEMD: '1',
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: VM_ARGUMENTS,
    };
    return new RabbitServer(place, folder, environment, epmd);
  }

  get url(): string {
    return `amqp://${HOST}:${this.port}`;
  }

  /** Resolves when it answers the first bytes of the protocol. */
  async ready(): Promise<void> {
    const answers = async (): Promise<boolean> =>
      !this.#server.isRunning || (await answersAmqp(this.port));
    await until('the broker answers', answers, READY_TIMEOUT_MS);
    if (!this.#server.isRunning) throw new Error('the broker ended as soon as it had begun');
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
    await this.ready();
  }

  /** Ends it in order. */
  async stop(): Promise<void> {
    await this.#server.end('SIGTERM');
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.startAgain();
  }

  /** Runs one command of the broker's own tool to its end. It takes a second or two. */
  async control(...args: readonly string[]): Promise<void> {
    const tool = new Server('rabbitmqctl', CONTROL, args, this.folder, this.#environment);
    await until('rabbitmqctl ends', () => !tool.isRunning, READY_TIMEOUT_MS);
  }

  async close(): Promise<void> {
    await this.kill();
    await this.#epmd?.close();
    removeFolder(this.folder);
  }

  #spawn(): Server {
    return new Server('rabbitmq-server', LAUNCHER, [], this.folder, this.#environment);
  }
}

/** Nodes that keep copies of each other's quorum queues. */
export class RabbitCluster {
  readonly nodes: readonly RabbitServer[];
  readonly #epmd: Epmd;

  private constructor(nodes: readonly RabbitServer[], epmd: Epmd) {
    this.nodes = nodes;
    this.#epmd = epmd;
  }

  static async start(count = 3, options: BrokerOptions = {}): Promise<RabbitCluster> {
    const epmd = new Epmd(await freePort());
    const ports: number[] = [];
    while (ports.length < count) {
      const port = await freePort();
      if (!ports.includes(port)) ports.push(port);
    }
    const peers = ports.map((port) => `leasehold-${port}@localhost`);
    const nodes: RabbitServer[] = [];
    for (const [index, port] of ports.entries()) {
      const name = peers[index] as string;
      const place = { name, port, epmdPort: epmd.port, peers };
      nodes.push(await RabbitServer.spawn(place, options, null));
    }
    const cluster = new RabbitCluster(nodes, epmd);
    try {
      await Promise.all(nodes.map((node) => node.ready()));
    } catch (error) {
      await cluster.close();
      throw error;
    }
    return cluster;
  }

  get urls(): readonly string[] {
    return this.nodes.map(({ url }) => url);
  }

  async close(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.close()));
    await this.#epmd.close();
  }
}

function answersAmqp(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, HOST, () => socket.write(AMQP_HEADER));
    const done = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    // The first frame is a method frame, whose type is 1; a broker that is not the one wanted answers with its header.
    socket.once('data', (chunk: Buffer) => done(chunk[0] === 1));
    socket.once('error', () => done(false));
    socket.once('close', () => done(false));
  });
}

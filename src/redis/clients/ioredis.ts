/**
 * ioredis 5 and 6: one server, Sentinel (both a `Redis`), and a `Cluster`.
 */
import type { Script } from '../scripts/script.ts';
import { within } from '../within.ts';
import {
  isSharded,
  isUnknownScript,
  type RedisClient,
  type Subscriber,
  type SubscriberEvents,
} from './client.ts';

interface ConnectionOptions {
  readonly keyPrefix?: string;
  readonly enableAutoPipelining?: boolean;
}

/** What is used of a `Redis` of ioredis. */
export interface IoredisConnection {
  readonly status: string;
  readonly options: ConnectionOptions & { readonly host?: string; readonly port?: number };
  connect(): Promise<unknown>;
  disconnect(): void;
  duplicate(overrides?: object): IoredisConnection;
  call(...args: string[]): Promise<unknown>;
  evalsha(...args: (string | number)[]): Promise<unknown>;
  pipeline(commands: string[][]): { exec(): Promise<[Error | null, unknown][] | null> };
  eval(...args: (string | number)[]): Promise<unknown>;
  subscribe(channel: string): Promise<unknown>;
  ssubscribe(channel: string): Promise<unknown>;
  ping(): Promise<unknown>;
  on(event: string, listener: (...args: never[]) => void): unknown;
  off(event: string, listener: (...args: never[]) => void): unknown;
}

/** What is used of a `Cluster` of ioredis. */
export interface IoredisCluster
  extends Pick<
    IoredisConnection,
    'status' | 'connect' | 'disconnect' | 'call' | 'evalsha' | 'eval' | 'pipeline' | 'on' | 'off'
  > {
  readonly isCluster: true;
  readonly options: ConnectionOptions;
  readonly slots: readonly (readonly string[] | undefined)[];
  nodes(role: 'master'): IoredisConnection[];
}

/** The store reconnects by itself, so that it knows when messages may have been missed. */
const SUBSCRIBER_OPTIONS = {
  lazyConnect: true,
  enableReadyCheck: false,
  keyPrefix: '',
  readOnly: false,
  autoResubscribe: false,
  autoPipelining: false,
  enableAutoPipelining: false,
  enableOfflineQueue: false,
  retryStrategy: () => null,
  sentinelRetryStrategy: () => null,
};

/** The server is a replica, and will refuse every claim for as long as it is one. */
export function isNoMaster(error: Error): boolean {
  return /^(READONLY|MASTERDOWN) /.test(error.message);
}

abstract class IoredisClient implements RedisClient {
  abstract readonly isCluster: boolean;
  abstract readonly connections: number;
  abstract countConnections(): void;
  protected abstract readonly client: Pick<
    IoredisConnection,
    'options' | 'evalsha' | 'eval' | 'pipeline' | 'call'
  >;
  abstract connect(): Promise<void>;
  abstract nodes(): string[];
  abstract nodeOf(slot: number): string | null;
  abstract close(): Promise<void>;
  abstract command(args: readonly string[], node?: string): Promise<unknown>;
  protected abstract connectionTo(node: string): IoredisConnection;

  /** Not `async`: nearly every call is answered, and such a function costs turns of the event loop. */
  evaluate(script: Script, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    const parts = [script.sha, String(keys.length), ...keys, ...args];
    let reply: Promise<unknown>;
    try {
      this.checkConnection();
      // The store makes runs of many calls itself. ioredis's own pipelines would have each wait for the one before.
      reply = this.client.options.enableAutoPipelining
        ? only(this.client.pipeline([['evalsha', ...parts]]).exec())
        : this.client.evalsha(...parts);
    } catch (error) {
      return Promise.reject(this.explained(error));
    }
    return reply.catch((error: unknown) => {
      if (!isUnknownScript(error)) throw this.explained(error);
      return this.#evaluateText(script, keys, args);
    });
  }

  async #evaluateText(
    script: Script,
    keys: readonly string[],
    args: readonly string[],
  ): Promise<unknown> {
    try {
      return await this.client.eval(script.lua, keys.length, ...keys, ...args);
    } catch (error) {
      throw this.explained(error);
    }
  }

  /** Throws when nothing should be sent now. */
  protected checkConnection(): void {}

  /** What callers are told of an error of the client. */
  protected explained(error: unknown): unknown {
    return withoutCommand(error);
  }

  async subscriber(node: string, events: SubscriberEvents, timeoutMs: number): Promise<Subscriber> {
    const connection = this.connectionTo(node).duplicate(SUBSCRIBER_OPTIONS);
    let isOver = false;
    const gone = (): void => {
      if (isOver) return;
      isOver = true;
      connection.disconnect();
      events.gone();
    };
    connection.on('error', () => {});
    connection.on('end', gone);
    // ioredis says so when a slot, and with it a channel, went to another node.
    connection.on('moved', gone);
    connection.on('message', (_channel: string, text: string) => events.message(text));
    connection.on('smessage', (_channel: string, text: string) => events.message(text));
    try {
      await within(discreet(connection.connect()), timeoutMs, 'a new subscriber');
    } catch (error) {
      isOver = true;
      connection.disconnect();
      throw error;
    }
    return {
      async subscribe(channel) {
        await discreet(
          isSharded(channel) ? connection.ssubscribe(channel) : connection.subscribe(channel),
        );
      },
      async ping() {
        await discreet(connection.ping());
      },
      close() {
        isOver = true;
        connection.disconnect();
      },
    };
  }
}

export class IoredisSingle extends IoredisClient {
  readonly isCluster = false;
  connections = 0;
  protected readonly client: IoredisConnection;
  readonly #isOwn: boolean;
  /** Why there is no connection, when there is none. */
  #failure: Error | null = null;
  readonly #onClose = (): void => {
    this.connections += 1;
  };

  constructor(client: IoredisConnection, isOwn: boolean) {
    super();
    this.client = client;
    this.#isOwn = isOwn;
    if (!isOwn) return;
    // Without a listener ioredis writes errors to the console.
    client.on('error', (error: Error) => {
      this.#failure = withoutCommand(error);
    });
    client.on('ready', () => {
      this.#failure = null;
    });
  }

  countConnections(): void {
    this.client.off('close', this.#onClose);
    this.client.on('close', this.#onClose);
  }

  async connect(): Promise<void> {
    if (!this.#isOwn || this.client.status !== 'wait') return;
    await this.#explained(() => this.client.connect());
  }

  command(args: readonly string[]): Promise<unknown> {
    return this.#explained(async () => {
      this.checkConnection();
      return this.client.call(...args);
    });
  }

  async #explained<T>(send: () => Promise<T>): Promise<T> {
    try {
      return await send();
    } catch (error) {
      throw this.explained(error);
    }
  }

  /** The queue of a client without a connection has no limit, and the core makes the call again. */
  protected override checkConnection(): void {
    const { status } = this.client;
    if (status === 'close' || status === 'reconnecting' || status === 'end') {
      throw new Error(`the client of ioredis has no connection at the moment (${status})`);
    }
  }

  /** ioredis says that a connection is closed; why, it told before. */
  protected override explained(error: unknown): unknown {
    withoutCommand(error);
    if (!(error instanceof Error)) return error;
    if (this.#isOwn && isNoMaster(error)) this.#failure = error;
    if (error.name === 'ReplyError') return error;
    if (this.#failure !== null) {
      return new Error(`${this.#failure.message} (${error.message})`, { cause: this.#failure });
    }
    if (error.name !== 'MaxRetriesPerRequestError') return error;
    return new Error('the connection was lost before Redis answered', { cause: error });
  }

  nodes(): string[] {
    return [''];
  }

  nodeOf(): string {
    return '';
  }

  async close(): Promise<void> {
    this.client.off('close', this.#onClose);
    if (this.#isOwn) this.client.disconnect();
  }

  protected connectionTo(): IoredisConnection {
    return this.client;
  }
}

export class IoredisClusterClient extends IoredisClient {
  readonly isCluster = true;
  readonly connections = 0;
  protected readonly client: IoredisCluster;
  readonly #isOwn: boolean;

  constructor(client: IoredisCluster, isOwn: boolean) {
    super();
    this.client = client;
    this.#isOwn = isOwn;
    if (isOwn) client.on('error', () => {});
  }

  countConnections(): void {}

  async connect(): Promise<void> {
    if (this.#isOwn && this.client.status === 'wait') await discreet(this.client.connect());
  }

  command(args: readonly string[], node?: string): Promise<unknown> {
    const client = node === undefined ? this.client : this.connectionTo(node);
    return discreet(client.call(...args));
  }

  nodes(): string[] {
    return this.client.nodes('master').map(addressOf);
  }

  nodeOf(slot: number): string | null {
    return this.client.slots[slot]?.[0] ?? null;
  }

  async close(): Promise<void> {
    if (this.#isOwn) this.client.disconnect();
  }

  protected connectionTo(node: string): IoredisConnection {
    const found = this.client.nodes('master').find((one) => addressOf(one) === node);
    if (!found) throw new Error(`the cluster has no master ${node} at the moment`);
    return found;
  }
}

/** The reply to the one command of a pipeline. */
async function only(replies: Promise<[Error | null, unknown][] | null>): Promise<unknown> {
  const [error, reply] = (await replies)?.[0] ?? [new Error('ioredis gave no reply'), null];
  if (error) throw error;
  return reply;
}

function addressOf(connection: IoredisConnection): string {
  return `${connection.options.host}:${connection.options.port}`;
}

/** How long a chain of causes is looked through. */
const MAX_CAUSES = 8;

/** ioredis adds to its errors the command that failed: of AUTH and HELLO that is the password, of others it may be data. */
function withoutCommand<E>(error: E): E {
  let one: unknown = error;
  for (let depth = 0; depth < MAX_CAUSES && one instanceof Error; depth += 1) {
    delete (one as { command?: unknown }).command;
    one = one.cause;
  }
  return error;
}

async function discreet<T>(promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (error) {
    throw withoutCommand(error);
  }
}

/**
 * node-redis 5 and 6: a client and a cluster.
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

/** What is used of a client of node-redis. */
export interface NodeRedisConnection {
  readonly isOpen: boolean;
  readonly isReady: boolean;
  readonly options?: { readonly socket?: object; readonly keyPrefix?: unknown };
  connect(): Promise<unknown>;
  destroy(): void;
  duplicate(overrides?: object): NodeRedisConnection;
  sendCommand(args: readonly string[], options?: object): Promise<unknown>;
  subscribe(channel: string, listener: (text: string) => void): Promise<unknown>;
  sSubscribe(channel: string, listener: (text: string) => void): Promise<unknown>;
  ping(): Promise<unknown>;
  on(event: string, listener: (...args: never[]) => void): unknown;
  off(event: string, listener: (...args: never[]) => void): unknown;
}

export interface NodeRedisShardNode {
  readonly address: string;
}

/** What is used of a cluster of node-redis. */
export interface NodeRedisCluster {
  readonly slots: readonly ({ readonly master: NodeRedisShardNode } | undefined)[];
  readonly masters: readonly NodeRedisShardNode[];
  nodeClient(node: NodeRedisShardNode): Promise<NodeRedisConnection>;
  sendCommand(
    firstKey: string | undefined,
    isReadonly: boolean,
    args: readonly string[],
    options?: object,
  ): Promise<unknown>;
}

/** Replies as they come, whatever types the owner of the client prefers. */
const PLAIN = { typeMapping: {} };

abstract class NodeRedisClient implements RedisClient {
  abstract readonly isCluster: boolean;
  abstract readonly connections: number;
  abstract countConnections(): void;
  abstract connect(): Promise<void>;
  abstract command(args: readonly string[], node?: string): Promise<unknown>;
  abstract nodes(): string[];
  abstract nodeOf(slot: number): string | null;
  abstract close(): Promise<void>;
  protected abstract send(key: string, args: readonly string[]): Promise<unknown>;
  protected abstract connectionTo(node: string): Promise<NodeRedisConnection>;

  async evaluate(
    script: Script,
    keys: readonly string[],
    args: readonly string[],
  ): Promise<unknown> {
    const rest = [String(keys.length), ...keys, ...args];
    const key = keys[0] as string;
    try {
      return await this.send(key, ['EVALSHA', script.sha, ...rest]);
    } catch (error) {
      if (!isUnknownScript(error)) throw error;
      return this.send(key, ['EVAL', script.lua, ...rest]);
    }
  }

  async subscriber(node: string, events: SubscriberEvents, timeoutMs: number): Promise<Subscriber> {
    const original = await this.connectionTo(node);
    const connection = original.duplicate({
      // The store reconnects by itself, so that it knows when messages may have been missed.
      socket: { ...original.options?.socket, reconnectStrategy: false },
      commandOptions: PLAIN,
      clientSideCache: undefined,
      disableOfflineQueue: true,
      pingInterval: undefined,
      readonly: false,
    });
    let isOver = false;
    const end = (): void => {
      isOver = true;
      if (connection.isOpen) connection.destroy();
    };
    const gone = (): void => {
      if (isOver) return;
      end();
      events.gone();
    };
    connection.on('error', gone);
    connection.on('end', gone);
    connection.on('sharded-channel-moved', gone);
    try {
      await within(connection.connect(), timeoutMs, 'a new subscriber');
    } catch (error) {
      end();
      throw error;
    }
    const listen = (text: string): void => events.message(text);
    return {
      async subscribe(channel) {
        if (isSharded(channel)) await connection.sSubscribe(channel, listen);
        else await connection.subscribe(channel, listen);
      },
      async ping() {
        await connection.ping();
      },
      close: end,
    };
  }
}

export class NodeRedisSingle extends NodeRedisClient {
  readonly isCluster = false;
  connections = 0;
  readonly #client: NodeRedisConnection;
  readonly #onReady = (): void => {
    this.connections += 1;
  };

  constructor(client: NodeRedisConnection) {
    super();
    this.#client = client;
  }

  async connect(): Promise<void> {
    if (!this.#client.isOpen)
      throw new Error('the client is not connected: await client.connect()');
  }

  countConnections(): void {
    this.#client.off('ready', this.#onReady);
    this.#client.on('ready', this.#onReady);
  }

  /** The queue of a client without a connection has no limit, and the core makes the call again. */
  async command(args: readonly string[]): Promise<unknown> {
    if (!this.#client.isReady)
      throw new Error('the client of node-redis has no connection at the moment');
    return this.#client.sendCommand(args, PLAIN);
  }

  nodes(): string[] {
    return [''];
  }

  nodeOf(): string {
    return '';
  }

  async close(): Promise<void> {
    this.#client.off('ready', this.#onReady);
  }

  protected send(_key: string, args: readonly string[]): Promise<unknown> {
    return this.command(args);
  }

  protected async connectionTo(): Promise<NodeRedisConnection> {
    return this.#client;
  }
}

export class NodeRedisClusterClient extends NodeRedisClient {
  readonly isCluster = true;
  readonly connections = 0;
  readonly #client: NodeRedisCluster;

  constructor(client: NodeRedisCluster) {
    super();
    this.#client = client;
  }

  countConnections(): void {}

  async connect(): Promise<void> {}

  async command(args: readonly string[], node?: string): Promise<unknown> {
    if (node === undefined) return this.#client.sendCommand(undefined, true, args, PLAIN);
    return (await this.connectionTo(node)).sendCommand(args, PLAIN);
  }

  nodes(): string[] {
    return this.#client.masters.map((master) => master.address);
  }

  nodeOf(slot: number): string | null {
    return this.#client.slots[slot]?.master.address ?? null;
  }

  async close(): Promise<void> {}

  protected send(key: string, args: readonly string[]): Promise<unknown> {
    return this.#client.sendCommand(key, false, args, PLAIN);
  }

  protected async connectionTo(node: string): Promise<NodeRedisConnection> {
    const found = this.#client.masters.find((master) => master.address === node);
    if (!found) throw new Error(`the cluster has no master ${node} at the moment`);
    return this.#client.nodeClient(found);
  }
}

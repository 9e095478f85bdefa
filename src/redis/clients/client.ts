/**
 * What the store needs of a Redis client, whoever made it. One adapter for each client family implements it.
 */
import type { Script } from '../scripts/script.ts';

export interface SubscriberEvents {
  message(text: string): void;
  /** The connection is gone, or one of its channels was taken from it. Called at most once. */
  gone(): void;
}

/** A connection of the store's own that only listens. */
export interface Subscriber {
  subscribe(channel: string): Promise<void>;
  ping(): Promise<void>;
  close(): void;
}

export interface RedisClient {
  readonly isCluster: boolean;
  /** Ready for commands. Rejects when the server cannot be reached now. */
  connect(): Promise<void>;
  /** Runs a script in the slot of its first key. Every call is bounded by the caller. */
  evaluate(script: Script, keys: readonly string[], args: readonly string[]): Promise<unknown>;
  /** Runs any other command, on a node that `nodes` or `nodeOf` gave, or on any. */
  command(args: readonly string[], node?: string): Promise<unknown>;
  /** Changes with each new connection, once `countConnections` was called: `WAIT` covers only what went over its own. */
  readonly connections: number;
  countConnections(): void;
  /** The addresses of all masters, as far as the client knows; a single server is the empty one. */
  nodes(): string[];
  /** The address of the node that serves a slot; null when the client does not know at the moment. */
  nodeOf(slot: number): string | null;
  /** Opens a connection to that node, or rejects and leaves nothing open. */
  subscriber(node: string, events: SubscriberEvents, timeoutMs: number): Promise<Subscriber>;
  /** Closes what the store opened itself; a client that was handed in stays as it is. */
  close(): Promise<void>;
}

/** What the caller gave, and how to have a client of it. */
export interface Server {
  readonly from: unknown;
  readonly isCluster: boolean;
  readonly connect: () => RedisClient | Promise<RedisClient>;
}

/** A channel of Redis Cluster's sharded publish, by the name that `Layout` gave it. */
export function isSharded(channel: string): boolean {
  return channel.startsWith('leasehold:s:');
}

/** The server has not seen this script yet, or was told to forget it. */
export function isUnknownScript(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('NOSCRIPT');
}

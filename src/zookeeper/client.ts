/**
 * The members of `node-zookeeper-client` 1.1 that are used, some of which it does not publish. The
 * state machine of a session is the client's; see session.ts for what is done around it.
 */
import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import type { Request } from './requests.ts';

/** States of the client's connection manager. */
export const STATES = {
  disconnected: 0,
  connecting: 1,
  connected: 2,
  closed: -2,
  expired: -3,
  authFailed: -4,
} as const;

export const CODES = {
  ok: 0,
  /** Codes below are about what was asked for. */
  apiError: -100,
  connectionLoss: -4,
  noNode: -101,
  noAuth: -102,
  nodeExists: -110,
  notEmpty: -111,
  expired: -112,
  authFailed: -115,
} as const;

export const WATCH_EVENTS = { deleted: 2 } as const;

export interface WatchEvent {
  readonly type: number;
  readonly path: string;
}

/** A request that was sent. */
export interface Packet {
  readonly request: {
    readonly header: { readonly xid: number };
    /** By the monotonic clock, in milliseconds. None for those that the client makes by itself. */
    readonly sentAtMs?: number;
    readonly read?: Request['read'];
  };
  readonly callback: (error: unknown, answer?: unknown) => void;
}

export interface ConnectionManager extends EventEmitter {
  readonly state: number;
  readonly sessionTimeout: number;
  xid: number;
  /**
   * Of the last transaction that it has seen the effect of: servers that do not know it are
   * refused.
   */
  readonly zxid: Buffer;
  socket: Socket | undefined;
  watcherManager: { isEmpty(): boolean; emit(event: WatchEvent): void };
  /** Sent and not answered, in the order of sending. */
  readonly pendingQueue: Packet[];
  /** Of the client itself, and not sent yet. */
  readonly packetQueue: { readonly queue: unknown[] };
  getSessionId(): Buffer;
  setState(state: number): void;
  connect(): void;
  onSocketConnected(): void;
  onSocketData(frame: Buffer): void;
  onSocketDrain(): void;
  onSocketClosed(): void;
  onSocketTimeout(): void;
}

export interface Client {
  readonly connectionManager: ConnectionManager;
  connect(): void;
  close(): void;
  addAuthInfo(scheme: string, auth: Buffer): void;
}

export interface ClientModule {
  createClient(connect: string, options: { readonly sessionTimeout: number }): Client;
}

/** Rejects with what to install. */
export async function loadClient(): Promise<ClientModule> {
  try {
    const module = (await import('node-zookeeper-client' as string)) as {
      readonly default: ClientModule;
    };
    return module.default;
  } catch (cause) {
    throw new Error('leasehold/zookeeper needs a client: npm i node-zookeeper-client', { cause });
  }
}

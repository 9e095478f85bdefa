/**
 * The members of `node-zookeeper-client` 1.1 that are used, some of which it does not publish. The state machine of a session
 * and the decoding of answers are the client's; see session.ts for what is done around it.
 */
import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import type { RawStat, Request } from './requests.ts';

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
} as const;

export const WATCH_EVENTS = { deleted: 2 } as const;

/** Whatever the client decodes: which of these are there depends on the request. */
export interface Payload {
  readonly path: string;
  readonly data: Buffer;
  readonly children: readonly string[];
  readonly stat: RawStat;
  readonly results: readonly { readonly path?: string; readonly err?: number }[];
}

export interface WatchEvent {
  readonly type: number;
  readonly path: string;
}

type Answered = (error: unknown, response?: { readonly payload: Payload }) => void;

export interface Packet {
  readonly request: Request | { readonly sentAtMs?: undefined };
  readonly callback: Answered;
}

export interface ConnectionManager extends EventEmitter {
  readonly state: number;
  readonly sessionTimeout: number;
  xid: number;
  socket: Socket | undefined;
  watcherManager: { isEmpty(): boolean; emit(event: WatchEvent): void };
  /** Sent and not answered, in the order of sending. */
  readonly pendingQueue: readonly Packet[];
  /** Not sent yet. */
  readonly packetQueue: { queue: Packet[] };
  getSessionId(): Buffer;
  queue(request: Request, callback: Answered): void;
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

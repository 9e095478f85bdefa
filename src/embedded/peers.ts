/**
 * How the stores of one folder wake each other: each listens on a socket of its own, and keeps a connection to every
 * store that it had something to tell.
 *
 * All of it is a short cut. A message that is lost costs its receiver the time until it looks again, and nothing else.
 */
import { existsSync, readdirSync, statSync, unlinkSync } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { StoreEvent } from '../core/store.ts';
import { isChannel, isComparable, isKnownDead } from './channel.ts';
import type { SocketPlace } from './folder.ts';
import { decodeEvent, encodeEvent, LineReader } from './wire.ts';

/** Connections that are kept open, in each direction; the oldest gives way. */
const MAX_PEERS = 1_024;
/** What a peer that does not read may leave unsent; more is dropped, for it will look by itself. */
const MAX_UNSENT_BYTES = 1_048_576;
/** A peer whose socket refused us is passed over for this long, and then tried again. */
const GONE_FOR_MS = 500;
/** How often a store looks whether its own socket is still there. */
const LOOK_AFTER_SOCKET_MS = 500;
/** How long a store that is closed waits until what it has told is on its way, in milliseconds. */
const FLUSH_MS = 1_000;
/** A socket is bound a moment before it listens: only older ones can be stale. */
const STALE_AFTER_MS = 10_000;

export class Peers {
  readonly channel: string;
  readonly #place: SocketPlace;
  readonly #on: (event: StoreEvent) => void;
  readonly #incoming = new Set<Socket>();
  readonly #outgoing = new Map<string, Socket>();
  /** Until when a peer counts as gone, by its channel. */
  readonly #gone = new Map<string, number>();
  #server: Server | null = null;
  #lookedAtMs = 0;

  constructor(channel: string, place: SocketPlace, on: (event: StoreEvent) => void) {
    this.channel = channel;
    this.#place = place;
    this.#on = on;
  }

  async listen(): Promise<void> {
    if (this.#place.folder !== null) removeStale(this.#place.folder);
    await this.#listen();
  }

  /** Whether a message would arrive. Synchronous, since it is asked inside a transaction; when in doubt, true. */
  isListening(channel: string): boolean {
    if (channel === this.channel) return true;
    if (isKnownDead(channel)) {
      this.#gone.delete(channel);
      this.#disconnect(channel);
      return false;
    }
    const goneUntilMs = this.#gone.get(channel);
    if (goneUntilMs === undefined) return true;
    if (goneUntilMs < performance.now() && !this.#outgoing.has(channel)) this.#connect(channel);
    return false;
  }

  tell(channel: string, event: StoreEvent): void {
    const socket = this.#outgoing.get(channel) ?? this.#connect(channel);
    if (socket.writableLength < MAX_UNSENT_BYTES) socket.write(encodeEvent(event));
  }

  /**
   * Listens anew when the socket's file was removed, as cleaners of temporary folders do. Called by every step; it looks
   * once in a while.
   */
  lookAfterSocket(): void {
    const nowMs = performance.now();
    if (this.#place.folder === null || nowMs - this.#lookedAtMs < LOOK_AFTER_SOCKET_MS) return;
    this.#lookedAtMs = nowMs;
    if (this.#server === null || existsSync(this.#place.addressOf(this.channel))) return;
    this.#server.close();
    this.#listen().catch(() => undefined);
  }

  async close(): Promise<void> {
    const outgoing = [...this.#outgoing.values()];
    this.#outgoing.clear();
    await Promise.all(outgoing.map(flushed));
    for (const socket of this.#incoming) socket.destroy();
    const server = this.#server;
    this.#server = null;
    if (server) await new Promise<void>((resolve) => void server.close(() => resolve()));
    this.#place.tidy();
  }

  /** Once more when another store tidied the folder away in between. */
  async #listen(attempts = 2): Promise<void> {
    try {
      this.#place.make();
      await this.#listenOnce();
    } catch (error) {
      if (attempts === 1) throw error;
      await this.#listen(attempts - 1);
    }
  }

  async #listenOnce(): Promise<void> {
    const server = createServer((socket) => this.#accept(socket));
    server.maxConnections = MAX_PEERS;
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#place.addressOf(this.channel), () => {
        server.off('error', reject);
        server.on('error', () => undefined);
        resolve();
      });
    });
  }

  #accept(socket: Socket): void {
    const reader = new LineReader();
    this.#incoming.add(socket);
    socket.setEncoding('utf8');
    socket.on('error', () => undefined);
    socket.on('close', () => this.#incoming.delete(socket));
    socket.on('data', (chunk: string) => {
      for (const line of reader.read(chunk) ?? [null]) {
        const event = line === null ? null : decodeEvent(line);
        if (event === null) {
          socket.destroy();
          return;
        }
        this.#on(event);
      }
    });
  }

  /** A connection that breaks is tried once more, which tells whether the peer went or only the connection. */
  #connect(channel: string, tryOnceMore = true): Socket {
    const oldest = this.#outgoing.keys().next().value;
    if (this.#outgoing.size >= MAX_PEERS && oldest !== undefined) this.#disconnect(oldest);
    const socket = createConnection(this.#place.addressOf(channel));
    this.#outgoing.set(channel, socket);
    let connected = false;
    socket.on('connect', () => {
      connected = true;
      this.#gone.delete(channel);
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') this.#setGone(channel);
    });
    socket.on('close', () => {
      if (this.#outgoing.get(channel) !== socket) return;
      this.#outgoing.delete(channel);
      if (connected && tryOnceMore && !isKnownDead(channel)) this.#connect(channel, false);
    });
    return socket;
  }

  #disconnect(channel: string): void {
    const socket = this.#outgoing.get(channel);
    this.#outgoing.delete(channel);
    socket?.destroy();
  }

  #setGone(channel: string): void {
    if (this.#gone.size >= MAX_PEERS) this.#gone.clear();
    this.#gone.set(channel, performance.now() + GONE_FOR_MS);
  }
}

/** Resolves when the socket is closed: not before what was written has left it, unless that takes too long. */
function flushed(socket: Socket): Promise<void> {
  if (socket.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(() => socket.destroy(), FLUSH_MS);
    socket.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
    socket.end(() => socket.destroy());
  });
}

/** Sockets of processes that were killed stay as files. */
function removeStale(folder: string): void {
  for (const name of readdirSync(folder)) {
    if (!isChannel(name)) continue;
    if (isKnownDead(name)) remove(join(folder, name));
    // That of another container cannot be judged by its number; a socket that refuses has no listener.
    else if (!isComparable(name)) removeIfRefusing(join(folder, name));
  }
}

function removeIfRefusing(address: string): void {
  try {
    if (Date.now() - statSync(address).mtimeMs < STALE_AFTER_MS) return;
  } catch {
    return;
  }
  const probe = createConnection(address);
  probe.on('connect', () => probe.destroy());
  probe.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'ECONNREFUSED') remove(address);
  });
}

function remove(address: string): void {
  try {
    unlinkSync(address);
  } catch {
    // Another process was faster.
  }
}

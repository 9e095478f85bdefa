/**
 * One session with the ensemble, over one connection at a time.
 *
 * The state machine is that of `node-zookeeper-client`. What it lacks is done around it, on the
 * instance:
 *
 * | it                                                          | here                                                  |
 * |-------------------------------------------------------------|-------------------------------------------------------|
 * | waits for ever for a server that hangs, also at the start   | a server that is silent is left for the next one      |
 * | sends what was queued before a break after it               | nothing outlives its connection: it counts as unknown |
 * | begins a connection with what was left of the last one      | frames are put together here, for each connection     |
 * | throws at a code that it does not know, out of a callback   | codes are just codes                                  |
 * | forgets who asked when it cannot read the answer            | answers are read here; what cannot be is unknown      |
 * | sets watches anew, one request for all, and cannot drop any | watches end with the connection, and its end is told  |
 * | numbers requests beyond 32 bits                             | the count begins anew                                 |
 * | cannot `sync`, and learns no stat from a creation           | requests are written here, by requests.ts             |
 */
import { connect as dial, type Socket } from 'node:net';
import {
  type Client,
  type ClientModule,
  CODES,
  type ConnectionManager,
  type Packet,
  STATES,
  type WatchEvent,
} from './client.ts';
import type { Server, Settings } from './options.ts';
import { checkAll, ping, type Request, type Result } from './requests.ts';
import { Reader, Writer } from './wire.ts';

/** Before a server is tried again, when all have been tried. */
const MAX_RETRY_MS = 500;
const MAX_XID = 2 ** 30;
const PING_XID = -2;
const READ_SIZE = 2 ** 16;
/**
 * Answers are a list of children at the most; a line of so many bytes would be of some hundred
 * thousand waiters.
 */
const MAX_FRAME_BYTES = 64 * 1024 * 1024;
const NO_BYTES = Buffer.alloc(0);
const MIN_LOOK_MS = 20;
/**
 * Without a connection for so many of its time-outs, a session is given up: servers that have lost
 * their data refuse it for ever, since its client has seen more than they know.
 */
const MAX_TIMEOUTS_ALONE = 2;
/** How long the end of a session may take; then the servers end it by its time-out. */
const MAX_CLOSE_MS = 1_000;

export interface SessionEvents {
  /** A connection was made again: watches are gone, and events may have been missed. */
  reconnected(): void;
  /** The session is over, and with it all of its nodes. */
  expired(): void;
  watched(event: WatchEvent): void;
}

/** Done or not done. */
export class ConnectionLostError extends Error {
  constructor(what: string) {
    super(`the connection to ZooKeeper ${what}`);
    this.name = 'ConnectionLostError';
  }
}

export class Session {
  readonly #settings: Settings;
  readonly #events: SessionEvents;
  readonly #client: Client;
  readonly #manager: ConnectionManager;
  readonly #servers: readonly Server[];
  /**
   * Between two messages of a connection that is otherwise silent: the servers must not take it for
   * dead.
   */
  readonly #keepAliveMs: number;
  /** Which server is dialled next. */
  #next = 0;
  /** Since the last connection. */
  #tries = 0;
  #isOver = false;
  #wasConnected = false;
  #retry: NodeJS.Timeout | undefined;
  #look: NodeJS.Timeout | undefined;
  #dialledAtMs = 0;
  #connectedAtMs = performance.now();
  #sentAtMs = 0;
  #pingedAtMs: number | null = null;
  /** What was overdue at the last look. */
  #suspect: unknown = null;
  /** What leaves at the end of this turn. */
  #out: Writer | null = null;
  #waiting: ((error?: Error) => void)[] = [];
  #confirming: Promise<unknown> | null = null;

  constructor(parts: {
    readonly module: ClientModule;
    readonly settings: Settings;
    readonly timeoutMs: number;
    readonly keepAliveMs: number;
    readonly events: SessionEvents;
  }) {
    const { module, settings, timeoutMs, keepAliveMs, events } = parts;
    this.#settings = settings;
    this.#events = events;
    this.#keepAliveMs = keepAliveMs;
    this.#servers = shuffled(settings.servers);
    // The addresses are dialled here; the client only has to have some.
    this.#client = module.createClient('127.0.0.1', { sessionTimeout: timeoutMs });
    this.#manager = this.#client.connectionManager;
    this.#mend();
    const { auth } = settings;
    if (auth !== null) this.#client.addAuthInfo(auth.scheme, Buffer.from(auth.credentials));
    this.#client.connect();
  }

  /** As a number of 64 bits; the owner of every ephemeral node of this session. */
  get id(): bigint {
    return this.#manager.getSessionId().readBigInt64BE();
  }

  /** As the servers granted it, in milliseconds. */
  get timeoutMs(): number {
    return this.#manager.sessionTimeout;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  get isConnected(): boolean {
    return this.#manager.state === STATES.connected;
  }

  /**
   * Resolves when there is a connection; rejects when there is none for too long, or never will be.
   */
  async connected(): Promise<void> {
    if (this.isConnected) return;
    if (this.#isOver) throw new ConnectionLostError('is over: its session has ended');
    await new Promise<void>((resolve, reject) => {
      const settle = (error?: Error): void => {
        clearTimeout(timer);
        this.#waiting.splice(this.#waiting.indexOf(settle), 1);
        if (error) reject(error);
        else resolve();
      };
      const timer = setTimeout(() => {
        settle(new ConnectionLostError('is not there: no server of the list answers'));
      }, this.#settings.requestTimeoutMs);
      this.#waiting.push(settle);
    });
  }

  /**
   * Sends a request now. Requests are answered in the order of sending, and a read sees every write
   * that was sent before it. Rejects with the client's error, which has a `code`, when the answer
   * is one; with any other, the outcome is unknown.
   */
  send<Answer>(request: Request<Answer>): Promise<Answer> {
    if (!this.isConnected) {
      return Promise.reject(new ConnectionLostError('is not there at the moment'));
    }
    const manager = this.#manager;
    if (manager.xid > MAX_XID) manager.xid = 1;
    const header = { xid: manager.xid };
    manager.xid += 1;
    this.#write(header.xid, request);
    const { read } = request;
    return new Promise((resolve, reject) => {
      const callback: Packet['callback'] = (error, answer) => {
        const code = codeOf(error);
        if (code === CODES.expired) this.#expire();
        if (error) reject(code === CODES.authFailed ? refusedIdentity() : error);
        else resolve(answer as Answer);
      };
      manager.pendingQueue.push({ request: { header, sentAtMs: this.#sentAtMs, read }, callback });
    });
  }

  /**
   * Sends a transaction. Rejects with the `code` of the operation that failed; then none of it was
   * done.
   */
  async transact(request: Request<Result[]>): Promise<Result[]> {
    const results = await this.send(request);
    const failed = results.find(({ code }) => code !== undefined && code !== CODES.ok);
    if (failed === undefined) return results;
    // The others were only given up.
    const undone = results.find(({ code }) => code !== undefined && code < CODES.apiError);
    throw refusal((undone ?? failed).code as number);
  }

  /**
   * Resolves when a quorum has answered through the leader, after this call, that the session is
   * alive. Calls of one turn of the event loop share one request.
   */
  confirm(): Promise<unknown> {
    this.#confirming ??= Promise.resolve().then(() => {
      this.#confirming = null;
      return this.send(checkAll([this.#settings.root]));
    });
    return this.#confirming;
  }

  /** Ends the session at once, and with it all of its nodes. Never rejects. */
  async end(): Promise<void> {
    if (this.isConnected) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, MAX_CLOSE_MS);
        this.#manager.socket?.once('close', () => {
          clearTimeout(timer);
          resolve();
        });
        this.#flush();
        this.#client.close();
      });
    }
    this.abandon();
  }

  /** Leaves the session to its time-out. */
  abandon(): void {
    this.#isOver = true;
    clearTimeout(this.#retry);
    clearInterval(this.#look);
    this.#manager.socket?.destroy();
    for (const settle of [...this.#waiting]) settle(new ConnectionLostError('was closed'));
  }

  // --- Around the client -------------------------------------------------------------------------

  #mend(): void {
    const manager = this.#manager;
    manager.connect = () => {
      manager.setState(STATES.connecting);
      if (this.#isOver) return;
      // Each server of the list once without a pause.
      const isFirstRound = this.#tries < this.#servers.length;
      const delayMs = isFirstRound ? 0 : MAX_RETRY_MS * (0.5 + Math.random() / 2);
      this.#retry = setTimeout(() => this.#dial(), delayMs);
    };
    manager.watcherManager = {
      isEmpty: () => true,
      emit: (event) => this.#events.watched(event),
    };
    manager.onSocketTimeout = () => {};
    manager.on('state', (state: number) => this.#onState(state));
    const lookMs = Math.max(MIN_LOOK_MS, this.#keepAliveMs / 2);
    this.#look = setInterval(() => this.#lookForSilence(), lookMs);
  }

  #dial(): void {
    const { host, port } = this.#servers[this.#next % this.#servers.length] as Server;
    this.#next += 1;
    this.#tries += 1;
    this.#dialledAtMs = performance.now();
    this.#pingedAtMs = null;
    const read = frames((frame) => this.#onFrame(socket, frame));
    const callback = (size: number, memory: Uint8Array): boolean => {
      try {
        read(size, memory);
      } catch {
        // An answer that nobody can read: what it belonged to is unknown.
        socket.destroy();
      }
      return true;
    };
    const onread = { buffer: Buffer.allocUnsafe(READ_SIZE), callback };
    const socket = dial({ host, port, noDelay: true, onread });
    this.#manager.socket = socket;
    socket.on('connect', () => this.#manager.onSocketConnected());
    socket.on('drain', () => this.#manager.onSocketDrain());
    // Whatever it is, the connection closes next.
    socket.on('error', () => {});
    socket.on('close', () => this.#onClose());
  }

  #onFrame(socket: Socket, frame: Buffer): void {
    if (socket.destroyed) return;
    this.#pingedAtMs = null;
    if (!this.#answer(frame)) this.#manager.onSocketData(frame);
  }

  /**
   * Reads the answer to a request of the store. False for everything else, which is the client's:
   * greetings, pings, watches. Throws at what cannot be read; what it belonged to still counts as
   * sent then.
   */
  #answer(frame: Buffer): boolean {
    const { pendingQueue, zxid } = this.#manager;
    const [packet] = pendingQueue;
    const from = new Reader(frame, 4);
    const xid = from.int();
    if (!packet?.request.read || xid < 0) return false;
    if (xid !== packet.request.header.xid) throw new RangeError(`an answer to request ${xid}`);
    if (from.long() > 0n) frame.copy(zxid, 0, 8, 16);
    const code = from.int();
    const answer = code === CODES.ok ? packet.request.read(from) : undefined;
    pendingQueue.shift();
    packet.callback(code === CODES.ok ? null : refusal(code), answer);
    return true;
  }

  #onClose(): void {
    // The client makes its own requests anew for the next connection.
    this.#manager.packetQueue.queue.length = 0;
    this.#manager.onSocketClosed();
  }

  #onState(state: number): void {
    if (state === STATES.connected) {
      this.#tries = 0;
      this.#sentAtMs = performance.now();
      for (const settle of [...this.#waiting]) settle();
      if (this.#wasConnected) this.#events.reconnected();
      this.#wasConnected = true;
    } else if (state === STATES.expired) {
      this.#expire();
    } else if (state === STATES.authFailed) {
      for (const settle of [...this.#waiting]) settle(refusedIdentity());
      this.#expire();
    }
  }

  #expire(): void {
    if (this.#isOver) return;
    this.abandon();
    this.#events.expired();
  }

  /** Leaves a server that does not answer, and lets one that is not asked anything hear of us. */
  #lookForSilence(): void {
    const manager = this.#manager;
    const nowMs = performance.now();
    const { requestTimeoutMs } = this.#settings;
    if (manager.state === STATES.connecting) {
      const aloneMs = nowMs - this.#connectedAtMs;
      if (this.#wasConnected && aloneMs > MAX_TIMEOUTS_ALONE * this.timeoutMs) this.#expire();
      else if (nowMs - this.#dialledAtMs > requestTimeoutMs / 2) manager.socket?.destroy();
      return;
    }
    if (!this.isConnected) return;
    this.#connectedAtMs = nowMs;
    const oldest = manager.pendingQueue[0];
    const isLate = (sentAtMs: number | null | undefined): boolean =>
      nowMs - (sentAtMs ?? nowMs) > requestTimeoutMs;
    const overdue = isLate(oldest?.request.sentAtMs) ? oldest : this.#pingedAtMs;
    if (overdue === oldest ? oldest : isLate(this.#pingedAtMs)) {
      // After a stall of the event loop, the answer lies there already and is read before the next
      // look.
      if (overdue === this.#suspect) manager.socket?.destroy();
      this.#suspect = overdue;
    } else if (nowMs - this.#sentAtMs >= this.#keepAliveMs / 2) {
      this.#pingedAtMs ??= nowMs;
      this.#write(PING_XID, ping());
    }
  }

  /** Requests of one turn leave together. */
  #write(xid: number, { type, write }: Request): void {
    this.#sentAtMs = performance.now();
    if (this.#out === null) {
      this.#out = new Writer();
      process.nextTick(() => this.#flush());
    }
    const to = this.#out.begin().int(xid).int(type);
    write(to);
    this.#out.end();
  }

  #flush(): void {
    const out = this.#out;
    this.#out = null;
    if (out !== null) this.#manager.socket?.write(out.bytes());
  }
}

/** The code of an error that ZooKeeper answered. */
export function codeOf(error: unknown): number | undefined {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === 'number' ? code : undefined;
}

function refusedIdentity(): Error {
  return new Error('ZooKeeper refused the identity; look at the option auth');
}

function refusal(code: number): Error {
  return Object.assign(new Error(`ZooKeeper answered with the code ${code}`), { code });
}

/**
 * Cuts what arrives into frames: four bytes of length, and so many bytes. The next bytes come into
 * the same memory, so nothing of it is kept but a copy. Throws at a length that can be none.
 */
function frames(onFrame: (frame: Buffer) => void): (size: number, memory: Uint8Array) => void {
  let rest = NO_BYTES;
  return (size, memory) => {
    const chunk = Buffer.from(memory.buffer, memory.byteOffset, size);
    const all = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let from = 0;
    while (all.length - from >= 4) {
      const length = all.readInt32BE(from);
      if (length < 0 || length > MAX_FRAME_BYTES)
        throw new RangeError(`a frame of ${length} bytes`);
      const end = from + 4 + length;
      if (all.length < end) break;
      onFrame(all.subarray(from, end));
      from = end;
    }
    rest = from === all.length ? NO_BYTES : Buffer.from(all.subarray(from));
  };
}

function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, rank: Math.random() }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ item }) => item);
}

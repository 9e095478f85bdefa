/**
 * A TCP proxy between a client and a real server, with the faults of a network: connections that are cut, one way or
 * both ways that go dead, replies that are lost after the server has done what was asked, and delay.
 *
 * It holds whatever it may not pass on: memory is its only limit, which is fine for a test.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { freePort } from './processes.ts';

/** From the client to the server, or back. */
export type Way = 'requests' | 'replies';

/** Picks connections by what their clients have sent so far, its beginning at least. */
export type Where = (sent: string) => boolean;

const HOST = '127.0.0.1';
const BOTH: readonly Way[] = ['requests', 'replies'];
const REMEMBERED_BYTES = 16_384;
const DIAL_AGAIN_MS = 10;

interface Loss {
  readonly way: Way;
  readonly matches: (bytes: Buffer) => boolean;
  readonly lost: () => void;
}

/** What is faulty at the moment, for all connections. */
interface Faults {
  readonly held: Set<Way>;
  delayMs: number;
  toLose: Loss | null;
}

/** What a client says of itself when it connects, and what the server reads instead, of the same length. */
interface Disguise {
  readonly from: Buffer;
  readonly to: Buffer;
}

/** One way of one connection: passes bytes on in order, unless that way is held or they are not due yet. */
class Pipe {
  readonly #to: Socket;
  readonly #way: Way;
  readonly #faults: Faults;
  /** Whether this connection alone lets nothing through. */
  isHeld = false;
  /** An empty entry is the end of the stream. */
  readonly #queue: { readonly bytes: Buffer | null; readonly dueMs: number }[] = [];
  #timer: NodeJS.Timeout | null = null;

  constructor(to: Socket, way: Way, faults: Faults) {
    this.#to = to;
    this.#way = way;
    this.#faults = faults;
  }

  push(bytes: Buffer | null): void {
    this.#queue.push({ bytes, dueMs: performance.now() + this.#faults.delayMs });
    this.flush();
  }

  flush(): void {
    while (!this.isHeld && !this.#faults.held.has(this.#way)) {
      const [next] = this.#queue;
      if (next === undefined) return;
      const leftMs = next.dueMs - performance.now();
      if (leftMs > 0) {
        this.#timer ??= setTimeout(() => {
          this.#timer = null;
          this.flush();
        }, leftMs);
        return;
      }
      this.#queue.shift();
      if (this.#to.destroyed) continue;
      if (next.bytes === null) this.#to.end();
      else this.#to.write(next.bytes);
    }
  }

  discard(): void {
    this.#queue.length = 0;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}

class Link {
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #pipes: Readonly<Record<Way, Pipe>>;
  readonly #faults: Faults;
  readonly #disguise: Disguise | null;
  /** What the client has sent, as far as it is remembered. */
  sent = '';
  #losing: (() => void) | null = null;
  #isCut = false;

  constructor(client: Socket, server: Socket, faults: Faults, disguise: Disguise | null) {
    this.#client = client;
    this.#server = server;
    this.#faults = faults;
    this.#disguise = disguise;
    this.#pipes = {
      requests: new Pipe(server, 'requests', faults),
      replies: new Pipe(client, 'replies', faults),
    };
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      socket.on('error', () => this.cut());
    }
    client.on('data', (bytes) => this.#onRequest(bytes));
    client.on('end', () => this.#pipes.requests.push(null));
    client.on('close', () => this.cut());
    server.on('data', (bytes) => this.#onReply(bytes));
    server.on('end', () => this.#pipes.replies.push(null));
  }

  hold(ways: readonly Way[]): void {
    for (const way of ways) this.#pipes[way].isHeld = true;
  }

  forward(): void {
    for (const way of BOTH) {
      this.#pipes[way].isHeld = false;
      this.#pipes[way].flush();
    }
  }

  /** Both ends find the connection closed. What the server has received it will do; nobody learns of it. */
  cut(): void {
    if (this.#isCut) return;
    this.#isCut = true;
    for (const way of BOTH) this.#pipes[way].discard();
    // Whoever cuts it: the client may not have waited for the reply.
    this.#losing?.();
    this.#client.destroy();
    // Not reset, or the server would forget what it has not read yet.
    this.#server.end();
    this.#server.resume();
  }

  destroy(): void {
    this.cut();
    this.#server.destroy();
  }

  #onRequest(bytes: Buffer): void {
    if (this.#disguise !== null && this.sent === '') {
      const at = bytes.indexOf(this.#disguise.from);
      if (at !== -1) this.#disguise.to.copy(bytes, at);
    }
    if (this.sent.length < REMEMBERED_BYTES) this.sent += bytes.toString('latin1');
    // What is lost is the reply to it.
    this.#losing ??= this.#lossOf('requests', bytes);
    this.#pipes.requests.push(bytes);
  }

  #onReply(bytes: Buffer): void {
    if (this.#isCut) return;
    const lost = this.#losing ?? this.#lossOf('replies', bytes);
    if (lost === null) {
      this.#pipes.replies.push(bytes);
      return;
    }
    this.cut();
    lost();
  }

  #lossOf(way: Way, bytes: Buffer): (() => void) | null {
    const { toLose } = this.#faults;
    if (toLose?.way !== way || !toLose.matches(bytes)) return null;
    this.#faults.toLose = null;
    return toLose.lost;
  }
}

export class TcpProxy {
  /** Where clients connect to, on 127.0.0.1. */
  readonly port: number;
  /** How many connections there have been. */
  connections = 0;
  readonly #server: Server;
  readonly #links = new Set<Link>();
  readonly #faults: Faults = { held: new Set(), delayMs: 0, toLose: null };
  readonly #patienceMs: number;
  #targetPort: number;
  #disguise: Disguise | null = null;
  #isRefusing = false;

  private constructor(server: Server, targetPort: number, patienceMs: number) {
    this.#server = server;
    this.#targetPort = targetPort;
    this.#patienceMs = patienceMs;
    this.port = (server.address() as AddressInfo).port;
    server.on('connection', (client) => this.#onConnection(client));
  }

  /**
   * Forwards to that port of 127.0.0.1 until it is told otherwise. A connection that the target
   * refuses has been taken here already, and is closed; with `patienceMs` the target is dialled
   * again for so long, since it may be about to listen.
   */
  static async start(targetPort: number, { patienceMs = 0 } = {}): Promise<TcpProxy> {
    const server = createServer({ allowHalfOpen: true });
    server.listen(await freePort(), HOST);
    await once(server, 'listening');
    return new TcpProxy(server, targetPort, patienceMs);
  }

  /** How many connections there are now. */
  get open(): number {
    return this.#links.size;
  }

  /** Ends every fault: what was held goes on, new connections are taken, nothing more is delayed. */
  forward(): void {
    this.#faults.held.clear();
    this.#faults.delayMs = 0;
    this.#faults.toLose = null;
    this.#isRefusing = false;
    for (const link of this.#links) link.forward();
  }

  /** Sends new connections to another port, as an address does that follows a failover. */
  retarget(port: number): void {
    this.#targetPort = port;
  }

  /** In the first bytes of each client, puts one text in the place of another that is as long. */
  disguise(from: string, to: string): void {
    this.#disguise = { from: Buffer.from(from), to: Buffer.from(to) };
  }

  /** Cuts every connection, or some. What a server has received it will do; what is held is lost. */
  cut(where: Where = () => true): void {
    for (const link of [...this.#links]) {
      if (where(link.sent)) link.cut();
    }
  }

  /** Cuts every connection, and each new one at once. */
  refuse(): void {
    this.#isRefusing = true;
    this.cut();
  }

  /**
   * Lets nothing through, without closing anything. As TCP sends again what was not acknowledged, the bytes are held:
   * they arrive late after `forward`, and are lost after `cut`.
   */
  blackhole(...ways: readonly Way[]): void {
    for (const way of ways.length === 0 ? BOTH : ways) this.#faults.held.add(way);
  }

  /** As `blackhole`, for some of the connections that there are. */
  blackholeSome(where: Where, ...ways: readonly Way[]): void {
    for (const link of this.#links) {
      if (where(link.sent)) link.hold(ways.length === 0 ? BOTH : ways);
    }
  }

  /** Passes everything on later, each way by so many milliseconds. */
  delay(delayMs: number): void {
    this.#faults.delayMs = delayMs;
  }

  /**
   * The next request that matches reaches the server and is done; its connection is cut instead of the reply. Resolves
   * when that has happened.
   */
  loseReply(isRequest: (bytes: Buffer) => boolean): Promise<void> {
    return new Promise((lost) => {
      this.#faults.toLose = { way: 'requests', matches: isRequest, lost };
    });
  }

  /** The next bytes from the server that match are lost, and so is their connection. Resolves when that has happened. */
  loseMessage(isMessage: (bytes: Buffer) => boolean): Promise<void> {
    return new Promise((lost) => {
      this.#faults.toLose = { way: 'replies', matches: isMessage, lost };
    });
  }

  async close(): Promise<void> {
    this.#isRefusing = true;
    for (const link of [...this.#links]) link.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #onConnection(client: Socket): void {
    client.on('error', () => {});
    if (!this.#isRefusing) this.connections += 1;
    this.#dial(client, performance.now() + this.#patienceMs);
  }

  #dial(client: Socket, untilMs: number): void {
    if (this.#isRefusing) {
      client.destroy();
      return;
    }
    const server = connect({ port: this.#targetPort, host: HOST, allowHalfOpen: true });
    if (this.#patienceMs === 0) {
      this.#link(client, server);
      return;
    }
    const dialAgain = (): void => {
      if (performance.now() >= untilMs) client.destroy();
      else setTimeout(() => this.#dial(client, untilMs), DIAL_AGAIN_MS);
    };
    server.once('error', dialAgain);
    server.once('connect', () => {
      server.off('error', dialAgain);
      this.#link(client, server);
    });
  }

  #link(client: Socket, server: Socket): void {
    const link = new Link(client, server, this.#faults, this.#disguise);
    this.#links.add(link);
    server.on('close', () => {
      link.destroy();
      this.#links.delete(link);
    });
  }
}

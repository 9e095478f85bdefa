/**
 * Answers of ZooKeeper that are broken, come in pieces, or say what no client knows: whoever asked learns that the outcome is
 * unknown, finds its node again, and leaves none behind.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { LockManager, type StoreUnavailableError } from 'leasehold';
import { zookeeper } from 'leasehold/zookeeper';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { lane, TOOLS } from '../servers/require.ts';
import { ZooKeeperServer } from '../servers/zookeeper.ts';
import { type NodeClient, nodeClient } from '../servers/zookeeper-client.ts';

const PERSISTENT = 0;
const QUOTA_EXCEEDED = -125;
/** Length, number, transaction, and code. */
const HEADER_SIZE = 20;

type Mangle = (frame: Buffer) => Buffer;

const MANGLES: Readonly<Record<string, Mangle>> = {
  'ends in the middle of a text': (frame) => withLength(frame.subarray(0, HEADER_SIZE + 9)),
  'ends in the middle of its header': (frame) => withLength(frame.subarray(0, 10)),
  'has a length below zero': (frame) => withInt(frame, 0, -5),
  'is longer than any': (frame) => withInt(frame, 0, 2 ** 30),
  'answers another request': (frame) => withInt(frame, 4, 1_000),
};

lane('answers of ZooKeeper', TOOLS.zookeeper, () => {
  let server: ZooKeeperServer;
  let relay: Relay;
  let looker: NodeClient;
  let locks: LockManager;

  beforeAll(async () => {
    server = await ZooKeeperServer.start({ settings: { enforceQuota: true } });
    relay = await Relay.start(server.port);
    looker = await nodeClient(server.address);
  });
  afterAll(async () => {
    looker.close();
    relay.close();
    await server.close();
  });
  afterEach(async () => {
    relay.piecewise = false;
    await locks.close();
  });

  function manager(root: string): LockManager {
    const store = zookeeper({
      connect: `127.0.0.1:${relay.port}`,
      root: `/${root}`,
      requestTimeoutMs: 20_000,
    });
    locks = new LockManager({ store, ttlMs: 60_000 });
    return locks;
  }

  test.each(Object.entries(MANGLES))('one that %s', async (_, mangle) => {
    const root = 'broken';
    const line = `/${root}/key`;
    await (await manager(root).acquire('key')).release();
    const mangled = relay.mangleNext(mangle);
    const lease = await locks.acquire('key');
    await mangled;
    const nodes = await looker.children(line);
    expect(nodes).toHaveLength(1);
    const stat = await looker.stat(`${line}/${nodes[0]}`);
    expect(lease.token / 4_096n).toBe(stat?.czxid.readBigInt64BE());
    const again = relay.mangleNext(mangle);
    const released = lease.release();
    await again;
    await released;
    expect(await looker.children(line)).toEqual([]);
  });

  test('those that come byte by byte', async () => {
    relay.piecewise = true;
    manager('pieces');
    const leases = await Promise.all(['a', 'b', 'c'].map((key) => locks.acquire(key)));
    for (const lease of leases) lease.assertHeld();
    await Promise.all(leases.map((lease) => lease.release()));
    expect(await looker.children('/pieces/a')).toEqual([]);
  });

  test('one with a code that no client knows, such as that of a quota', async () => {
    manager('full');
    await (await locks.acquire('key')).release();
    const quota = '/zookeeper/quota/full';
    await make(looker, quota, '');
    await make(looker, `${quota}/zookeeper_stats`, 'count=1,bytes=0');
    await make(
      looker,
      `${quota}/zookeeper_limits`,
      'count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=1',
    );
    // One attempt, which ends with its answer: a wait could be over before there was any.
    const refused = locks.acquire('key', { waitMs: 0 });
    await expect(refused).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    const { cause } = (await refused.catch((error: unknown) => error)) as StoreUnavailableError;
    expect(cause).toMatchObject({ code: QUOTA_EXCEEDED });
    await looker.remove(`${quota}/zookeeper_limits`);
    await (await locks.acquire('key')).release();
  });
});

/** A way to the server on which single answers are not what the server said. */
class Relay {
  readonly port: number;
  /** Each byte of an answer by itself. */
  piecewise = false;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #next: { readonly mangle: Mangle; readonly done: () => void } | null = null;

  private constructor(server: Server, target: number) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    server.on('connection', (socket) => this.#link(socket, connect(target, '127.0.0.1')));
  }

  static async start(target: number): Promise<Relay> {
    const server = createServer({ noDelay: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Relay(server, target);
  }

  /** The next answer to a request. Resolves when it is on its way. */
  mangleNext(mangle: Mangle): Promise<void> {
    return new Promise((done) => {
      this.#next = { mangle, done };
    });
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }

  #link(client: Socket, onward: Socket): void {
    for (const [one, other] of [
      [client, onward],
      [onward, client],
    ] as const) {
      this.#sockets.add(one);
      one.on('error', () => {});
      one.on('close', () => {
        this.#sockets.delete(one);
        other.destroy();
      });
    }
    client.pipe(onward);
    let rest = Buffer.alloc(0);
    let isGreeted = false;
    let sent: Promise<void> = Promise.resolve();
    onward.on('data', (bytes: Buffer) => {
      rest = Buffer.concat([rest, bytes]);
      while (rest.length >= 4 && rest.length >= 4 + rest.readInt32BE()) {
        const end = 4 + rest.readInt32BE();
        const frame = Buffer.from(rest.subarray(0, end));
        rest = rest.subarray(end);
        const out = isGreeted ? this.#mangled(frame) : frame;
        isGreeted = true;
        sent = sent.then(() => this.#send(client, out));
      }
    });
  }

  /** Pings and watches have numbers below zero. */
  #mangled(frame: Buffer): Buffer {
    if (this.#next === null || frame.readInt32BE(4) < 0) return frame;
    const { mangle, done } = this.#next;
    this.#next = null;
    done();
    return mangle(frame);
  }

  async #send(to: Socket, bytes: Buffer): Promise<void> {
    if (!this.piecewise) {
      to.write(bytes);
      return;
    }
    for (const byte of bytes) {
      to.write(Buffer.of(byte));
      await setImmediate();
    }
  }
}

function withInt(frame: Buffer, at: number, value: number): Buffer {
  frame.writeInt32BE(value, at);
  return frame;
}

function withLength(frame: Buffer): Buffer {
  return withInt(frame, 0, frame.length - 4);
}

async function make({ client }: NodeClient, path: string, data: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    client.create(path, Buffer.from(data), PERSISTENT, (error) =>
      error ? reject(error) : resolve(),
    );
  });
}

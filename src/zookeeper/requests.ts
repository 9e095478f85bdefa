/**
 * Requests as ZooKeeper reads them (jute encoding), for what `node-zookeeper-client` does not know, and for all else that
 * the store asks for.
 *
 * The client decodes an answer by the type that the request says it has. `CREATE2` and `CREATE_CONTAINER` are answered with
 * a text and a stat, `SYNC` with a text: on the wire the same as the answers to `GET_DATA` and `CREATE`, which the client
 * can read.
 */
import type { ZooKeeperAuth } from './options.ts';

/** Types of operations. */
const CREATE = 1;
const DELETE = 2;
const EXISTS = 3;
const GET_DATA = 4;
const SET_DATA = 5;
const SYNC = 9;
const PING = 11;
const GET_CHILDREN2 = 12;
const CHECK = 13;
const MULTI = 14;
const CREATE2 = 15;
const CREATE_CONTAINER = 19;

const PERSISTENT = 0;
const EPHEMERAL_SEQUENTIAL = 3;
const CONTAINER = 4;
const ANY_VERSION = -1;
const ALL_RIGHTS = 31;
const PING_XID = -2;

/** What the client queues, sends and matches with an answer. */
export interface Request {
  /** The client writes the number of the request into it, and decodes the answer by its type. */
  readonly header: { readonly type: number; xid: number };
  readonly payload: null;
  /** When it was handed to the client, by the monotonic clock, in milliseconds. */
  readonly sentAtMs: number;
  toBuffer(): Buffer;
}

/** Stats as the client decodes them: long numbers are 8 bytes. */
export interface RawStat {
  readonly czxid: Buffer;
  readonly ephemeralOwner: Buffer;
  readonly cversion: number;
  readonly numChildren: number;
}

/** Writes one value after the other. */
class Writer {
  #buffer = Buffer.allocUnsafe(256);
  #length = 0;

  int(value: number): this {
    this.#reserve(4);
    this.#length = this.#buffer.writeInt32BE(value, this.#length);
    return this;
  }

  flag(value: boolean): this {
    this.#reserve(1);
    this.#length = this.#buffer.writeUInt8(value ? 1 : 0, this.#length);
    return this;
  }

  text(value: string): this {
    const size = Buffer.byteLength(value);
    this.int(size);
    this.#reserve(size);
    this.#length += this.#buffer.write(value, this.#length);
    return this;
  }

  /** The frame: its length, and what was written after the first four bytes. */
  frame(): Buffer {
    this.#buffer.writeInt32BE(this.#length - 4, 0);
    return this.#buffer.subarray(0, this.#length);
  }

  #reserve(size: number): void {
    if (this.#length + size <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(2 * (this.#length + size));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }
}

type Write = (writer: Writer) => unknown;

function request(type: number, write: Write, answeredLike: number = type): Request {
  const header = { type: answeredLike, xid: type === PING ? PING_XID : 0 };
  return {
    header,
    payload: null,
    sentAtMs: performance.now(),
    toBuffer() {
      const writer = new Writer().int(0).int(header.xid).int(type);
      write(writer);
      return writer.frame();
    },
  };
}

export const ping = (): Request => request(PING, () => {});

/** Answered once the server has all that the leader had committed. */
export const sync = (path: string): Request => request(SYNC, (to) => to.text(path), CREATE);

export const remove = (path: string): Request => request(DELETE, deletion(path));

export const exists = (path: string): Request => request(EXISTS, (to) => to.text(path).flag(false));

/** Watches the node: the watch tells of its data and of its end, and is only set when the node exists. */
export const watch = (path: string): Request => request(GET_DATA, (to) => to.text(path).flag(true));

export const touch = (path: string): Request =>
  request(SET_DATA, (to) => to.text(path).text('').int(ANY_VERSION));

export const children = (path: string, isWatched = false): Request =>
  request(GET_CHILDREN2, (to) => to.text(path).flag(isWatched));

/** The answer has the stat of the new node: its czxid. */
export const enter = (path: string, auth: ZooKeeperAuth | null): Request =>
  request(CREATE2, creation(path, EPHEMERAL_SEQUENTIAL, auth), GET_DATA);

/** The servers remove a container by themselves once it is empty. */
export const container = (path: string, auth: ZooKeeperAuth | null): Request =>
  request(CREATE_CONTAINER, creation(path, CONTAINER, auth), GET_DATA);

export const persistent = (path: string, auth: ZooKeeperAuth | null): Request =>
  request(CREATE, creation(path, PERSISTENT, auth));

/** Fails unless all of these nodes exist. A transaction: answered through the leader, by a quorum. */
export const checkAll = (paths: readonly string[]): Request =>
  multi(paths.map((path) => [CHECK, (to) => to.text(path).int(ANY_VERSION)]));

/** Leaves the queue and enters it again, in one transaction. */
export const reenter = (from: string, to: string, auth: ZooKeeperAuth | null): Request =>
  multi([
    [DELETE, deletion(from)],
    [CREATE, creation(to, EPHEMERAL_SEQUENTIAL, auth)],
  ]);

function multi(operations: readonly (readonly [type: number, write: Write])[]): Request {
  return request(MULTI, (to) => {
    for (const [type, write] of operations) {
      to.int(type).flag(false).int(-1);
      write(to);
    }
    to.int(-1).flag(true).int(-1);
  });
}

function deletion(path: string): Write {
  return (to) => to.text(path).int(ANY_VERSION);
}

function creation(path: string, flags: number, auth: ZooKeeperAuth | null): Write {
  return (to) => {
    to.text(path).text('').int(1).int(ALL_RIGHTS);
    // The scheme `auth` stands for whoever makes the node.
    if (auth === null) to.text('world').text('anyone');
    else to.text('auth').text('');
    to.int(flags);
  };
}

/**
 * What the store asks for, and how the answers are read.
 *
 * The requests are written here, since the client does not know all of them: containers, `sync`,
 * and a creation that is answered with the stat of the new node. Their answers are read here, since
 * only a few of their values are needed: the client makes an object of each answer, with a buffer
 * for each long number.
 */
import type { ZooKeeperAuth } from './options.ts';
import type { Reader, Writer } from './wire.ts';

/** Types of operations. */
const ERROR = -1;
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

export interface Request<Answer = unknown> {
  /** Of the operation. */
  readonly type: number;
  /** What follows the header of the request. */
  readonly write: (to: Writer) => unknown;
  /** What follows the header of the answer. */
  readonly read: (from: Reader) => Answer;
}

/** A node: the transaction that made it, the session that it ends with, and its children. */
export interface Stat {
  readonly czxid: bigint;
  readonly ephemeralOwner: bigint;
  /** Changes of its children: they came, or went. */
  readonly cversion: number;
  readonly numChildren: number;
}

type Write = Request['write'];

function request<Answer>(
  type: number,
  write: Write,
  read: (from: Reader) => Answer,
): Request<Answer> {
  return { type, write, read };
}

/** Whatever it says, that it was answered is enough. */
const nothing = (): void => {};

/**
 * Of 68 bytes: czxid, mzxid, ctime, mtime, version, cversion, aversion, ephemeralOwner, dataLength,
 * numChildren, pzxid.
 */
function stat(from: Reader): Stat {
  const czxid = from.long();
  const cversion = from.skip(28).int();
  const ephemeralOwner = from.skip(4).long();
  const numChildren = from.skip(4).int();
  from.skip(8);
  return { czxid, ephemeralOwner, cversion, numChildren };
}

export const ping = (): Request => request(PING, nothing, nothing);

/** Answered once the server has all that the leader had committed. */
export const sync = (path: string): Request => request(SYNC, (to) => to.text(path), nothing);

export const remove = (path: string): Request => request(DELETE, deletion(path), nothing);

export const exists = (path: string): Request<Stat> =>
  request(EXISTS, (to) => to.text(path).flag(false), stat);

/**
 * Watches the node: the watch tells of its data and of its end, and is only set when the node
 * exists.
 */
export const watch = (path: string): Request =>
  request(GET_DATA, (to) => to.text(path).flag(true), nothing);

export const touch = (path: string): Request =>
  request(SET_DATA, (to) => to.text(path).text('').int(ANY_VERSION), nothing);

export const children = (
  path: string,
  isWatched = false,
): Request<{ readonly names: readonly string[]; readonly stat: Stat }> =>
  request(
    GET_CHILDREN2,
    (to) => to.text(path).flag(isWatched),
    (from) => ({ names: from.texts(), stat: stat(from) }),
  );

/** The answer has the stat of the new node: its czxid. */
export const enter = (
  path: string,
  auth: ZooKeeperAuth | null,
): Request<{ readonly path: string; readonly stat: Stat }> =>
  request(CREATE2, creation(path, EPHEMERAL_SEQUENTIAL, auth), (from) => ({
    path: from.text(),
    stat: stat(from),
  }));

/** The servers remove a container by themselves once it is empty. */
export const container = (path: string, auth: ZooKeeperAuth | null): Request =>
  request(CREATE_CONTAINER, creation(path, CONTAINER, auth), nothing);

export const persistent = (path: string, auth: ZooKeeperAuth | null): Request =>
  request(CREATE, creation(path, PERSISTENT, auth), nothing);

/** One operation of a transaction: the path that it made, or the code of an error. */
export interface Result {
  readonly path?: string;
  readonly code?: number;
}

/**
 * Fails unless all of these nodes exist. A transaction: answered through the leader, by a quorum.
 */
export const checkAll = (paths: readonly string[]): Request<Result[]> =>
  multi(paths.map((path) => [CHECK, (to) => to.text(path).int(ANY_VERSION)]));

/** Leaves the queue and enters it again, in one transaction. */
export const reenter = (from: string, to: string, auth: ZooKeeperAuth | null): Request<Result[]> =>
  multi([
    [DELETE, deletion(from)],
    [CREATE, creation(to, EPHEMERAL_SEQUENTIAL, auth)],
  ]);

function multi(operations: readonly (readonly [type: number, write: Write])[]): Request<Result[]> {
  const write: Write = (to) => {
    for (const [type, writeOne] of operations) {
      to.int(type).flag(false).int(-1);
      writeOne(to);
    }
    to.int(-1).flag(true).int(-1);
  };
  return request(MULTI, write, results);
}

function results(from: Reader): Result[] {
  const found: Result[] = [];
  for (;;) {
    const type = from.int();
    const isLast = from.flag();
    from.skip(4);
    if (isLast) return found;
    if (type === ERROR) found.push({ code: from.int() });
    else if (type === CREATE) found.push({ path: from.text() });
    else found.push({});
  }
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

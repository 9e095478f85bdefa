/**
 * The options of `zookeeper()`: their meaning, their defaults and their limits.
 */
import { InvalidArgumentError } from '../core/errors.ts';

export interface ZooKeeperAuth {
  /** `digest`, or another scheme that the servers know. */
  readonly scheme: string;
  /** For `digest`: `user:password`. */
  readonly credentials: string;
}

export interface ZooKeeperOptions {
  /** The servers: `host:port,host:port`. The port is 2181 unless it is given. */
  readonly connect: string;
  /** The node under which all locks are; it is made when it is missing. Default `/leasehold`. */
  readonly root?: string;
  /**
   * The time-out of the session, in milliseconds. By default each `ttlMs` in use has a session of
   * its own, two ticks longer, so that the locks of a dead process are free as soon as they may be.
   * With this option there is one session, for every `ttlMs` that is two ticks shorter.
   */
  readonly sessionTimeoutMs?: number;
  /**
   * Who the store is. The nodes that it makes can then be changed by the same identity alone.
   * Default: anyone.
   */
  readonly auth?: ZooKeeperAuth;
  /**
   * How long one request may take, in milliseconds, before it counts as unanswered and the next
   * server is tried. Default 2,000.
   */
  readonly requestTimeoutMs?: number;
}

export interface Server {
  readonly host: string;
  readonly port: number;
}

export interface Settings {
  readonly servers: readonly Server[];
  readonly root: string;
  readonly sessionTimeoutMs: number | null;
  readonly auth: ZooKeeperAuth | null;
  readonly requestTimeoutMs: number;
}

const DEFAULT_PORT = 2181;
const MAX_PORT = 65_535;
const DEFAULT_ROOT = '/leasehold';
const MAX_TIMEOUT_MS = 600_000;
const URL_FORM = 'zookeeper://[user:password@]host:port,host:port[/root]';
const URL_PARTS = /^zookeeper:\/\/(?:([^@/]*)@)?([^@/?#]+)(\/[^@?#]*)?$/;

/** Throws `InvalidArgumentError` for what cannot be right. */
export function readOptions(from: string | ZooKeeperOptions): Settings {
  const options = typeof from === 'string' ? readUrl(from) : from;
  if (typeof options?.connect !== 'string' || options.connect === '') {
    throw new InvalidArgumentError(`zookeeper() needs a URL (${URL_FORM}), or { connect }`);
  }
  const { connect, root = DEFAULT_ROOT, auth = null, requestTimeoutMs = 2_000 } = options;
  const { sessionTimeoutMs = null } = options;
  checkRoot(root);
  if (auth !== null && !(isText(auth.scheme) && isText(auth.credentials))) {
    throw new InvalidArgumentError('auth is { scheme, credentials }, both of them text');
  }
  if (sessionTimeoutMs !== null) checkMs('sessionTimeoutMs', sessionTimeoutMs);
  checkMs('requestTimeoutMs', requestTimeoutMs);
  return { servers: readServers(connect), root, sessionTimeoutMs, auth, requestTimeoutMs };
}

function readUrl(url: string): ZooKeeperOptions {
  const parts = URL_PARTS.exec(url);
  if (!parts) {
    throw new InvalidArgumentError(`a ZooKeeper URL is ${URL_FORM}; write / and @ as %2F and %40`);
  }
  const [, login = '', connect = '', path = '/'] = parts;
  const root = path.replace(/\/$/, '');
  const credentials = login.split(':').map(decode).join(':');
  return {
    connect,
    ...(root !== '' && { root: decode(root) }),
    ...(login !== '' && { auth: { scheme: 'digest', credentials } }),
  };
}

/** No error may repeat the URL: there is a password in it. */
function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new InvalidArgumentError(
      'a ZooKeeper URL has a % that begins no character: write a % of its own as %25',
    );
  }
}

function readServers(connect: string): Server[] {
  return connect.split(',').map((address, index) => {
    const parts = /^(?:\[([^\]]+)\]|([^:/[\]\s]+))(?::(\d{1,5}))?$/.exec(address.trim());
    if (!parts) {
      throw new InvalidArgumentError(
        'connect is host:port,host:port (a path goes into root, who you are into auth), ' +
          `and server ${index + 1} is none`,
      );
    }
    const [, ipv6, name, port = DEFAULT_PORT] = parts;
    if (Number(port) < 1 || Number(port) > MAX_PORT) {
      throw new InvalidArgumentError(`a port is a number from 1 to ${MAX_PORT}, not ${port}`);
    }
    return { host: (ipv6 ?? name) as string, port: Number(port) };
  });
}

/** The root is a path of its own, since `/zookeeper` is taken and `/` has no name. */
function checkRoot(root: unknown): void {
  const isPath =
    typeof root === 'string' && /^(\/[^/\p{Cc}\p{Cs}\p{Co}\ufff0-\uffff]+)+$/u.test(root);
  if (isPath && root.length <= 512 && !/\/\.{1,2}(\/|$)|^\/zookeeper(\/|$)/.test(root)) return;
  throw new InvalidArgumentError(
    'root is the path of a node, such as /leasehold, not / or /zookeeper',
  );
}

function checkMs(name: string, value: unknown): void {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MAX_TIMEOUT_MS)
    return;
  throw new InvalidArgumentError(`${name} is a whole number from 1 to ${MAX_TIMEOUT_MS}`);
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && value !== '';
}

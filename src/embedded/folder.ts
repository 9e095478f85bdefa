/**
 * The folder of an embedded store: what may be one, and what is in it.
 *
 * - `leases-<boot>/`: the LMDB environment of the leases. It is never synced to the disk, since no lease outlives the
 *   machine's boot; that of another boot is discarded unread, for it may be torn.
 * - `records/`: the LMDB environment of messages and whatever else outlives the machine's boot. Each commit is synced.
 * - `sockets/`: one socket for each open store, named by its channel.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

export interface StoreFolder {
  /** The folder of the LMDB environment. */
  readonly leasesPath: string;
  /** Whether the environment must survive a crash of the machine: when the boot cannot be told. */
  readonly synced: boolean;
  /** Where sockets are, or what the names of pipes begin with. */
  readonly sockets: SocketPlace;
}

export interface SocketPlace {
  /** A folder to list and to clean; `null` for named pipes, which vanish with their process. */
  readonly folder: string | null;
  /** Makes the folder where it is missing. */
  make(): void;
  /** Removes what is not part of the store's folder, when nobody uses it any more. */
  tidy(): void;
  addressOf(channel: string): string;
}

const LEASES = 'leases-';
/** For a system that does not name its boots. */
const ANY_BOOT = 'any-boot';

export interface RecordsFolder {
  /** The folder of the LMDB environment. */
  readonly recordsPath: string;
  readonly sockets: SocketPlace;
}

/** Makes the folder, for this user alone, when it is not there, with a place for records in it. */
export function prepareRecords(path: string): RecordsFolder {
  return inFolder(path, (folder) => {
    const recordsPath = join(folder, 'records');
    mkdirSync(recordsPath, { recursive: true, mode: 0o700 });
    const sockets = socketPlace(folder);
    sockets.make();
    return { recordsPath, sockets };
  });
}

/** Makes the folder, for this user alone, when it is not there; discards what an earlier boot left in it. */
export function prepareFolder(path: string): StoreFolder {
  return inFolder(path, (folder) => {
    const boot = readBoot();
    const leases = LEASES + (boot ?? ANY_BOOT);
    for (const name of readdirSync(folder)) {
      if (name.startsWith(LEASES) && name !== leases) {
        rmSync(join(folder, name), { recursive: true, force: true });
      }
    }
    mkdirSync(join(folder, leases), { recursive: true, mode: 0o700 });
    const sockets = socketPlace(folder);
    sockets.make();
    return { leasesPath: join(folder, leases), synced: boot === null, sockets };
  });
}

function inFolder<Place>(path: string, prepare: (folder: string) => Place): Place {
  const folder = resolve(path);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    refuseNetwork(folder);
    return prepare(folder);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`the embedded store cannot use the folder '${folder}': ${reason}`, {
      cause: error,
    });
  }
}

/**
 * What names this boot of the machine, or `null` on systems where nothing does. Where there is a name it must be read:
 * two processes that name one boot differently would not see each other's leases.
 */
function readBoot(): string | null {
  if (process.platform === 'linux') {
    return checkBoot(readFileSync('/proc/sys/kernel/random/boot_id', 'utf8'));
  }
  if (process.platform === 'darwin') {
    return checkBoot(execFileSync('sysctl', ['-n', 'kern.bootsessionuuid'], { encoding: 'utf8' }));
  }
  return null;
}

function checkBoot(text: string): string {
  const boot = text.trim().toLowerCase();
  if (/^[0-9a-f-]{8,64}$/.test(boot)) return boot;
  throw new Error(`'${boot}' does not name a boot of the machine`);
}

/**
 * File systems that several machines, or several kernels, may share: memory maps and robust locks do not hold there.
 * By the numbers of Linux's statfs(2).
 */
const NETWORK_FILE_SYSTEMS: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xfe534d42, 'SMB2'],
  [0xff534d42, 'CIFS'],
  [0x01021997, '9P'],
  [0x00c36400, 'Ceph'],
  [0x65735546, 'FUSE or virtiofs'],
  [0x5346414f, 'AFS'],
  [0x6b414653, 'AFS'],
  [0x73757245, 'Coda'],
  [0x564c, 'NCP'],
  [0x01161970, 'GFS2'],
  [0x7461636f, 'OCFS2'],
  [0x0bd00bd0, 'Lustre'],
  [0x47504653, 'GPFS'],
  [0x19830326, 'BeeGFS'],
  [0x786f4256, 'a VirtualBox shared folder'],
  [0xbacbacbc, 'a VMware shared folder'],
]);

/** The name of a file system that is not of this machine alone, by its statfs type; `null` for all others. */
export function networkFileSystem(type: number): string | null {
  // The kernel's number may come back with its sign bit extended.
  return NETWORK_FILE_SYSTEMS.get(type >>> 0) ?? null;
}

function refuseNetwork(folder: string): void {
  if (process.platform !== 'linux') return;
  const name = networkFileSystem(statfsSync(folder).type);
  if (name === null) return;
  throw new Error(
    `it is on ${name}; locks of one machine need a file system of that machine alone, such as ext4, xfs, btrfs or tmpfs`,
  );
}

/** The system's limit for a socket's address, in bytes: 108 on Linux, 104 elsewhere, the closing zero included. */
const MAX_ADDRESS_BYTES = 103;
/** No channel is longer than this. */
export const MAX_CHANNEL_LENGTH = 40;

function socketPlace(folder: string): SocketPlace {
  const { dev, ino } = statSync(folder);
  const id = createHash('sha256').update(`${dev}:${ino}`).digest('hex').slice(0, 16);
  const nothing = (): void => undefined;
  if (process.platform === 'win32') {
    const addressOf = (channel: string): string => `\\\\.\\pipe\\leasehold-${id}-${channel}`;
    return { folder: null, make: nothing, tidy: nothing, addressOf };
  }
  const inside = join(folder, 'sockets');
  const fits = Buffer.byteLength(inside) + 1 + MAX_CHANNEL_LENGTH <= MAX_ADDRESS_BYTES;
  const place = fits ? inside : join(tmpdir(), `leasehold-${id}`);
  return {
    folder: place,
    make() {
      mkdirSync(place, { recursive: true, mode: 0o700 });
      if (!fits) refuseForeign(place);
    },
    tidy: fits ? nothing : () => removeIfEmpty(place),
    addressOf: (channel) => join(place, channel),
  };
}

function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // Another store has its socket there.
  }
}

/** The temporary folder is everyone's: what lies there under our name may be somebody else's. */
function refuseForeign(place: string): void {
  const facts = lstatSync(place);
  const ours = facts.isDirectory() && facts.uid === process.getuid?.();
  if (ours && (facts.mode & 0o077) === 0) return;
  throw new Error(`'${place}' is open to other users, or belongs to one; use a shorter path`);
}

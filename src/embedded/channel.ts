/**
 * A channel names one open store on its machine: `pid-namespace-nonce`. Whoever reads it can tell, without asking
 * anybody, whether that process is known to be dead.
 */
import { randomBytes } from 'node:crypto';
import { readlinkSync } from 'node:fs';

const CHANNEL = /^(\d{1,10})-(\d{1,12})-[0-9a-f]{12}$/;

/** Process ids mean something only within one namespace: each container may have its own. 0 where there are none. */
const pidNamespace: string = readPidNamespace();

function readPidNamespace(): string {
  if (process.platform !== 'linux') return '0';
  try {
    return /\d{1,12}/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? 'unknown';
  } catch {
    return 'unknown';
  }
}

export function newChannel(): string {
  // An unknown namespace is one of its own: nobody's process ids are comparable with ours then.
  const namespace =
    pidNamespace === 'unknown' ? String(Math.floor(Math.random() * 1e12)) : pidNamespace;
  return `${process.pid}-${namespace}-${randomBytes(6).toString('hex')}`;
}

export function isChannel(text: string): boolean {
  return CHANNEL.test(text);
}

/** Whether its process id means a process that this one could see. */
export function isComparable(channel: string): boolean {
  return CHANNEL.exec(channel)?.[2] === pidNamespace;
}

/** True only when the process is certainly gone; another one that got its number makes it look alive. */
export function isKnownDead(channel: string): boolean {
  if (!isComparable(channel)) return false;
  try {
    process.kill(Number.parseInt(channel, 10), 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

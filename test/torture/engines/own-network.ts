/**
 * A network of the run's own, in which packets between servers are dropped without touching those of anybody else.
 *
 * The command starts itself again in a new network namespace, which has nothing but a loopback device. There each server
 * speaks to others from an address of its own, 127.0.1.N, while all of them listen on 127.0.0.1, where clients and proxies
 * reach them. So a rule can tell what a server sends to others from what it sends to clients.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import type { Way } from '../plan.ts';

/** Set in the process that runs in the namespace. */
const MARK = 'LEASEHOLD_OWN_NETWORK';
const TABLE = 'leasehold_cuts';
/** In the shell of the namespace: everything after it is the command. */
const ENTER = 'ip link set lo up && nft list tables >/dev/null && exec "$0" "$@"';
const NO_NETWORK = 90;

export function hasOwnNetwork(): boolean {
  return process.env[MARK] !== undefined;
}

/** Runs this program once more, in a network of its own; `null` when that cannot be made here. */
export async function inOwnNetwork(): Promise<number | null> {
  const test = ['--net', 'sh', '-c', ENTER, 'true'];
  if (spawnSync('unshare', test, { stdio: 'ignore' }).status !== 0) return null;
  const command = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const child = spawn('unshare', ['--net', 'sh', '-c', ENTER, ...command], {
    stdio: 'inherit',
    env: { ...process.env, [MARK]: '1' },
  });
  const [code] = (await once(child, 'exit')) as [number | null];
  return code ?? NO_NETWORK;
}

/** The links between the servers of one engine, in such a network. */
export class Links {
  #next = 1;

  /** Arguments of a Redis server that is started next. Servers come first, and Sentinels after them. */
  readonly sourceOf = (): string[] => {
    const source = this.#addressOf(this.#next - 1);
    this.#next += 1;
    // Protected servers take 127.0.0.1 alone for local.
    return ['--bind-source-addr', source, '--protected-mode', 'no'];
  };

  /** Drops what the server sends to others (`requests`), what they send to it (`replies`), or both. */
  cutOff(index: number, ports: readonly number[], way: Way): () => void {
    const own = this.#addressOf(index);
    const some = `{ ${ports.join(', ')} }`;
    const sent = [`ip saddr ${own} drop`, `ip daddr 127.0.1.0/24 tcp sport ${some} drop`];
    const received = [`ip daddr ${own} drop`, `ip saddr 127.0.1.0/24 tcp dport ${some} drop`];
    const rules = [...(way === 'replies' ? [] : sent), ...(way === 'requests' ? [] : received)];
    const chain = ['type filter hook output priority 0;', ...rules].join('\n');
    nft(`table ip ${TABLE} {\nchain between {\n${chain}\n}\n}\n`);
    return () => nft(`delete table ip ${TABLE}\n`);
  }

  #addressOf(index: number): string {
    return `127.0.1.${index + 1}`;
  }
}

function nft(commands: string): void {
  const { status, stderr } = spawnSync('nft', ['-f', '-'], { input: commands });
  if (status !== 0) throw new Error(`nft: ${stderr}`);
}

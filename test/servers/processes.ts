/**
 * Child processes and ports for servers that tests start. Whatever a test forgets to end is ended with the test process.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';

/** All below the range from which the system takes ports for outgoing connections. */
const FIRST_PORT = 20_000;
/** Of servers that need another port 10,000 above, as the bus of a cluster does; the others lie between the two. */
const LAST_PAIRED_PORT = 22_700;
const LAST_PORT = 29_999;
const MAX_PORTS_TRIED = 200;
const READY_POLL_MS = 5;
const READY_TIMEOUT_MS = 60_000;
/** Whoever was told to end, and has not after this time, is killed. */
const MAX_END_MS = 15_000;
const LATE = Symbol('late');

/** Linux ends the child with this process, however that ends: a killed test runner must leave no server behind. */
const SETPRIV = '/usr/bin/setpriv';
const ENDS_WITH_US = existsSync(SETPRIV) ? [SETPRIV, '--pdeathsig', 'KILL', '--'] : [];

const running = new Set<ChildProcess>();
const folders = new Set<string>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

export class Server {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;

  constructor(
    name: string,
    command: string,
    args: readonly string[],
    folder: string,
    env: Readonly<Record<string, string | undefined>> = process.env,
  ) {
    this.name = name;
    const [program = command, ...rest] = [...ENDS_WITH_US, command, ...args];
    this.#child = spawn(program, rest, { cwd: folder, stdio: 'ignore', env });
    running.add(this.#child);
    this.#exited = once(this.#child, 'exit').finally(() => running.delete(this.#child));
    this.#exited.catch(() => {});
  }

  get isRunning(): boolean {
    return running.has(this.#child);
  }

  /** Stops the process as it stands: its connections stay open and nothing answers. */
  pause(): void {
    this.#child.kill('SIGSTOP');
  }

  resume(): void {
    this.#child.kill('SIGCONT');
  }

  async end(signal: 'SIGTERM' | 'SIGKILL' = 'SIGKILL'): Promise<void> {
    if (!this.isRunning) return;
    // A stopped process does not see a SIGTERM.
    if (signal === 'SIGTERM') this.#child.kill('SIGCONT');
    this.#child.kill(signal);
    if (signal === 'SIGTERM') {
      // Some take back that they end in order: Redis does when its replicas do not follow.
      const isLate = await Promise.race([
        this.#exited,
        setTimeout(MAX_END_MS, LATE, { ref: false }),
      ]);
      if (isLate === LATE) this.#child.kill('SIGKILL');
    }
    await this.#exited;
  }
}

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'leasehold-'));
  folders.add(folder);
  return folder;
}

/** Tried again for a while: what a killed server had begun to write may still arrive. */
export function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
  folders.delete(folder);
}

/** A port that nobody listens on, and neither on the one that many above it. */
export async function freePort(alsoAbove = 0): Promise<number> {
  for (let tried = 0; tried < MAX_PORTS_TRIED; tried += 1) {
    const [from, to] =
      alsoAbove === 0 ? [LAST_PAIRED_PORT, LAST_PORT] : [FIRST_PORT, LAST_PAIRED_PORT];
    const port = from + Math.floor(Math.random() * (to - from));
    if ((await isFree(port)) && (alsoAbove === 0 || (await isFree(port + alsoAbove)))) return port;
  }
  throw new Error('no free port was found');
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

/** Waits until the condition holds. Errors count as "not yet"; the last one is the cause when it never does. */
export async function until(
  what: string,
  isTrue: () => boolean | Promise<boolean>,
  timeoutMs: number = READY_TIMEOUT_MS,
): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  let cause: unknown;
  while (performance.now() < deadlineMs) {
    try {
      if (await isTrue()) return;
    } catch (error) {
      cause = error;
    }
    await setTimeout(READY_POLL_MS);
  }
  throw new Error(`waited in vain until ${what}`, { cause });
}

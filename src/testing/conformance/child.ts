/**
 * The program that the suite runs as another process: a manager on a store of the world, which does what it is told
 * over the channel to its parent. It ends by itself when it was told to close, and when its parent is gone.
 */
import { readFile, writeFile } from 'node:fs/promises';
import type { Lease } from '../../core/lease.ts';
import { LockManager } from '../../core/manager.ts';
import type { LeaseStore } from '../../core/store.ts';
import type { ChildCommands, ChildReply, ChildRequest, ChildStart } from './child-protocol.ts';
import { FaultyStore } from './faulty-store.ts';

const POLL_MS = 1;

function commandsOf(store: FaultyStore, locks: LockManager): ChildCommands {
  const leases = new Map<string, Lease>();
  const leaseOf = (name: string): Lease => {
    const lease = leases.get(name);
    if (!lease) throw new Error(`there is no lease called ${name} here`);
    return lease;
  };
  return {
    async acquire(name, key, options) {
      const lease = await locks.acquire(key, options);
      // Made at once, so that its abort can be seen later.
      void lease.signal;
      leases.set(name, lease);
      return lease.tokenText;
    },
    async release(name) {
      await leaseOf(name).release();
      return null;
    },
    async report(name) {
      const lease = leaseOf(name);
      const isHeld = passes(() => lease.assertHeld());
      return { state: lease.state, isHeld, isAborted: lease.signal.aborted };
    },
    async queued(key) {
      const before = store.answered('waiting', key);
      while (store.answered('waiting', key) === before) {
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
      return null;
    },
    async increment(key, file, { tasks, rounds }) {
      const tokens: string[] = [];
      const work = async (): Promise<void> => {
        for (let round = 0; round < rounds; round += 1) {
          await locks.withLock(key, async (lease) => {
            tokens.push(lease.tokenText);
            await incrementFile(file);
          });
        }
      };
      await Promise.all(Array.from({ length: tasks }, work));
      return tokens;
    },
    async close() {
      await locks.close();
      return null;
    },
  };
}

/** Reads, adds one and writes, with time for others to come between. */
async function incrementFile(file: string): Promise<void> {
  const count = Number(await readFile(file, 'utf8'));
  await writeFile(file, String(count + 1));
}

function passes(check: () => void): boolean {
  try {
    check();
    return true;
  } catch {
    return false;
  }
}

async function answer(commands: ChildCommands, request: ChildRequest): Promise<ChildReply> {
  try {
    const command = commands[request.command] as (...args: unknown[]) => Promise<unknown>;
    return { id: request.id, value: await command(...request.args) };
  } catch (error) {
    const { name, message } = error as Error;
    return { id: request.id, error: { name, message } };
  }
}

function send(reply: ChildReply): Promise<void> {
  return new Promise((resolve) => {
    process.send?.(reply, () => resolve());
  });
}

async function start({ store: from, options }: ChildStart): Promise<void> {
  const made = (await import(from.module)) as Record<string, (options: unknown) => LeaseStore>;
  const factory = made[from.factory];
  if (!factory) throw new Error(`${from.module} does not export ${from.factory}`);
  const store = new FaultyStore(factory(from.options));
  const locks = new LockManager({ ...options, store });
  const commands = commandsOf(store, locks);
  const orphaned = (): never => process.exit(1);
  const obey = async (request: ChildRequest): Promise<void> => {
    await send(await answer(commands, request));
    if (request.command !== 'close') return;
    process.off('disconnect', orphaned);
    process.disconnect();
  };
  process.on('disconnect', orphaned);
  process.on('message', (request: ChildRequest) => void obey(request));
  await send({ id: 'ready' });
}

// A failure ends the process, and its parent reads the reason from its error output.
process.once('message', (message: ChildStart) => void start(message));

/**
 * The caller's side of the records: one thread for each folder, which all its users in this process share.
 */
import { resolve } from 'node:path';
import { InvalidArgumentError } from '../../core/errors.ts';
import { MAX_DELAY_MS } from '../../core/options.ts';
import { EngineClient } from '../engine-client.ts';
import type { PartCall } from './engine.ts';

export interface RecordsOptions {
  /** A folder on a file system of this machine, not a shared one. It may be that of the lease store. */
  readonly path: string;
  /** How long calls wait while nothing at all is answered, in milliseconds. Then they are not known, done or not. Default 5,000. */
  readonly requestTimeoutMs?: number;
  /** How long opening the folder may take, in milliseconds. Default 10,000. */
  readonly openTimeoutMs?: number;
}

export interface RecordsSettings {
  readonly path: string;
  readonly requestTimeoutMs: number;
  readonly openTimeoutMs: number;
}

/** Longer than for leases: each commit waits for the disk. */
const REQUEST_TIMEOUT_MS = 5_000;
const OPEN_TIMEOUT_MS = 10_000;

/** @throws InvalidArgumentError when one cannot be right. */
export function readRecordsOptions(options: RecordsOptions): RecordsSettings {
  if (typeof options !== 'object' || options === null) {
    throw new InvalidArgumentError('give an object with a path');
  }
  const { path, requestTimeoutMs, openTimeoutMs } = options;
  if (typeof path !== 'string' || path === '' || path.includes('\0')) {
    throw new InvalidArgumentError('path is the name of a folder, as text');
  }
  return {
    path: resolve(path),
    requestTimeoutMs: readMs('requestTimeoutMs', requestTimeoutMs, REQUEST_TIMEOUT_MS),
    openTimeoutMs: readMs('openTimeoutMs', openTimeoutMs, OPEN_TIMEOUT_MS),
  };
}

/** One open thread, and who uses it. */
interface Shared {
  readonly client: EngineClient<PartCall, unknown>;
  readonly opened: Promise<void>;
  readonly listeners: Set<(key: string) => void>;
  users: number;
}

const open = new Map<string, Shared>();

/** One user's hold on the records of a folder. */
export class RecordsUser {
  readonly #shared: Shared;
  readonly #name: string;
  readonly #onChange: (key: string) => void;
  #isOpen = true;

  private constructor(shared: Shared, name: string, onChange: (key: string) => void) {
    this.#shared = shared;
    this.#name = name;
    this.#onChange = onChange;
    shared.listeners.add(onChange);
  }

  /** `onChange` is told what others have told this process about; it may miss some of it. */
  static async open(
    settings: RecordsSettings,
    onChange: (key: string) => void = () => undefined,
  ): Promise<RecordsUser> {
    const name = `${settings.path}\0${settings.requestTimeoutMs}`;
    const shared = open.get(name) ?? start(name, settings);
    shared.users += 1;
    const user = new RecordsUser(shared, name, onChange);
    try {
      await shared.opened;
      return user;
    } catch (error) {
      await user.close();
      throw error;
    }
  }

  /** Rejects when the outcome is unknown: the call may be done or not, or yet be done. */
  async call<Answer>(part: string, call: unknown): Promise<Answer> {
    if (!this.#isOpen) throw new Error('the records were closed');
    return (await this.#shared.client.call({ part, call })) as Answer;
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    const shared = this.#shared;
    shared.listeners.delete(this.#onChange);
    shared.users -= 1;
    if (shared.users > 0) return;
    if (open.get(this.#name) === shared) open.delete(this.#name);
    await shared.client.close();
  }
}

function start(name: string, settings: RecordsSettings): Shared {
  const listeners = new Set<(key: string) => void>();
  const client = new EngineClient<PartCall, unknown>({
    // As it is called once it is compiled: specifiers in text are not rewritten.
    thread: new URL('./thread.js', import.meta.url),
    path: settings.path,
    timeoutMs: settings.requestTimeoutMs,
    isGrouped: true,
    on(event) {
      if (event.is === 'available') for (const listener of [...listeners]) listener(event.key);
    },
  });
  const opened = client.open(settings.openTimeoutMs);
  // Each user awaits it, and hears why it failed.
  opened.catch(() => open.delete(name));
  const shared = { client, opened, listeners, users: 0 };
  open.set(name, shared);
  return shared;
}

function readMs(name: string, value: number | undefined, fallback: number): number {
  if (value === undefined) return fallback;
  if (Number.isInteger(value) && value >= 1 && value <= MAX_DELAY_MS) return value;
  throw new InvalidArgumentError(
    `${name} is a whole number from 1 to ${MAX_DELAY_MS}, not ${typeof value === 'number' ? value : typeof value}`,
  );
}

/**
 * One run of one case: a queue of its own, what the case opens on it, and the end of all that.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { DeadLetters, Delivery, Envelope, MessageSource } from '../../consumer/contracts.ts';
import type { Publisher } from '../../consumer/publication.ts';
import { actionOf } from '../conformance/fixture.ts';
import type { SourceFixture, SourceWorld } from './fixture.ts';

const POLL_MS = 5;

/** An open source, and all that it has delivered. */
export class Reader {
  readonly source: MessageSource;
  readonly deliveries: Delivery[] = [];
  readonly failures: Error[] = [];

  constructor(source: MessageSource) {
    this.source = source;
  }

  get ids(): (string | null)[] {
    return this.deliveries.map(({ envelope }) => envelope.id);
  }

  open(): Promise<void> {
    return this.source.open({
      delivered: (delivery) => void this.deliveries.push(delivery),
      failed: (error) => void this.failures.push(error),
    });
  }

  /** The last delivery of this message. */
  of(id: string): Delivery {
    const found = this.deliveries.findLast(({ envelope }) => envelope.id === id);
    assert(found, `'${id}' was not delivered`);
    return found;
  }
}

export class SourceTrial {
  /** How long anything that must happen may take, in milliseconds. Failing cases need it, passing ones do not. */
  readonly patienceMs: number;
  readonly #fixture: SourceFixture;
  readonly #world: SourceWorld;
  readonly #open: { close(): Promise<unknown> }[] = [];

  constructor(fixture: SourceFixture, world: SourceWorld, patienceMs: number) {
    this.#fixture = fixture;
    this.#world = world;
    this.patienceMs = patienceMs;
  }

  async reader(options?: { readonly prefetch?: number }): Promise<Reader> {
    const reader = new Reader(this.#keep(this.#world.source(options)));
    await this.settles('opening', reader.open());
    return reader;
  }

  publisher(): Publisher {
    return this.#keep(this.#world.publisher());
  }

  deadLetters(): DeadLetters {
    return this.#keep(this.#world.deadLetters());
  }

  /** Publishes messages with these ids, one after the other, so that their order is known. */
  async publish(...ids: readonly string[]): Promise<void> {
    const publisher = this.publisher();
    for (const id of ids) await publisher.publish({ id, content: `{"id":"${id}"}` });
  }

  cut(): Promise<void> {
    return actionOf(this.#fixture.hooks.cut)(this.#world);
  }

  restart(): Promise<void> {
    return actionOf(this.#fixture.hooks.restart)(this.#world);
  }

  /** Another process that takes so many messages, settles none, and is killed. */
  async takeAndDie(count: number): Promise<void> {
    const from = actionOf(this.#fixture.hooks.processes)(this.#world);
    const child = spawn(process.execPath, ['--input-type=module', '--eval', TAKER], {
      env: { ...process.env, LEASEHOLD_TAKE: JSON.stringify({ ...from, count }) },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#open.push({ close: () => kill(child) });
    const exited = once(child, 'exit').then(() => Promise.reject(new Error('it ended by itself')));
    exited.catch(() => undefined);
    const taken = once(child.stdout, 'data');
    await this.settles('the other process takes', Promise.race([taken, exited]));
    await kill(child);
  }

  async until(what: string, isTrue: () => boolean | Promise<boolean>): Promise<void> {
    const deadlineMs = performance.now() + this.patienceMs;
    while (!(await isTrue())) {
      assert(performance.now() < deadlineMs, `waited ${this.patienceMs} ms in vain: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  /** Waits until a reader was delivered so many. */
  delivered(reader: Reader, count: number): Promise<void> {
    const what = (): string => `${count} deliveries; there were ${reader.ids.join(', ')}`;
    return this.until(what(), () => reader.deliveries.length >= count).catch((cause) => {
      throw new assert.AssertionError({ message: `${(cause as Error).message}: ${what()}` });
    });
  }

  async settles<Value>(what: string, promise: Promise<Value>): Promise<Value> {
    let timer: NodeJS.Timeout | undefined;
    const tooLate = new Promise<never>((_, reject) => {
      const message = `waited ${this.patienceMs} ms in vain: ${what} did not settle`;
      timer = setTimeout(() => reject(new assert.AssertionError({ message })), this.patienceMs);
    });
    try {
      return await Promise.race([promise, tooLate]);
    } finally {
      clearTimeout(timer);
    }
  }

  async close(): Promise<void> {
    for (const one of this.#open.reverse()) await this.settles('closing', one.close());
    await this.#world.close();
  }

  #keep<One extends { close(): Promise<unknown> }>(one: One): One {
    this.#open.push(one);
    return one;
  }
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

/** The program of a process that only takes: it says so once it has taken them all. */
const TAKER = `
  const { module, factory, options, count } = JSON.parse(process.env.LEASEHOLD_TAKE);
  const source = (await import(module))[factory](options);
  let taken = 0;
  const delivered = () => { taken += 1; if (taken === count) process.stdout.write('taken'); };
  await source.open({ delivered, failed(error) { throw error; } });
`;

/** What has to be the same over every copy of a message. */
export function essence(envelope: Envelope): object {
  const { id, content, contentType, headers, properties, publishedAtMs } = envelope;
  return { id, content: [...content], contentType, headers, properties, publishedAtMs };
}

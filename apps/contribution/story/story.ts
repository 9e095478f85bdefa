/** The story from the input to the last row: each way gets a fresh queue and fresh totals, and starts from nothing. */
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import type { StoryArguments } from '../arguments.ts';
import {
  add,
  type Contribution,
  encodeContribution,
  NOTHING,
  parseContribution,
  type Total,
} from '../contribution.ts';
import type { EngineNames } from '../engine-names.ts';
import { Engines } from '../engines.ts';
import { Crew } from './crew.ts';
import { splitLines } from './input.ts';
import { type Intake, takeIn } from './intake.ts';
import { Progress } from './progress.ts';
import { type Row, titleOf } from './report.ts';
import { judge } from './verdict.ts';
import type { Way } from './ways.ts';

/** How many messages are on their way to the queue at a time. */
const BATCH = 1_000;

export class Story {
  readonly #options: StoryArguments;
  readonly #folder: string;
  readonly #signal: AbortSignal;
  #accepted = 0;

  /** Files are made in the folder, which the caller removes. */
  constructor(options: StoryArguments, folder: string, signal: AbortSignal) {
    this.#options = options;
    this.#folder = folder;
    this.#signal = signal;
  }

  /** Reads the input, once for all ways. */
  async takeIn(source: AsyncIterable<Buffer>): Promise<Intake> {
    const file = createWriteStream(this.#list);
    const write = async (batch: readonly Contribution[]): Promise<void> => {
      this.#signal.throwIfAborted();
      this.#accepted += batch.length;
      const lines = batch.map((one) => `${Buffer.from(encodeContribution(one))}\n`).join('');
      await new Promise<void>((resolve, reject) => {
        file.write(lines, (error) => (error ? reject(error) : resolve()));
      });
    };
    try {
      return await takeIn(source, this.#options.rejects, write);
    } finally {
      file.end();
      await finished(file);
    }
  }

  async *rows(): AsyncGenerator<Row> {
    for (const [index, way] of this.#options.ways.entries()) {
      const label = `[${index + 1}/${this.#options.ways.length}]`;
      yield await this.#work(way, label);
    }
  }

  /** What was accepted, a line each. */
  get #list(): string {
    return join(this.#folder, 'accepted.ndjson');
  }

  async #work(way: Way, label: string): Promise<Row> {
    const { workers, killAt } = this.#options;
    const instances = way.instances === 'one' ? 1 : workers;
    const names = await this.#namesFor(way);
    const engines = await Engines.open(names);
    const progress = new Progress(process.stdout, `${label} ${titleOf(way, instances)}`);
    try {
      const expected = await this.#fill(engines, way.prefix ?? Number.POSITIVE_INFINITY);
      const messages = countIn(expected);
      const totals = () => engines.totals(way.guard === 'leasehold', expected.keys());
      const crew = new Crew({
        job: { tasks: way.tasks, guard: way.guard, engines: names },
        instances,
        messages,
        killAt: way.decisive ? killAt : null,
        signal: this.#signal,
        // Where a worker was killed, nobody knows what it had settled; the totals tell, since nothing counts twice.
        isDone: async (settled) =>
          way.decisive ? countIn(await totals()) >= messages : settled >= messages,
        onProgress: (done, note) => progress.update(done / messages, note),
      });
      const effort = await crew.work();
      progress.end();
      const verdict = judge(expected, await totals());
      const killWanted = killAt !== null;
      return { way, instances, verdict, effort, accepted: this.#accepted, killWanted };
    } finally {
      await engines.erase();
    }
  }

  /** Engines that nobody else uses: a folder, or names on the servers. */
  async #namesFor(way: Way): Promise<EngineNames> {
    const { amqp, redis, locks } = this.#options;
    const folder = join(this.#folder, way.id);
    await mkdir(folder);
    const scope = `story-${crypto.randomUUID().slice(0, 8)}-${way.id}`;
    return { amqp, redis, locks, folder, scope };
  }

  /** Puts the contributions on the queue of one way, and adds up what the totals have to be. */
  async #fill(engines: Engines, limit: number): Promise<Map<string, Total>> {
    const expected = new Map<string, Total>();
    const publisher = await engines.publisher();
    let published: Promise<void>[] = [];
    let count = 0;
    try {
      for await (const { bytes } of splitLines(createReadStream(this.#list))) {
        if (count === limit) break;
        this.#signal.throwIfAborted();
        const contribution = parsed(bytes);
        const { account } = contribution;
        expected.set(account, add(expected.get(account) ?? NOTHING, contribution));
        published.push(publisher.publish(`c-${count}`, contribution));
        count += 1;
        if (published.length < BATCH) continue;
        await Promise.all(published);
        published = [];
      }
      await Promise.all(published);
    } finally {
      await publisher.close();
    }
    return expected;
  }
}

function countIn(totals: ReadonlyMap<string, Total>): number {
  let count = 0;
  for (const { contributions } of totals.values()) count += contributions;
  return count;
}

function parsed(line: Uint8Array): Contribution {
  const found = parseContribution(line);
  if (found.is === 'contribution') return found.contribution;
  throw new Error('the list of what was accepted has a line that was not');
}

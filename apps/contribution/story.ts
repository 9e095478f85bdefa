/** The story from the input to the last row: each way gets a fresh queue and fresh totals, and starts from nothing. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Arguments } from './arguments.ts';
import { openBooks } from './books.ts';
import { Crew } from './crew.ts';
import type { Contribution } from './input.ts';
import { type Intake, takeIn } from './intake.ts';
import type { Total } from './ledger.ts';
import { Progress } from './progress.ts';
import type { Queue } from './queue.ts';
import { type Row, titleOf } from './report.ts';
import { judge } from './verdict.ts';
import type { Way } from './ways.ts';

/** How many messages go from the list to a queue in one transaction. */
const BATCH = 1_000;

export class Story {
  readonly #options: Arguments;
  readonly #folder: string;
  readonly #signal: AbortSignal;
  #accepted = 0;

  /** Everything is made in the folder, which the caller removes. */
  constructor(options: Arguments, folder: string, signal: AbortSignal) {
    this.#options = options;
    this.#folder = folder;
    this.#signal = signal;
  }

  /** Reads the input, once for all ways. */
  async takeIn(source: AsyncIterable<Buffer>): Promise<Intake> {
    const books = openBooks(await this.#makeFolder('input'));
    try {
      let nextId = 0;
      return await takeIn(source, this.#options.rejects, async (batch) => {
        this.#signal.throwIfAborted();
        await books.queue.publish(batch, nextId);
        nextId += batch.length;
        this.#accepted = nextId;
      });
    } finally {
      await books.close();
    }
  }

  async *rows(): AsyncGenerator<Row> {
    for (const [index, way] of this.#options.ways.entries()) {
      const label = `[${index + 1}/${this.#options.ways.length}]`;
      yield await this.#work(way, label);
    }
  }

  async #work(way: Way, label: string): Promise<Row> {
    const { workers, killAt } = this.#options;
    const instances = way.instances === 'one' ? 1 : workers;
    const folder = await this.#makeFolder(way.id);
    const locks = await this.#makeFolder(`${way.id}-locks`);
    const progress = new Progress(process.stdout, `${label} ${titleOf(way, instances)}`);
    const books = openBooks(folder);
    const { queue, ledger } = books;
    try {
      const expected = await this.#fill(queue, way.prefix ?? Number.POSITIVE_INFINITY);
      const messages = queue.remaining();
      const crew = new Crew({
        job: { tasks: way.tasks, guard: way.guard, books: folder, locks },
        instances,
        queue,
        messages,
        killAt: way.decisive ? killAt : null,
        signal: this.#signal,
        onProgress: (done, note) => progress.update(done / messages, note),
      });
      const effort = await crew.work();
      progress.end();
      const verdict = judge(expected, ledger.totals(), queue.remaining());
      const killWanted = killAt !== null;
      return { way, instances, verdict, effort, accepted: this.#accepted, killWanted };
    } finally {
      await books.close();
      await rm(folder, { recursive: true, force: true });
      await rm(locks, { recursive: true, force: true });
    }
  }

  /** Puts the contributions on the queue of one way, and adds up what the totals have to be. */
  async #fill(queue: Queue, limit: number): Promise<Map<string, Total>> {
    const input = openBooks(join(this.#folder, 'input'));
    const expected = new Map<string, Total>();
    try {
      let batch: Contribution[] = [];
      let published = 0;
      const publish = async () => {
        await queue.publish(batch, published);
        published += batch.length;
        batch = [];
      };
      for (const contribution of input.queue.contents(Math.min(limit, this.#accepted))) {
        addTo(expected, contribution);
        if (batch.push(contribution) === BATCH) await publish();
      }
      await publish();
    } finally {
      await input.close();
    }
    return expected;
  }

  async #makeFolder(name: string): Promise<string> {
    const folder = join(this.#folder, name);
    await mkdir(folder);
    return folder;
  }
}

function addTo(totals: Map<string, Total>, { account, cents }: Contribution): void {
  const before = totals.get(account) ?? { cents: 0n, contributions: 0 };
  totals.set(account, {
    cents: before.cents + cents,
    contributions: before.contributions + 1,
  });
}

/**
 * The dead letters of a queue in a folder, for people.
 */
import type { DeadLetter, DeadLetters } from '../../consumer/contracts.ts';
import { RecordsUser } from '../records/client.ts';
import type { QueueSettings } from './source.ts';
import type { Numbered, QueueCall } from './steps.ts';

/** As many are read, or replayed, in one step. */
const LETTERS_A_STEP = 200;

export class EmbeddedDeadLetters implements DeadLetters {
  readonly #settings: QueueSettings;
  #records: RecordsUser | null = null;

  constructor(settings: QueueSettings) {
    this.#settings = settings;
  }

  async list(most: number): Promise<readonly DeadLetter[]> {
    const found: DeadLetter[] = [];
    for await (const page of this.#pages()) {
      found.push(...page.map(([, letter]) => letter));
      if (found.length >= most) break;
    }
    return found.slice(0, most);
  }

  async replay(wants: (letter: DeadLetter) => boolean): Promise<number> {
    const { queue } = this.#settings;
    let count = 0;
    for await (const page of this.#pages()) {
      const numbers = page.filter(([, letter]) => wants(letter)).map(([number]) => number);
      if (numbers.length > 0) count += await this.#call<number>({ is: 'replay', queue, numbers });
    }
    return count;
  }

  async close(): Promise<void> {
    await this.#records?.close();
    this.#records = null;
  }

  async *#pages(): AsyncGenerator<readonly Numbered[]> {
    const { queue } = this.#settings;
    for (let after = 0; ; ) {
      const call: QueueCall = { is: 'list', queue, after, most: LETTERS_A_STEP };
      const page = await this.#call<readonly Numbered[]>(call);
      if (page.length > 0) yield page;
      if (page.length < LETTERS_A_STEP) return;
      after = page.at(-1)?.[0] ?? after;
    }
  }

  async #call<Answer>(call: QueueCall): Promise<Answer> {
    this.#records ??= await RecordsUser.open(this.#settings);
    return this.#records.call<Answer>('queue', call);
  }
}

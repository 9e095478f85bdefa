/**
 * Brings messages into a queue in a folder.
 */
import { newEnvelope, type Publication, type Publisher } from '../../consumer/publication.ts';
import { InvalidArgumentError } from '../../core/errors.ts';
import { RecordsUser } from '../records/client.ts';
import type { QueueSettings } from './source.ts';
import type { QueueCall, StoredEnvelope } from './steps.ts';

const MAX_ID_LENGTH = 512;

export class EmbeddedPublisher implements Publisher {
  readonly #settings: QueueSettings;
  #records: Promise<RecordsUser> | null = null;
  #isClosed = false;

  constructor(settings: QueueSettings) {
    this.#settings = settings;
  }

  async publish(publication: Publication): Promise<string> {
    const { id = crypto.randomUUID() } = publication ?? {};
    if (typeof id !== 'string' || id === '' || id.length > MAX_ID_LENGTH) {
      throw new InvalidArgumentError(
        `the id of a message is text of 1 to ${MAX_ID_LENGTH} characters`,
      );
    }
    const envelope: StoredEnvelope = newEnvelope(publication, id, Date.now());
    const { queue } = this.#settings;
    const call: QueueCall = { is: 'publish', queue, envelopes: [envelope], delayMs: 0 };
    await (await this.#opened()).call('queue', call);
    return id;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const records = await this.#records?.catch(() => null);
    await records?.close();
  }

  #opened(): Promise<RecordsUser> {
    if (this.#isClosed) return Promise.reject(new Error('the publisher is closed'));
    this.#records ??= RecordsUser.open(this.#settings);
    // The next message tries again.
    this.#records.catch(() => {
      this.#records = null;
    });
    return this.#records;
  }
}

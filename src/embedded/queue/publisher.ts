/**
 * Brings messages into a queue in a folder.
 */
import type { Publication, Publisher } from '../../consumer/publication.ts';
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
    const { id = crypto.randomUUID(), content, contentType, headers } = publication;
    if (typeof id !== 'string' || id === '' || id.length > MAX_ID_LENGTH) {
      throw new InvalidArgumentError(
        `the id of a message is text of 1 to ${MAX_ID_LENGTH} characters`,
      );
    }
    if (typeof content !== 'string' && !(content instanceof Uint8Array)) {
      throw new InvalidArgumentError('the content of a message is text or bytes');
    }
    const envelope: StoredEnvelope = {
      id,
      content: typeof content === 'string' ? Buffer.from(content) : content,
      contentType: contentType ?? 'application/json',
      headers: headers ?? {},
      properties: {},
      publishedAtMs: Date.now(),
      busyCount: 0,
      failedCount: 0,
      isReplay: false,
    };
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

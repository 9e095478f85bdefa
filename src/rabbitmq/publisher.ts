/**
 * Brings messages into the queue of a source.
 */
import { newEnvelope, type Publication, type Publisher } from '../consumer/publication.ts';
import { InvalidArgumentError } from '../core/errors.ts';
import { type AmqpChannel, Link } from './client.ts';
import { publishOptions } from './envelope.ts';
import { NotPublishedError, QueueUnusableError } from './errors.ts';
import type { ConnectionSettings } from './options.ts';
import type { Partitions } from './partitions.ts';
import { Sender } from './sender.ts';
import { prepareQueues } from './topology.ts';

/** The broker's limit for short text. */
const MAX_ID_BYTES = 255;
const HASH_EXCHANGE = 'x-consistent-hash';
/** Every partition gets as many places on the ring; more places spread keys more evenly. */
const POINTS = '50';

export class RabbitPublisher implements Publisher {
  readonly #settings: ConnectionSettings;
  readonly #sender: Sender;
  /** Whether the broker spreads keys, asked once. */
  #spreads: Promise<boolean> | null = null;

  constructor(settings: ConnectionSettings) {
    this.#settings = settings;
    this.#sender = new Sender(settings, (channel) => prepareQueues(channel, settings));
  }

  async publish(publication: Publication): Promise<string> {
    const { id = crypto.randomUUID(), key } = publication ?? {};
    if (typeof id !== 'string' || id === '' || Buffer.byteLength(id) > MAX_ID_BYTES) {
      throw new InvalidArgumentError(`the id of a message is text of 1 to ${MAX_ID_BYTES} bytes`);
    }
    const envelope = newEnvelope(publication, id, Date.now());
    const options = publishOptions(envelope);
    const place = await this.#placeOf(key);
    await this.#sender.publish({
      queue: this.#settings.name,
      ...place,
      content: envelope.content,
      options,
    });
    return id;
  }

  close(): Promise<void> {
    return this.#sender.close();
  }

  async #placeOf(key: unknown): Promise<{ exchange: string; routingKey: string }> {
    const { name, partitions } = this.#settings;
    if (partitions === null) return { exchange: '', routingKey: name };
    if (typeof key !== 'string' || key === '') {
      throw new InvalidArgumentError('a message for a partitioned queue needs its key, as text');
    }
    this.#spreads ??= findExchange(this.#settings, partitions);
    let spreads: boolean;
    try {
      spreads = await this.#spreads;
    } catch (error) {
      this.#spreads = null;
      if (error instanceof QueueUnusableError) throw error;
      throw new NotPublishedError(name, 'unavailable', error);
    }
    return spreads
      ? { exchange: partitions.exchange, routingKey: key }
      : { exchange: '', routingKey: partitions.queueFor(key) };
  }
}

/**
 * Whether the broker has the exchange that spreads keys, or can have it. A broker without the plugin ends the whole
 * connection when it is asked for such an exchange: so this one is for that question alone.
 */
async function findExchange(
  settings: ConnectionSettings,
  partitions: Partitions,
): Promise<boolean> {
  const link = await Link.connect(settings);
  try {
    const isThere = await succeeds(link, (channel) => channel.checkExchange(partitions.exchange));
    if (isThere || !settings.declare) return isThere;
    await link.ask((channel) => prepareQueues(channel, settings));
    return await succeeds(link, async (channel) => {
      await channel.assertExchange(partitions.exchange, HASH_EXCHANGE, { durable: true });
      for (const queue of partitions.queues) {
        await channel.bindQueue(queue, partitions.exchange, POINTS);
      }
    });
  } finally {
    await link.close();
  }
}

async function succeeds(
  link: Link,
  question: (channel: AmqpChannel) => Promise<unknown>,
): Promise<boolean> {
  try {
    await link.ask(question);
    return true;
  } catch (error) {
    // Refusals have a number; where the whole connection is refused, the connection has it. A lost one answers nothing.
    const { code } = (link.isOpen ? error : await link.lost) as { readonly code?: unknown };
    if (code === 404 || code === 503 || code === 406) return false;
    throw error;
  }
}

/**
 * The dead letters of a RabbitMQ queue, for people.
 */
import type { DeadLetter, DeadLetters } from '../consumer/contracts.ts';
import { type AmqpChannel, Link } from './client.ts';
import { publishOptions, queueOf, readDeadLetter } from './envelope.ts';
import { QueueUnusableError, queueFault } from './errors.ts';
import type { ConnectionSettings } from './options.ts';
import { Sender } from './sender.ts';

export class RabbitDeadLetters implements DeadLetters {
  readonly #settings: ConnectionSettings;
  readonly #sender: Sender;

  constructor(settings: ConnectionSettings) {
    this.#settings = settings;
    this.#sender = new Sender(settings, async () => undefined);
  }

  async list(most: number): Promise<readonly DeadLetter[]> {
    const letters: DeadLetter[] = [];
    await this.#look(most, async (letter) => {
      letters.push(letter);
      return false;
    });
    return letters;
  }

  async replay(wants: (letter: DeadLetter) => boolean): Promise<number> {
    return this.#look(Number.POSITIVE_INFINITY, async (letter) => {
      // A letter may name any queue: it goes back to the one that was asked for, or stays.
      if (!this.#isOurs(queueOf(letter.envelope, this.#settings.name))) return false;
      if (!wants(letter)) return false;
      const envelope = {
        ...letter.envelope,
        publishedAtMs: Date.now(),
        busyCount: 0,
        failedCount: 0,
        isReplay: true,
      };
      const queue = queueOf(envelope, this.#settings.name);
      const options = publishOptions(envelope);
      const { content } = envelope;
      await this.#sender.publish({ queue, exchange: '', routingKey: queue, content, options });
      return true;
    });
  }

  close(): Promise<void> {
    return this.#sender.close();
  }

  /** The queue itself, or a part of it. */
  #isOurs(queue: string): boolean {
    const { name, queues } = this.#settings;
    if (queue === name || queues.includes(queue)) return true;
    return queue.startsWith(`${name}.`) && /^\d+$/.test(queue.slice(name.length + 1));
  }

  /** Takes each letter that is there, removes it when it was dealt with, and gives the others back at the end. */
  async #look(most: number, deal: (letter: DeadLetter) => Promise<boolean>): Promise<number> {
    const { deadQueue, name } = this.#settings;
    const link = await Link.connect(this.#settings);
    let dealtWith = 0;
    let channel: AmqpChannel | undefined;
    try {
      channel = await link.channel();
      const there = await countOf(channel, deadQueue);
      for (let left = Math.min(most, there); left > 0; left -= 1) {
        const message = await channel.get(deadQueue);
        if (message === false) break;
        if (!(await deal(readDeadLetter(message, name)))) continue;
        channel.ack(message, false);
        dealtWith += 1;
      }
    } finally {
      await link.close(channel);
    }
    return dealtWith;
  }
}

async function countOf(channel: AmqpChannel, queue: string): Promise<number> {
  try {
    return (await channel.checkQueue(queue)).messageCount;
  } catch (error) {
    const fault = queueFault(error);
    throw fault === null ? error : new QueueUnusableError(queue, fault, error);
  }
}

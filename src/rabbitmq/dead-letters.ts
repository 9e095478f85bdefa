/**
 * The dead letters of a RabbitMQ queue, for people.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { DeadLetter, DeadLetters } from '../consumer/contracts.ts';
import { type AmqpChannel, type AmqpMessage, Link } from './client.ts';
import {
  markedLetterOptions,
  publishOptions,
  queueOf,
  type ReplayMark,
  readDeadLetter,
  readReplayMark,
} from './envelope.ts';
import { QueueUnusableError, queueFault } from './errors.ts';
import type { ConnectionSettings } from './options.ts';
import { Sender } from './sender.ts';

interface Taken {
  readonly letter: DeadLetter;
  /** When a replay of it was begun already. */
  readonly begun: ReplayMark | null;
  readonly remove: () => void;
}

/** Somebody else may have taken them, so that they are never seen again here. */
const GIVE_BACK_MS = 2_000;
const GIVE_BACK_POLL_MS = 10;

export class RabbitDeadLetters implements DeadLetters {
  readonly #settings: ConnectionSettings;
  readonly #sender: Sender;

  constructor(settings: ConnectionSettings) {
    this.#settings = settings;
    this.#sender = new Sender(settings, async () => undefined);
  }

  async list(most: number): Promise<readonly DeadLetter[]> {
    return this.#reading(async (read, there) => {
      const letters: DeadLetter[] = [];
      while (letters.length < Math.min(most, there)) {
        const taken = await read();
        if (taken === null) break;
        letters.push(taken.letter);
      }
      return letters;
    });
  }

  async replay(wants: (letter: DeadLetter) => boolean): Promise<number> {
    const mark = { begunAtMs: Date.now(), run: crypto.randomUUID() };
    return this.#reading(async (read, there) => {
      let marked = 0;
      let replayed = 0;
      const replayOne = async ({ letter, remove }: Taken, begun: ReplayMark): Promise<void> => {
        await this.#publishReplay(letter, begun);
        remove();
        replayed += 1;
      };
      for (let left = there; left > 0; left -= 1) {
        const taken = await read();
        if (taken === null) break;
        // A letter may name any queue: it goes back to the one that was asked for, or stays.
        if (!this.#isOurs(queueOf(taken.letter.envelope, this.#settings.name))) continue;
        if (!wants(taken.letter)) continue;
        if (taken.begun) {
          await replayOne(taken, taken.begun);
          continue;
        }
        await this.#putMarked(taken.letter, mark);
        taken.remove();
        marked += 1;
      }
      // They are at the end of the queue now, and those that are not wanted are held meanwhile.
      while (marked > 0) {
        const taken = await read();
        if (taken === null) break;
        if (taken.begun?.run !== mark.run) continue;
        await replayOne(taken, taken.begun);
        marked -= 1;
      }
      return replayed;
    });
  }

  /**
   * A replay has a new time of first publishing. It is written down before the replay is published, and stays the same
   * when that is done again after a crash: only so two of them are known for one message, or are too old.
   */
  #putMarked(letter: DeadLetter, mark: ReplayMark): Promise<void> {
    const { deadQueue: queue } = this.#settings;
    const options = markedLetterOptions(letter, mark);
    const { content } = letter.envelope;
    return this.#sender.publish({ queue, exchange: '', routingKey: queue, content, options });
  }

  #publishReplay(letter: DeadLetter, { begunAtMs }: ReplayMark): Promise<void> {
    const envelope = {
      ...letter.envelope,
      publishedAtMs: begunAtMs,
      busyCount: 0,
      failedCount: 0,
      isReplay: true,
    };
    const queue = queueOf(envelope, this.#settings.name);
    const options = publishOptions(envelope);
    const { content } = envelope;
    return this.#sender.publish({ queue, exchange: '', routingKey: queue, content, options });
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

  /** Takes letters one by one. Those that were not removed are given back at the end. */
  async #reading<Answer>(
    use: (read: () => Promise<Taken | null>, there: number) => Promise<Answer>,
  ): Promise<Answer> {
    const { deadQueue, name } = this.#settings;
    const link = await Link.connect(this.#settings);
    let channel: AmqpChannel | undefined;
    try {
      const opened = await link.channel();
      channel = opened;
      const there = await countOf(opened, deadQueue);
      const held = new Set<AmqpMessage>();
      const read = async (): Promise<Taken | null> => {
        const message = await opened.get(deadQueue);
        if (message === false) return null;
        held.add(message);
        const remove = (): void => {
          held.delete(message);
          opened.ack(message, false);
        };
        const letter = readDeadLetter(message, name);
        return { letter, begun: readReplayMark(message), remove };
      };
      const answer = await use(read, there);
      await giveBack(opened, deadQueue, held);
      return answer;
    } finally {
      await link.close(channel);
    }
  }
}

/** Whoever asks next shall find them: the broker gives back in its own time, and says nothing when it has. */
async function giveBack(
  channel: AmqpChannel,
  queue: string,
  held: ReadonlySet<AmqpMessage>,
): Promise<void> {
  for (const message of held) channel.nack(message, false, true);
  const untilMs = performance.now() + GIVE_BACK_MS;
  while ((await countOf(channel, queue)) < held.size && performance.now() < untilMs) {
    await delay(GIVE_BACK_POLL_MS);
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

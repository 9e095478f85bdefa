/**
 * One connection's time of a source: a channel, its consumers, and the deliveries that came over it.
 *
 * Nothing of it survives its connection. The broker then delivers again whatever was not settled, and the source begins
 * another session.
 */
import type { Delivery, Envelope } from '../consumer/contracts.ts';
import { type AmqpChannel, type AmqpMessage, Link } from './client.ts';
import { readEnvelope } from './envelope.ts';
import { QueueUnusableError, queueFault } from './errors.ts';
import { Ledger } from './ledger.ts';
import type { SourceSettings } from './options.ts';
import type { Partitions } from './partitions.ts';
import { prepareQueues } from './topology.ts';

export class RabbitDelivery implements Delivery {
  readonly envelope: Envelope;
  readonly isRedelivered: boolean;
  readonly ledger: Ledger;
  readonly tag: number;

  constructor(envelope: Envelope, isRedelivered: boolean, ledger: Ledger, tag: number) {
    this.envelope = envelope;
    this.isRedelivered = isRedelivered;
    this.ledger = ledger;
    this.tag = tag;
  }

  isLive(): boolean {
    return this.ledger.isLive;
  }
}

const MEMBERS_EXPIRE_MS = 86_400_000;
/** Consumers are named by this and their queue. */
const TAG = 'leasehold';

export class Session {
  /** Resolves, never rejects, with the reason when nothing is delivered over it any more. */
  readonly ended: Promise<Error>;
  readonly #link: Link;
  readonly #channel: AmqpChannel;
  readonly #ledger: Ledger;
  readonly #deliver: (delivery: Delivery) => void;
  readonly #queues: readonly string[];
  readonly #consuming = new Set<string>();
  /** Those of them that have delivered: where there may be one active consumer, it is this one. */
  readonly #active = new Set<string>();
  #isStopping = false;
  #end: (reason: Error) => void = () => undefined;

  private constructor(
    link: Link,
    channel: AmqpChannel,
    queues: readonly string[],
    deliver: (delivery: Delivery) => void,
  ) {
    this.#link = link;
    this.#channel = channel;
    this.#queues = queues;
    this.#deliver = deliver;
    this.#ledger = new Ledger(channel, link.stream);
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    let reason = new Error('the channel was closed');
    channel.on('error', (error: Error) => {
      reason = error;
    });
    channel.on('close', () => {
      this.#ledger.end();
      this.#end(reason);
    });
  }

  /** Rejects with `QueueUnusableError` when a person has to do something first. */
  static async begin(
    settings: SourceSettings,
    attempt: number,
    deliver: (delivery: Delivery) => void,
  ): Promise<Session> {
    const link = await Link.connect(settings, attempt);
    try {
      const channel = await link.channel();
      await prepareQueues(channel, settings);
      const session = new Session(link, channel, settings.queues, deliver);
      await channel.prefetch(settings.prefetch);
      if (settings.partitions !== null) await session.#enrol(settings.partitions);
      return session;
    } catch (error) {
      await link.close();
      throw error;
    }
  }

  async consume(queue: string): Promise<void> {
    if (this.#isStopping || this.#consuming.has(queue)) return;
    this.#consuming.add(queue);
    const onMessage = (message: AmqpMessage | null): void => this.#receive(queue, message);
    try {
      await this.#channel.consume(queue, onMessage, { consumerTag: `${TAG}.${queue}` });
    } catch (error) {
      const fault = queueFault(error);
      throw fault === null ? error : new QueueUnusableError(queue, fault, error);
    }
  }

  /**
   * Gives up partitions beyond this one's share, of which another one that waits for them becomes the active consumer;
   * this one then waits behind the others, for the case that they end.
   */
  async balance({ queues, members }: Partitions): Promise<void> {
    if (this.#isStopping || !this.#ledger.isLive) return;
    const { consumerCount } = await this.#channel.checkQueue(members);
    const share = Math.ceil(queues.length / Math.max(1, consumerCount));
    for (const queue of [...this.#active].slice(share)) {
      await this.cancel(queue);
      await this.consume(queue);
    }
  }

  /** How many consume is how many consumers a queue has in which there is nothing. */
  async #enrol({ members }: Partitions): Promise<void> {
    const args = { 'x-queue-type': 'classic', 'x-expires': MEMBERS_EXPIRE_MS };
    await this.#channel.assertQueue(members, { durable: true, arguments: args });
    await this.#channel.consume(members, () => undefined, { noAck: true });
  }

  /** Delivers nothing more from this queue; what was delivered can still be settled. */
  async cancel(queue: string): Promise<void> {
    this.#active.delete(queue);
    if (!this.#consuming.delete(queue) || !this.#ledger.isLive) return;
    await this.#channel.cancel(`${TAG}.${queue}`);
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    try {
      for (const queue of [...this.#consuming]) await this.cancel(queue);
    } catch {
      // The channel has ended: nothing comes over it any more.
    }
  }

  async close(): Promise<void> {
    this.#ledger.flush();
    await this.#link.close(this.#channel);
    this.#ledger.end();
    this.#end(new Error('the session was closed'));
  }

  #receive(queue: string, message: AmqpMessage | null): void {
    if (message === null) {
      // The broker gave the consumer up: its queue was deleted, or has moved.
      this.#consuming.delete(queue);
      if (!this.#isStopping)
        this.#end(new Error(`the broker cancelled the consumer of '${queue}'`));
      return;
    }
    const { deliveryTag, redelivered } = message.fields;
    this.#ledger.add(deliveryTag);
    if (!this.#consuming.has(queue)) {
      // It was on its way while the consumer was cancelled.
      this.#ledger.release(deliveryTag);
      return;
    }
    this.#active.add(queue);
    const envelope = readEnvelope(message, queue, this.#queues);
    this.#deliver(new RabbitDelivery(envelope, redelivered, this.#ledger, deliveryTag));
  }
}

/**
 * The deliveries of one channel that are not settled yet, and how they are: many acknowledgements in one frame.
 *
 * The broker numbers the deliveries of a channel from 1 on, and one frame can acknowledge all up to a number. So all that
 * were acknowledged, and that come before the first unsettled one, are one frame; those behind it would be a frame each.
 * A frame is work for the broker, and a write wakes it. So as long as there is enough to do, acknowledgements wait a few
 * milliseconds for others, and those behind an unsettled one for that, unless it takes long. Once there is hardly anything
 * to do any more, none waits: the broker sends the next deliveries for them.
 */
import type { AmqpChannel } from './client.ts';
import { type Gatherable, gather } from './gather.ts';

/** How long acknowledgements wait for others, in milliseconds. */
const WAIT_MS = 4;
/** They wait while there are more than so many times as many unsettled deliveries, so that the broker has more to send. */
const FEW = 2;
/** Those that would be a frame each wait while more than half as many deliveries are unsettled. */
const MANY = 1 / 2;
/** None waits any longer once the unsettled deliveries are fewer than so many times those that wait. */
const HARDLY_ANY = 1 / 8;
/** What has been worked on for so many milliseconds is not waited for: it may take much longer. */
const LONG_MS = 20;

export class Ledger {
  readonly #channel: AmqpChannel;
  readonly #stream: Gatherable | undefined;
  /** When each was delivered, by the monotonic clock. In the order of their numbers. */
  readonly #open = new Map<number, number>();
  #acknowledged: number[] = [];
  #flushed: Promise<void> | null = null;
  #resolve: () => void = () => {};
  #hasWaited = false;
  #immediate: NodeJS.Immediate | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isLive = true;

  constructor(channel: AmqpChannel, stream: Gatherable | undefined) {
    this.#channel = channel;
    this.#stream = stream;
  }

  /** False once the channel is gone: whatever was not settled is delivered again. */
  get isLive(): boolean {
    return this.#isLive;
  }

  get unsettled(): number {
    return this.#open.size;
  }

  add(tag: number): void {
    this.#open.set(tag, performance.now());
  }

  /** Counts once for each delivery, and only while the channel is there. Resolves when the frames were sent. */
  acknowledge(tag: number): Promise<void> {
    if (!this.#isLive || !this.#open.delete(tag)) return this.#flushed ?? Promise.resolve();
    this.#acknowledged.push(tag);
    this.#look();
    this.#flushed ??= new Promise((resolve) => {
      this.#resolve = resolve;
      this.#hasWaited = false;
      this.#immediate = setImmediate(this.#proceed);
    });
    return this.#flushed;
  }

  release(tag: number): void {
    if (!this.#isLive || !this.#open.delete(tag)) return;
    this.#send(() => this.#channel.nack(frame(tag), false, true));
    this.#look();
  }

  /** Sends what waits. */
  flush(): void {
    clearImmediate(this.#immediate);
    this.#stopTimer();
    this.#sendFirst();
    const tags = this.#acknowledged;
    this.#acknowledged = [];
    this.#flushed = null;
    this.#resolve();
    if (tags.length === 0) return;
    this.#send(() => {
      for (const tag of tags) this.#channel.ack(frame(tag), false);
    });
  }

  /** While some wait: at the end of this turn they are sent, when there is no reason to wait any more. */
  #look(): void {
    if (this.#timer === undefined) return;
    if (this.#open.size >= HARDLY_ANY * this.#acknowledged.length) return;
    this.#stopTimer();
    this.#immediate = setImmediate(this.#proceed);
  }

  #stopTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  readonly #proceed = (): void => {
    this.#timer = undefined;
    const [open, acknowledged] = [this.#open.size, this.#acknowledged.length];
    const isFirstWait = !this.#hasWaited && open > FEW * acknowledged;
    const mayWait = isFirstWait || (open > MANY * acknowledged && this.#isFirstYoung());
    if (!mayWait || !this.#isLive) {
      this.flush();
      return;
    }
    if (!isFirstWait) this.#sendFirst();
    this.#hasWaited = true;
    this.#timer = setTimeout(this.#proceed, WAIT_MS);
  };

  #isFirstYoung(): boolean {
    const [deliveredMs = 0] = this.#open.values();
    return performance.now() - deliveredMs < LONG_MS;
  }

  /** Those before the first unsettled one: one frame. */
  #sendFirst(): void {
    // A Map keeps the order of insertion, which is that of the numbers.
    const [lowestOpen = Number.POSITIVE_INFINITY] = this.#open.keys();
    let upTo = 0;
    for (const tag of this.#acknowledged) if (tag < lowestOpen && tag > upTo) upTo = tag;
    if (upTo === 0) return;
    this.#acknowledged = this.#acknowledged.filter((tag) => tag > upTo);
    this.#send(() => this.#channel.ack(frame(upTo), true));
  }

  /** The channel is gone. */
  end(): void {
    this.#isLive = false;
    this.#open.clear();
    this.#acknowledged = [];
  }

  /** A channel that ends at this moment throws; then there is nothing to settle any more. */
  #send(write: () => void): void {
    if (!this.#isLive) return;
    try {
      gather(this.#stream);
      write();
    } catch {
      this.end();
    }
  }
}

function frame(deliveryTag: number): { readonly fields: { readonly deliveryTag: number } } {
  return { fields: { deliveryTag } };
}

/**
 * A queue in a folder as a source of messages, for the processes of one machine.
 */
import type {
  DeadLetterNote,
  Delivery,
  Envelope,
  MessageSource,
  SourceEvents,
} from '../../consumer/contracts.ts';
import { InvalidArgumentError } from '../../core/errors.ts';
import { MAX_DELAY_MS } from '../../core/options.ts';
import { type RecordsSettings, RecordsUser } from '../records/client.ts';
import type { QueueCall, TakeAnswer } from './steps.ts';

export interface QueueSettings extends RecordsSettings {
  readonly queue: string;
}

export interface SourceSettings extends QueueSettings {
  readonly prefetch: number;
}

/** Wake-ups can be missed, and nobody tells of a process that was killed: so everybody looks again after this long. */
const LOOK_AGAIN_MS = 250;

class EmbeddedDelivery implements Delivery {
  readonly envelope: Envelope;
  readonly isRedelivered: boolean;
  readonly number: number;
  readonly stay: Stay;

  constructor(envelope: Envelope, isRedelivered: boolean, number: number, stay: Stay) {
    this.envelope = envelope;
    this.isRedelivered = isRedelivered;
    this.number = number;
    this.stay = stay;
  }

  isLive(): boolean {
    return this.stay.isLive;
  }
}

/** As long as one consumer value is in use, and what it has. */
interface Stay {
  readonly consumer: string;
  readonly unsettled: Set<number>;
  isLive: boolean;
}

export class EmbeddedSource implements MessageSource {
  readonly name: string;
  readonly #settings: SourceSettings;
  #records: RecordsUser | null = null;
  #events: SourceEvents | null = null;
  #stay: Stay | null = null;
  /** Stays that are over, and of which it is not known whether all was given back. */
  readonly #owed: Stay[] = [];
  #timer: NodeJS.Timeout | null = null;
  /** The look at the queue that is under way. */
  #looking: Promise<void> | null = null;
  #entering: Promise<void> | null = null;
  #lookAgain = false;
  #isStopped = false;

  constructor(settings: SourceSettings) {
    this.name = `embedded:${settings.queue}`;
    this.#settings = settings;
  }

  async open(events: SourceEvents): Promise<void> {
    if (this.#events !== null) throw new Error('the source was opened already');
    this.#events = events;
    this.#records = await RecordsUser.open(this.#settings, (key) => {
      if (key === this.#settings.queue) this.#look();
    });
    this.#stay = await this.#enter();
    this.#look();
  }

  async acknowledge(deliveries: readonly Delivery[]): Promise<void> {
    await this.#settle('acknowledge', deliveries);
  }

  async release(deliveries: readonly Delivery[]): Promise<void> {
    await this.#settle('release', deliveries);
  }

  async republish(envelopes: readonly Envelope[], delayMs: number): Promise<void> {
    if (!(delayMs >= 0 && delayMs <= MAX_DELAY_MS)) {
      throw new InvalidArgumentError(`delayMs is a number from 0 to ${MAX_DELAY_MS}`);
    }
    if (envelopes.length === 0) return;
    await this.#call({ is: 'publish', queue: this.#settings.queue, envelopes, delayMs });
  }

  async deadLetter(envelopes: readonly Envelope[], note: DeadLetterNote): Promise<void> {
    if (envelopes.length === 0) return;
    await this.#call({ is: 'bury', queue: this.#settings.queue, envelopes, note });
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    await this.#looking;
  }

  async close(): Promise<void> {
    await this.stop();
    const stay = this.#stay;
    this.#stay = null;
    if (stay !== null) {
      stay.isLive = false;
      // Without an answer, it is done once this process has ended.
      await this.#leave(stay).catch(() => undefined);
    }
    await this.#records?.close();
    this.#records = null;
  }

  async #settle(is: 'acknowledge' | 'release', deliveries: readonly Delivery[]): Promise<void> {
    const stay = this.#stay;
    if (stay === null) return;
    const numbers: number[] = [];
    for (const delivery of deliveries as readonly EmbeddedDelivery[]) {
      if (delivery.stay !== stay || !stay.unsettled.delete(delivery.number)) continue;
      numbers.push(delivery.number);
    }
    if (numbers.length === 0) return;
    const { consumer } = stay;
    try {
      await this.#call({ is, queue: this.#settings.queue, consumer, numbers });
    } catch (error) {
      await this.#beginAnew(stay);
      throw error;
    }
    this.#look();
  }

  /** Takes what there is room for, again and again until there is no more; one look at a time. */
  #look(): void {
    this.#lookAgain = true;
    if (this.#looking !== null || this.#isStopped) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#looking = this.#takeAll().then((againMs) => {
      this.#looking = null;
      if (this.#isStopped) return;
      if (this.#lookAgain) this.#look();
      else this.#timer = setTimeout(() => this.#look(), againMs);
    });
  }

  /** Never rejects; says when to look again. */
  async #takeAll(): Promise<number> {
    const { queue, prefetch } = this.#settings;
    while (this.#lookAgain && !this.#isStopped) {
      this.#lookAgain = false;
      const stay = this.#stay;
      if (stay === null) {
        await this.#enterAgain();
        continue;
      }
      const most = prefetch - stay.unsettled.size;
      if (most <= 0) return LOOK_AGAIN_MS;
      const { consumer } = stay;
      let answer: TakeAnswer;
      try {
        answer = await this.#call<TakeAnswer>({ is: 'take', queue, consumer, most });
      } catch {
        await this.#beginAnew(stay);
        return LOOK_AGAIN_MS;
      }
      this.#deliver(stay, answer);
      if (answer.taken.length === most) this.#lookAgain = true;
      else return Math.min(LOOK_AGAIN_MS, Math.max(1, answer.nextDueMs ?? LOOK_AGAIN_MS));
    }
    return LOOK_AGAIN_MS;
  }

  #deliver(stay: Stay, { taken }: TakeAnswer): void {
    for (const [number, { envelope, isRedelivered }] of taken) {
      stay.unsettled.add(number);
      this.#events?.delivered(new EmbeddedDelivery(envelope, isRedelivered, number, stay));
    }
  }

  /**
   * After a call whose outcome is not known, nor is what this consumer has. So all of it is given back, and whatever comes
   * comes under another value.
   */
  async #beginAnew(stay: Stay): Promise<void> {
    if (this.#stay !== stay) return;
    stay.isLive = false;
    this.#stay = null;
    this.#owed.push(stay);
    await this.#enterAgain();
  }

  /** Only one at a time: it is called by the look, and by a settlement that failed. */
  async #enterAgain(): Promise<void> {
    this.#entering ??= this.#enterOnce().finally(() => {
      this.#entering = null;
    });
    await this.#entering;
  }

  async #enterOnce(): Promise<void> {
    try {
      for (let stay = this.#owed[0]; stay !== undefined; stay = this.#owed[0]) {
        await this.#leave(stay);
        this.#owed.shift();
      }
      this.#stay = await this.#enter();
      this.#lookAgain = true;
    } catch {
      // The timer looks again.
    }
  }

  async #enter(): Promise<Stay> {
    const consumer = await this.#call<string>({ is: 'enter', queue: this.#settings.queue });
    return { consumer, unsettled: new Set(), isLive: true };
  }

  #leave({ consumer }: Stay): Promise<unknown> {
    return this.#call({ is: 'leave', queue: this.#settings.queue, consumer });
  }

  #call<Answer>(call: QueueCall): Promise<Answer> {
    if (this.#records === null) return Promise.reject(new Error('the source is not open'));
    return this.#records.call<Answer>('queue', call);
  }
}

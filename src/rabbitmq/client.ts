/**
 * What this folder uses of `amqplib`, which the application installs, and one connection of it.
 */
import { InvalidArgumentError } from '../core/errors.ts';
import { BrokerUnavailableError } from './errors.ts';
import type { Gatherable } from './gather.ts';

/** As amqplib hands it over. */
export interface AmqpMessage {
  readonly content: Buffer;
  readonly fields: AmqpFields;
  readonly properties: Readonly<Record<string, unknown>>;
}

export interface AmqpFields {
  readonly deliveryTag: number;
  readonly redelivered: boolean;
  readonly routingKey: string;
  readonly consumerTag?: string;
}

export interface AmqpQueueFacts {
  readonly queue: string;
  readonly messageCount: number;
  readonly consumerCount: number;
}

type Table = Readonly<Record<string, unknown>>;

/** A channel with confirms. */
export interface AmqpChannel {
  on(event: string, listener: (...args: never[]) => void): unknown;
  assertQueue(name: string, options: Table): Promise<AmqpQueueFacts>;
  checkQueue(name: string): Promise<AmqpQueueFacts>;
  assertExchange(name: string, type: string, options: Table): Promise<unknown>;
  checkExchange(name: string): Promise<unknown>;
  bindQueue(queue: string, exchange: string, routingKey: string): Promise<unknown>;
  prefetch(count: number): Promise<unknown>;
  consume(
    queue: string,
    onMessage: (message: AmqpMessage | null) => void,
    options: Table,
  ): Promise<unknown>;
  cancel(consumerTag: string): Promise<unknown>;
  get(queue: string): Promise<AmqpMessage | false>;
  ack(message: { readonly fields: { readonly deliveryTag: number } }, upTo: boolean): void;
  nack(
    message: { readonly fields: { readonly deliveryTag: number } },
    upTo: boolean,
    requeue: boolean,
  ): void;
  publish(
    exchange: string,
    routingKey: string,
    content: Buffer,
    options: Table,
    onConfirm: (error: unknown) => void,
  ): boolean;
  close(): Promise<void>;
}

interface AmqpConnection {
  on(event: string, listener: (...args: never[]) => void): unknown;
  createConfirmChannel(): Promise<AmqpChannel>;
  close(): Promise<void>;
  /** Not in amqplib's types, and there since its first version: ends a connection whose broker is silent. */
  readonly connection?: { readonly stream?: Gatherable & { destroy(reason?: Error): void } };
}

interface Amqplib {
  connect(url: string, options: Table): Promise<AmqpConnection>;
}

export interface ConnectSettings {
  readonly urls: readonly string[];
  readonly connectTimeoutMs: number;
}

/** How long a broker may take to say good-bye. */
const CLOSE_TIMEOUT_MS = 2_000;
const HEARTBEAT_S = 10;

/** Rejects when it is not installed. */
export async function loadAmqplib(): Promise<Amqplib> {
  try {
    const module = (await import('amqplib')) as unknown as { readonly default: Amqplib };
    return module.default;
  } catch (cause) {
    throw new Error('leasehold/rabbitmq needs a client: npm i amqplib', { cause });
  }
}

export function checkUrls(url: unknown): readonly string[] {
  const urls: readonly unknown[] = Array.isArray(url) ? url : [url];
  const areUrls = urls.every((one) => typeof one === 'string' && /^amqps?:\/\//.test(one));
  if (urls.length === 0 || !areUrls || !urls.every((one) => URL.canParse(one as string))) {
    throw new InvalidArgumentError('url is an amqp:// or amqps:// address, or a list of them');
  }
  for (const one of urls) {
    const { username, password, pathname } = new URL(one as string);
    for (const part of [username, password, pathname]) checkDecodes(part);
  }
  return urls as readonly string[];
}

/**
 * Whether a broker said no, which waiting does not change: amqplib has no better mark of it than its words. Certificates
 * that do not fit count as that as well.
 */
function isRefusal(error: unknown): boolean {
  const { code, message } = error as { readonly code?: unknown; readonly message?: unknown };
  return (
    /^Handshake terminated by server: (403|530) |got <ConnectionClose|^SASL /.test(
      String(message),
    ) || /CERT|^ERR_(TLS|SSL)_/.test(String(code))
  );
}

function hostOf(url: string): string {
  const { hostname, port, protocol } = new URL(url);
  return `${hostname}:${port || (protocol === 'amqps:' ? 5671 : 5672)}`;
}

/** Nobody answered; or what was begun over a connection came to nothing, as it was lost. */
export function unavailable(urls: readonly string[], cause: unknown): BrokerUnavailableError {
  return new BrokerUnavailableError(
    urls.map(hostOf),
    isRefusal(cause) ? 'refused' : 'unreachable',
    cause,
  );
}

/** No error may repeat the address: there is a password in it. */
function checkDecodes(part: string): void {
  try {
    decodeURIComponent(part);
  } catch {
    throw new InvalidArgumentError(
      'an address has a % that begins no character: write a % of its own as %25',
    );
  }
}

/** A connection that was made. It is lost once, and never comes back: then another one is made. */
export class Link {
  /** Resolves, never rejects, with the reason when the connection is gone. */
  readonly lost: Promise<Error>;
  readonly #connection: AmqpConnection;
  #isOpen = true;

  private constructor(connection: AmqpConnection) {
    this.#connection = connection;
    this.lost = new Promise((resolve) => {
      let reason = new Error('the connection to the broker was closed');
      connection.on('error', (error: Error) => {
        reason = error;
      });
      connection.on('close', (error?: Error) => {
        this.#isOpen = false;
        // amqplib leaves its half open, and does not read on: as long as the other side does not answer, as a broker that
        // hangs, the socket would keep the process.
        connection.connection?.stream?.destroy();
        resolve(error ?? reason);
      });
    });
  }

  /**
   * Tries the addresses one after the other, from one on. Rejects with `BrokerUnavailableError`, which has what the last
   * of them said, or the one that refused: that needs a person.
   */
  static async connect({ urls, connectTimeoutMs }: ConnectSettings, from = 0): Promise<Link> {
    const amqplib = await loadAmqplib();
    let failure: unknown;
    for (let tried = 0; tried < urls.length; tried += 1) {
      const url = new URL(urls[(from + tried) % urls.length] as string);
      // The broker's own suggestion is a minute: two of them are missed before a silent connection ends.
      if (!url.searchParams.has('heartbeat')) url.searchParams.set('heartbeat', `${HEARTBEAT_S}`);
      try {
        const options = { noDelay: true, timeout: connectTimeoutMs };
        return new Link(await amqplib.connect(url.href, options));
      } catch (error) {
        if (failure === undefined || !isRefusal(failure)) failure = error;
      }
    }
    throw unavailable(urls, failure);
  }

  get stream(): Gatherable | undefined {
    return this.#connection.connection?.stream;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** A channel with confirms. Whoever takes it listens to its `close`; its errors are this one's already. */
  async channel(): Promise<AmqpChannel> {
    const channel = await this.#connection.createConfirmChannel();
    // An `error` event without a listener would end the process; the call that caused it is rejected as well.
    channel.on('error', () => undefined);
    return channel;
  }

  /** Asks over a channel of its own, which a refusal ends. */
  async ask<Answer>(question: (channel: AmqpChannel) => Promise<Answer>): Promise<Answer> {
    const channel = await this.channel();
    const ended = new Promise<void>((resolve) => void channel.on('close', () => resolve()));
    const answer = await question(channel);
    // When the connection is lost now, amqplib never answers.
    await Promise.race([channel.close(), ended]);
    return answer;
  }

  /**
   * Bounded: a broker that does not answer is left alone. Give the channel over which deliveries were settled: a broker
   * that is told to close the connection at once forgets the acknowledgements that it has not looked at yet.
   */
  async close(settled?: AmqpChannel): Promise<void> {
    if (!this.#isOpen) return;
    const closed = this.#closeInOrder(settled).catch(() => undefined);
    let timer: NodeJS.Timeout | undefined;
    const tooLate = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
    });
    await Promise.race([closed, tooLate]);
    clearTimeout(timer);
    // Without a reason amqplib would not notice, and its heartbeat would keep the process until it is missed.
    this.#connection.connection?.stream?.destroy(new Error('the broker did not say good-bye'));
  }

  async #closeInOrder(settled?: AmqpChannel): Promise<void> {
    // A channel that has ended already rejects.
    await settled?.close().catch(() => undefined);
    await this.#connection.close();
  }
}

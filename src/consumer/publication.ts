/**
 * How messages come into the queue of a keyed consumer: what producers of every engine share.
 */
import { InvalidArgumentError } from '../core/errors.ts';
import type { Envelope } from './contracts.ts';

/** A message to publish. */
export interface Publication {
  /** Under this id it takes effect once, however often it is published. Default: a random UUID. */
  readonly id?: string;
  /** Text is sent in UTF-8. */
  readonly content: Uint8Array | string;
  /** Default `application/json`. */
  readonly contentType?: string;
  readonly headers?: Readonly<Record<string, unknown>>;
  /** Chooses the partition, where the queue has partitions; without effect elsewhere. */
  readonly key?: string;
}

export interface Publisher {
  /**
   * Resolves with the message's id when the message is safe. A rejected promise means: not known, done or not done.
   * Publish it again with the same id then.
   */
  publish(publication: Publication): Promise<string>;
  /** Waits for what is under way, and closes what it opened. */
  close(): Promise<void>;
}

/** Lists and objects inside of each other, in headers. */
const MAX_DEPTH = 32;

/** The envelope of a new message. Throws `InvalidArgumentError` for what cannot travel; an id is judged by its engine. */
export function newEnvelope(
  publication: Omit<Publication, 'id'> | undefined,
  id: string | null,
  publishedAtMs: number | null,
): Envelope {
  const { content, contentType = 'application/json', headers = {} } = publication ?? {};
  if (typeof content !== 'string' && !(content instanceof Uint8Array)) {
    throw new InvalidArgumentError('the content of a message is text or bytes');
  }
  if (typeof contentType !== 'string') {
    throw new InvalidArgumentError('the contentType of a message is text');
  }
  const isTable = typeof headers === 'object' && headers !== null && !Array.isArray(headers);
  if (!isTable || !isData(headers, MAX_DEPTH)) {
    throw new InvalidArgumentError(
      `the headers of a message are text, numbers, bytes, and at most ${MAX_DEPTH} lists and objects deep`,
    );
  }
  return {
    id,
    content: typeof content === 'string' ? Buffer.from(content) : content,
    contentType,
    headers,
    properties: {},
    publishedAtMs,
    busyCount: 0,
    failedCount: 0,
    isReplay: false,
  };
}

function isData(value: unknown, depth: number): boolean {
  if (typeof value === 'function' || typeof value === 'symbol') return false;
  if (typeof value === 'bigint') return BigInt.asIntN(64, value) === value;
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return true;
  return depth > 0 && Object.values(value).every((one) => isData(one, depth - 1));
}

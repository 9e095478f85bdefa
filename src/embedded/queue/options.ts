/**
 * The options of queues in a folder.
 */
import { InvalidArgumentError } from '../../core/errors.ts';
import { type RecordsOptions, readRecordsOptions } from '../records/client.ts';
import type { QueueSettings, SourceSettings } from './source.ts';

export interface EmbeddedQueueOptions extends RecordsOptions {
  /** The queue's name; a folder has as many queues as are asked for. */
  readonly queue: string;
}

export interface EmbeddedSourceOptions extends EmbeddedQueueOptions {
  /** How many messages may be here and not settled. Default 100. */
  readonly prefetch?: number;
}

const MAX_QUEUE_BYTES = 180;
const MAX_PREFETCH = 65_535;

export function readQueue(options: EmbeddedQueueOptions): QueueSettings {
  const settings = readRecordsOptions(options);
  const { queue } = options;
  if (typeof queue !== 'string' || queue === '' || Buffer.byteLength(queue) > MAX_QUEUE_BYTES) {
    throw new InvalidArgumentError(`queue is a name of 1 to ${MAX_QUEUE_BYTES} bytes`);
  }
  return { ...settings, queue };
}

export function readSource(options: EmbeddedSourceOptions): SourceSettings {
  const settings = readQueue(options);
  const { prefetch = 100 } = options;
  if (Number.isInteger(prefetch) && prefetch >= 1 && prefetch <= MAX_PREFETCH) {
    return { ...settings, prefetch };
  }
  throw new InvalidArgumentError(`prefetch is a whole number from 1 to ${MAX_PREFETCH}`);
}

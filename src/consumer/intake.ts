/**
 * From a delivery to a message with a key, an id and a time; or to a reason why it cannot be one.
 */
import { checkKey } from '../core/options.ts';
import type { DeadLetterReason } from './contracts.ts';
import type { Lane, Lanes } from './lanes.ts';
import type { Item } from './message.ts';
import type { Settings } from './options.ts';
import { describe, type Settling } from './settling.ts';

export class Intake {
  readonly #settings: Settings;
  readonly #settling: Settling;
  readonly #lanes: Lanes;

  constructor(settings: Settings, settling: Settling, lanes: Lanes) {
    this.#settings = settings;
    this.#settling = settling;
    this.#lanes = lanes;
  }

  /** Puts the message into the lane of its key, or on the way to where people look for it. */
  take(item: Item): void {
    const { decode, idOf, publishedAtOf, reduction } = this.#settings;
    const { envelope } = item;
    const body = attempt(() => decode(envelope.content, envelope));
    if (body instanceof Thrown) {
      this.#refuse(item, 'malformed', `its body cannot be decoded${thrown(body)}`);
      return;
    }
    item.body = body;
    const id = attempt(() => idOf(item));
    if (typeof id !== 'string' || id === '') {
      this.#refuse(item, 'no-id', `set an id when publishing, or give idOf${thrown(id)}`);
      return;
    }
    const publishedAtMs = attempt(() => publishedAtOf(item));
    const isTime = Number.isFinite(publishedAtMs) && (publishedAtMs as number) >= 0;
    if (!isTime && reduction) {
      const advice = 'set the time of publishing, or give publishedAtOf';
      this.#refuse(item, 'no-time', `${advice}${thrown(publishedAtMs)}`);
      return;
    }
    const lane = attempt(() => this.#laneOf(item));
    if (lane instanceof Thrown) {
      this.#refuse(item, 'no-key', `it has no key that can be locked${thrown(lane)}`);
      return;
    }
    item.id = id;
    if (isTime) item.publishedAtMs = publishedAtMs as number;
    item.key = lane.key;
    lane.waiting.push(item);
  }

  #laneOf(item: Item): Lane {
    const key = atOnce(this.#settings.keyOf(item));
    const lane = this.#lanes.get(key);
    if (lane) return lane;
    checkKey(key);
    const lockName = atOnce(this.#settings.lockName(key));
    checkKey(lockName);
    return this.#lanes.open(key, lockName);
  }

  #refuse(item: Item, reason: DeadLetterReason, detail: string): void {
    this.#settling.dead([item], reason, detail);
  }
}

/** What a function of the caller's threw. */
class Thrown {
  readonly cause: unknown;

  constructor(cause: unknown) {
    this.cause = cause;
  }
}

function attempt<Value>(run: () => Value): Value | Thrown {
  try {
    return atOnce(run());
  } catch (cause) {
    return new Thrown(cause);
  }
}

/** Throws for a promise: nobody waits for it, and its rejection would end the process. */
function atOnce<Value>(value: Value): Value {
  if (!(value instanceof Promise)) return value;
  value.catch(() => {});
  throw new TypeError('this function must not be async');
}

function thrown(value: unknown): string {
  return value instanceof Thrown ? `: ${describe(value.cause)}` : '';
}

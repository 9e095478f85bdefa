/**
 * Messages as scripts/state.ts takes them, each as a short hash of its id with its time, and the marks that it gives back.
 */
import { hash } from 'node:crypto';
import type { Commit, CommitMessage, Mark } from '../consumer/contracts.ts';
import { InvalidArgumentError } from '../core/errors.ts';
import { numberOf, UnreadableAnswerError } from './answers.ts';
import { WIDTH } from './scripts/remembered.ts';
import { TIME_DIGITS } from './scripts/state.ts';

const NO_MARKS: ReadonlyMap<string, Mark> = new Map();
/** Times are clamped to what their digits hold: what is beyond is as far out of any window. */
const MAX_TIME_MS = 10 ** TIME_DIGITS - 1;

/** Messages as scripts/state.ts reads them. */
interface Packed {
  readonly text: string;
  readonly length: number;
  /** The state and its version in which none of them was known. */
  newIn: { readonly key: string; readonly version: number } | null;
}

/** Lists of messages of one store: what was looked for is committed next. Nobody changes a list that was given. */
export class Packings {
  readonly #packings = new WeakMap<readonly CommitMessage[], Packed>();

  textOf(messages: readonly CommitMessage[]): string {
    return this.#of(messages).text;
  }

  /** The marks of messages that were looked for. Where there are none, a commit need not look again. */
  lookedFor(
    { key, version }: { readonly key: string; readonly version: number },
    list: readonly unknown[] | null,
    messages: readonly CommitMessage[],
  ): ReadonlyMap<string, Mark> {
    if (list === null) this.#of(messages).newIn = { key, version };
    return readMarks(list, messages);
  }

  /** 1 where none of the messages was known in the version that the commit expects, else 0. */
  newnessOf({ key, expectedVersion, messages }: Omit<Commit, 'lease'>): 0 | 1 {
    const newIn = this.#find(messages)?.newIn;
    return newIn?.key === key && newIn.version === expectedVersion ? 1 : 0;
  }

  #find(messages: readonly CommitMessage[]): Packed | null {
    const packed = this.#packings.get(messages);
    return packed?.length === messages.length ? packed : null;
  }

  #of(messages: readonly CommitMessage[]): Packed {
    const packed = this.#find(messages);
    if (packed) return packed;
    const made = { text: textOf(messages), length: messages.length, newIn: null };
    this.#packings.set(messages, made);
    return made;
  }
}

function textOf(messages: readonly CommitMessage[]): string {
  let text = '';
  for (const { id, publishedAtMs, isReplay } of messages) {
    if (!Number.isFinite(publishedAtMs)) {
      throw new InvalidArgumentError(
        `publishedAtMs of '${id}' is a time in ms, not ${publishedAtMs}`,
      );
    }
    const ms = Math.min(Math.max(0, Math.floor(publishedAtMs)), MAX_TIME_MS);
    text += `${shortOf(id)}${String(ms).padStart(TIME_DIGITS, '0')}${isReplay ? 1 : 0}`;
  }
  return text;
}

/**
 * A hash of an id in `WIDTH` bytes, all of them ASCII, since texts travel as UTF-8. Of a million ids that one key
 * remembers, the next message is taken for one by mistake with a chance of 10^6 / 2^70, less than one in 10^15.
 */
function shortOf(id: string): string {
  const digest = hash('sha1', id, 'binary');
  let short = '';
  for (let at = 0; at < WIDTH; at += 1) short += String.fromCharCode(digest.charCodeAt(at) & 0x7f);
  return short;
}

export function readMarks(
  pairs: readonly unknown[] | null,
  messages: readonly CommitMessage[],
): ReadonlyMap<string, Mark> {
  if (pairs === null) return NO_MARKS;
  const marks = new Map<string, Mark>();
  for (let at = 0; at < pairs.length; at += 2) {
    const said = pairs[at + 1];
    if (said !== 'a' && said !== 'd') throw new UnreadableAnswerError('a script');
    const mark = said === 'a' ? 'applied' : 'dead-lettered';
    marks.set(messageAt(messages, pairs[at]).id, mark);
  }
  return marks;
}

/** Lua counts from one. */
export function messageAt(messages: readonly CommitMessage[], index: unknown): CommitMessage {
  const message = messages[numberOf(index) - 1];
  if (message === undefined) throw new UnreadableAnswerError('a script');
  return message;
}

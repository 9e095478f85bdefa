/**
 * What workers write down while they work: one line each, before it is done and after. A line is in its file before
 * the next step is taken, so that a worker that is killed has told all that it did.
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';

export type Outcome = 'done' | 'stale' | 'unknown';

export type Line =
  /** A caller asked for the lock. */
  | { readonly is: 'asked'; readonly call: string; readonly key: string }
  | { readonly is: 'granted'; readonly call: string; readonly token: string }
  /** It was not granted: the code of the error. */
  | { readonly is: 'refused'; readonly call: string; readonly code: string }
  /** At this time the lease was still to be trusted. */
  | { readonly is: 'held'; readonly call: string }
  | { readonly is: 'released'; readonly call: string }
  /** A value is being read; `isFenced` also says which of the two values of the key it is. */
  | { readonly is: 'reads'; readonly op: string; readonly key: string; readonly isFenced: boolean }
  | { readonly is: 'has-read'; readonly op: string; readonly value: string | null }
  | { readonly is: 'writes'; readonly op: string; readonly value: string }
  | { readonly is: 'ended'; readonly op: string; readonly outcome: Outcome }
  /** A message is published, and confirmed; its effect was written where no fence protects it. */
  | {
      readonly is: 'posts';
      readonly message: string;
      readonly key: string;
      readonly isFenced: boolean;
    }
  | { readonly is: 'posted'; readonly message: string }
  | { readonly is: 'noted'; readonly message: string }
  /** The store's side: a claim is sent for the first time, is answered that it waits, and has a grant. */
  | { readonly is: 'claims'; readonly owner: string; readonly key: string }
  | { readonly is: 'waits'; readonly owner: string }
  | { readonly is: 'owns'; readonly owner: string; readonly epoch: string }
  /** Something that must never come out of the package. */
  | { readonly is: 'wrong'; readonly what: string };

/** With the time, in microseconds, of the clock that all processes of the machine share. */
export type Entry = Line & { readonly atUs: number; readonly worker: string };

export function nowUs(): number {
  return Number(process.hrtime.bigint() / 1_000n);
}

export class Recorder {
  readonly #file: number;
  readonly #worker: string;

  constructor(path: string, worker: string) {
    this.#file = openSync(path, 'a');
    this.#worker = worker;
  }

  write(line: Line, atUs: number = nowUs()): void {
    writeSync(this.#file, `${JSON.stringify({ ...line, atUs, worker: this.#worker })}\n`);
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** Characters of it in an error. */
const MAX_QUOTED = 200;

/** What is in a file of a history, and is no line of one: then nothing can be said of the run. */
export class UnreadableHistoryError extends Error {
  constructor(path: string, number: number, line: string) {
    super(`${path}:${number} is no line of a history: ${line.slice(0, MAX_QUOTED)}`);
  }
}

/** All files together, in the order of time. The last line of a killed worker may be half of one. */
export function readHistory(paths: readonly string[]): Entry[] {
  const entries: Entry[] = [];
  for (const path of paths) {
    const lines = readFileSync(path, 'utf8').split('\n');
    // After the last line break stands nothing, or what was cut off.
    for (const [index, line] of lines.slice(0, -1).entries()) {
      const entry = readLine(line);
      if (entry === null) throw new UnreadableHistoryError(path, index + 1, line);
      entries.push(entry);
    }
  }
  return entries.sort((a, b) => a.atUs - b.atUs);
}

function readLine(line: string): Entry | null {
  try {
    const entry = JSON.parse(line) as Partial<Entry> | null;
    const isOne = typeof entry?.is === 'string' && typeof entry.worker === 'string';
    return isOne && Number.isSafeInteger(entry.atUs) ? (entry as Entry) : null;
  } catch {
    return null;
  }
}

/**
 * From the input file to the durable list of contributions; what is not one goes into the rejects file.
 */
import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { addAbortSignal } from 'node:stream';
import { UsageError } from '../arguments.ts';
import type { Contribution } from '../contribution.ts';
import { parseLine, splitLines } from './input.ts';

export interface Reject {
  readonly line: number;
  readonly reason: string;
}

export interface Intake {
  readonly accepted: number;
  readonly rejected: number;
  readonly accounts: number;
  /** The first few, to show. */
  readonly rejects: readonly Reject[];
}

/** How many rejects are shown; all of them are in the file. */
const SHOWN_REJECTS = 5;
/** How many contributions are written in one transaction. */
const BATCH = 1_000;

/** A chunked source for a path, or standard input for `-`. Reading it ends with an error when the signal is aborted. */
export function openInput(path: string, signal: AbortSignal): AsyncIterable<Buffer> {
  // A stream that is aborted before anybody reads it has nobody to tell.
  signal.throwIfAborted();
  return addAbortSignal(signal, path === '-' ? process.stdin : createReadStream(path));
}

export async function takeIn(
  source: AsyncIterable<Buffer>,
  rejectsPath: string,
  write: (batch: readonly Contribution[]) => Promise<void>,
): Promise<Intake> {
  const file = await open(rejectsPath, 'w').catch((error: Error) => {
    throw new UsageError(`--rejects ${rejectsPath}: ${error.message}`);
  });
  try {
    return await sortOut(source, file, write);
  } finally {
    await file.close();
  }
}

async function sortOut(
  source: AsyncIterable<Buffer>,
  rejectsFile: FileHandle,
  write: (batch: readonly Contribution[]) => Promise<void>,
): Promise<Intake> {
  const accounts = new Set<string>();
  const rejects: Reject[] = [];
  let accepted = 0;
  let rejected = 0;
  let batch: Contribution[] = [];
  for await (const line of splitLines(source)) {
    const parsed = parseLine(line);
    if (parsed.is === 'rejected') {
      rejected += 1;
      const reject = { line: line.number, reason: parsed.reason };
      if (rejects.length < SHOWN_REJECTS) rejects.push(reject);
      const record = { ...reject, text: line.bytes.toString(), truncated: line.overlong };
      await rejectsFile.write(`${JSON.stringify(record)}\n`);
    } else if (parsed.is === 'contribution') {
      accepted += 1;
      accounts.add(parsed.contribution.account);
      batch.push(parsed.contribution);
      if (batch.length === BATCH) {
        await write(batch);
        batch = [];
      }
    }
  }
  await write(batch);
  return { accepted, rejected, accounts: accounts.size, rejects };
}

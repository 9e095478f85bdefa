/**
 * The input: one JSON object a line, `{"account": "maria", "amount": 1250}`. A line that is no contribution is rejected
 * with the reason, and never stops the run.
 */
import { LIMITS, type Parsed, parseContribution } from '../contribution.ts';

export interface Line {
  /** Counted from 1, as editors do. */
  readonly number: number;
  /** No more of it than the longest line that is allowed. */
  readonly bytes: Buffer;
  readonly overlong: boolean;
}

const NEWLINE = 0x0a;
const EMPTY: Buffer = Buffer.alloc(0);

/** Splits a stream into its lines, and never holds more than one chunk and one line of the allowed length. */
export async function* splitLines(chunks: AsyncIterable<Buffer>): AsyncGenerator<Line> {
  let number = 1;
  let bytes = EMPTY;
  let overlong = false;
  for await (const chunk of chunks) {
    let from = 0;
    for (;;) {
      const end = chunk.indexOf(NEWLINE, from);
      const piece = chunk.subarray(from, end === -1 ? chunk.length : end);
      const room = LIMITS.lineBytes - bytes.length;
      if (piece.length > room) overlong = true;
      bytes = Buffer.concat([bytes, piece.subarray(0, room)]);
      if (end === -1) break;
      yield { number, bytes, overlong };
      number += 1;
      bytes = EMPTY;
      overlong = false;
      from = end + 1;
    }
  }
  if (bytes.length > 0) yield { number, bytes, overlong };
}

export function parseLine({ bytes, overlong }: Line): Parsed {
  const reason = `longer than ${LIMITS.lineBytes} bytes`;
  return overlong ? { is: 'rejected', reason } : parseContribution(bytes);
}

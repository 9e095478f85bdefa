/**
 * The input: one JSON object a line, `{"account": "maria", "amount": 1250}`.
 *
 * An amount is a whole number of cents, in plain digits. A line that is anything else is rejected with the reason, and
 * never stops the run.
 */

export const LIMITS = {
  lineBytes: 65_536,
  /** UTF-16 code units. */
  accountLength: 200,
  /** The largest amount, either way: ten thousand million of the currency. */
  cents: 1_000_000_000_000n,
} as const;

export interface Line {
  /** Counted from 1, as editors do. */
  readonly number: number;
  /** No more of it than the longest line that is allowed. */
  readonly bytes: Buffer;
  readonly overlong: boolean;
}

export interface Contribution {
  readonly account: string;
  readonly cents: bigint;
}

export type Parsed =
  | { readonly is: 'contribution'; readonly contribution: Contribution }
  | { readonly is: 'rejected'; readonly reason: string }
  | { readonly is: 'blank' };

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

const UTF8 = new TextDecoder('utf-8', { fatal: true });

export function parseLine(line: Line): Parsed {
  if (line.overlong) return rejected(`longer than ${LIMITS.lineBytes} bytes`);
  let text: string;
  try {
    text = UTF8.decode(line.bytes).trim();
  } catch {
    return rejected('not UTF-8');
  }
  if (text === '') return { is: 'blank' };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return rejected('not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return rejected('not a JSON object');
  }
  const { account, amount } = value as { account?: unknown; amount?: unknown };
  const wrong = accountFault(account) ?? amountFault(amount, text);
  if (wrong !== null) return rejected(wrong);
  const contribution = { account: account as string, cents: BigInt(amountDigits(text)) };
  return { is: 'contribution', contribution };
}

const LONE_SURROGATE = /\p{Surrogate}/u;

function accountFault(account: unknown): string | null {
  if (account === undefined) return '"account" is missing';
  if (typeof account !== 'string') return `"account" ${show(account)} is not text`;
  if (account === '') return '"account" is empty';
  if (account.length > LIMITS.accountLength) {
    return `"account" is longer than ${LIMITS.accountLength} characters`;
  }
  if (LONE_SURROGATE.test(account)) return `"account" ${show(account)} is not well-formed Unicode`;
  return null;
}

const PLAIN_DIGITS = /^-?\d+$/;

function amountFault(amount: unknown, text: string): string | null {
  if (amount === undefined) return '"amount" is missing';
  const digits = typeof amount === 'number' ? amountDigits(text) : '';
  if (!PLAIN_DIGITS.test(digits)) {
    const shown = digits === '' ? show(amount) : shorten(digits);
    return `"amount" ${shown} is not a whole number of cents in plain digits`;
  }
  const cents = BigInt(digits);
  if (cents > LIMITS.cents || cents < -LIMITS.cents) {
    return `"amount" ${shorten(digits)} is out of range: at most ${LIMITS.cents} cents either way`;
  }
  return null;
}

const TEXT_OR_NUMBER = /"(?:[^"\\]|\\.)*"|-?\d[-+.\deE]*/g;

/**
 * The amount as it was written. `JSON.parse` makes a binary float of every number, which rounds what it cannot hold:
 * 1.00000000000000001 would be 1. So the line is parsed once more with each number put into quotes.
 */
function amountDigits(text: string): string {
  const quoted = text.replace(TEXT_OR_NUMBER, (token) =>
    token.startsWith('"') ? token : `"${token}"`,
  );
  return JSON.parse(quoted).amount;
}

function rejected(reason: string): Parsed {
  return { is: 'rejected', reason };
}

/** JSON escapes the control characters that could otherwise play tricks on a terminal. */
function show(value: unknown): string {
  return shorten(JSON.stringify(value));
}

function shorten(text: string): string {
  return text.length <= 40 ? text : `${text.slice(0, 40)}...`;
}

/**
 * A contribution, and the total that it is added to.
 *
 * An amount is a whole number of cents, in plain digits. Whatever is anything else is rejected with the reason, wherever
 * it comes from: a line of a file, the body of a request, or a message of the queue.
 */

export const LIMITS = {
  lineBytes: 65_536,
  /** UTF-16 code units. */
  accountLength: 200,
  /** The largest amount, either way: ten thousand million of the currency. */
  cents: 1_000_000_000_000n,
} as const;

export interface Contribution {
  readonly account: string;
  readonly cents: bigint;
}

export type Parsed =
  | { readonly is: 'contribution'; readonly contribution: Contribution }
  | { readonly is: 'rejected'; readonly reason: string }
  | { readonly is: 'blank' };

export interface Total {
  readonly cents: bigint;
  /** How many contributions are in it: a lost update is missing here as well. */
  readonly contributions: number;
}

export const NOTHING: Total = { cents: 0n, contributions: 0 };

/** The critical section of the story: whoever reads a total, and writes this, must be alone in between. */
export function add(total: Total, { cents }: Contribution): Total {
  return { cents: total.cents + cents, contributions: total.contributions + 1 };
}

/** Totals are kept as JSON, with the cents as decimal text: exact at any size. */
export const totalCodec = {
  encode: ({ cents, contributions }: Total): string =>
    JSON.stringify({ cents: cents.toString(), contributions }),
  decode(text: string): Total {
    const { cents, contributions } = JSON.parse(text) as { cents: string; contributions: number };
    return { cents: BigInt(cents), contributions };
  },
};

/** A contribution as a message holds it. */
export function encodeContribution({ account, cents }: Contribution): Uint8Array {
  return Buffer.from(`{"account":${JSON.stringify(account)},"amount":${cents}}`);
}

const UTF8 = new TextDecoder('utf-8', { fatal: true });

/** Reads one contribution: `{"account": "maria", "amount": 1250}` in UTF-8. */
export function parseContribution(bytes: Uint8Array): Parsed {
  if (bytes.length > LIMITS.lineBytes) return rejected(`longer than ${LIMITS.lineBytes} bytes`);
  let text: string;
  try {
    text = UTF8.decode(bytes).trim();
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

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LIMITS, type Parsed } from '../../dist/apps/contribution/contribution.js';
import { type Line, parseLine, splitLines } from '../../dist/apps/contribution/story/input.js';

function parse(text: string | Buffer): Parsed {
  return parseLine({ number: 1, bytes: Buffer.from(text), overlong: false });
}

function centsOf(amount: string): bigint | null {
  const parsed = parse(`{"account":"a","amount":${amount}}`);
  return parsed.is === 'contribution' ? parsed.contribution.cents : null;
}

async function linesOf(chunks: readonly Buffer[]): Promise<Line[]> {
  async function* source() {
    yield* chunks;
  }
  const lines: Line[] = [];
  for await (const line of splitLines(source())) lines.push(line);
  return lines;
}

describe('a line of the input', () => {
  it.each([
    ['{"account":"maria","amount":1250}', 'maria', 1250n],
    ['{"amount":-1,"id":7,"account":"a b"}\r', 'a b', -1n],
    ['\ufeff {"account":"\\u00e9","amount":0, "rate": 1.5e3}', 'é', 0n],
    ['{"account":"a","note":"\\"amount\\": 5.5","amount":9}', 'a', 9n],
    ['{"account":"a","nested":{"amount":1.5},"amount":9}', 'a', 9n],
    ['{"account":"a","amount":1.5,"amount":9}', 'a', 9n],
    ['{"account":"__proto__","amount":1000000000000}', '__proto__', LIMITS.cents],
    ['{"account":"a","amount":-1000000000000}', 'a', -LIMITS.cents],
  ])('%s is a contribution', (text, account, cents) => {
    expect(parse(text)).toEqual({ is: 'contribution', contribution: { account, cents } });
  });

  it.each([
    ['{"account":"a","amount":1.5}', '"amount" 1.5 is not a whole number of cents'],
    ['{"account":"a","amount":1.0}', '"amount" 1.0 is not a whole number of cents'],
    ['{"account":"a","amount":1e3}', '"amount" 1e3 is not a whole number of cents'],
    ['{"account":"a","amount":1e400}', '"amount" 1e400 is not a whole number of cents'],
    ['{"account":"a","amount":1.00000000000000000001}', '"amount" 1.00000000000000000001 is not'],
    ['{"account":"a","amount":"abc"}', '"amount" "abc" is not a whole number of cents'],
    ['{"account":"a","amount":"12"}', '"amount" "12" is not a whole number of cents'],
    ['{"account":"a","amount":null}', '"amount" null is not a whole number of cents'],
    ['{"account":"a","amount":[1]}', '"amount" [1] is not a whole number of cents'],
    ['{"account":"a","amount":1000000000001}', '"amount" 1000000000001 is out of range'],
    ['{"account":"a","amount":-9007199254740993}', '"amount" -9007199254740993 is out of range'],
    ['{"account":"a","amount":5.5,"note":"\\"amount\\": 5"}', '"amount" 5.5 is not'],
    ['{"account":"a"}', '"amount" is missing'],
    ['{"amount":1}', '"account" is missing'],
    ['{"account":17,"amount":1}', '"account" 17 is not text'],
    ['{"account":null,"amount":1}', '"account" null is not text'],
    ['{"account":"","amount":1}', '"account" is empty'],
    ['{"account":"\\ud800","amount":1}', '"account" "\\ud800" is not well-formed Unicode'],
    [`{"account":"${'x'.repeat(201)}","amount":1}`, '"account" is longer than 200 characters'],
    ['{"account":"a","amount":1', 'not JSON'],
    ['{"account":"a","amount":01}', 'not JSON'],
    ['null', 'not a JSON object'],
    ['[1]', 'not a JSON object'],
    ['12', 'not a JSON object'],
  ])('%s is rejected', (text, reason) => {
    expect(parse(text)).toMatchObject({
      is: 'rejected',
      reason: expect.stringContaining(reason) as string,
    });
  });

  it('is rejected when it is not UTF-8, and left out when it is blank', () => {
    expect(parse(Buffer.from([0x22, 0xff, 0x22]))).toEqual({ is: 'rejected', reason: 'not UTF-8' });
    expect(parse(' \r')).toEqual({ is: 'blank' });
  });

  it('never shows a control character of the input', () => {
    const parsed = parse('{"account":"a","amount":"\\u001b[2J"}');
    expect(parsed).toMatchObject({ is: 'rejected', reason: expect.not.stringContaining('\x1b') });
  });
});

describe('fuzzed input', () => {
  it('gives a contribution, a reject with a reason, or a blank, and never throws', () => {
    const value = fc.oneof(fc.jsonValue(), fc.string(), fc.double(), fc.bigInt().map(String));
    const line = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      fc.string({ unit: 'binary' }).map((text) => Buffer.from(text)),
      fc.json().map((text) => Buffer.from(text)),
      fc
        .record({ account: value, amount: value, other: value }, { requiredKeys: [] })
        .map((record) => Buffer.from(JSON.stringify(record))),
    );
    fc.assert(
      fc.property(line, (bytes) => {
        const parsed = parseLine({ number: 1, bytes, overlong: false });
        if (parsed.is === 'rejected') expect(parsed.reason.length).toBeGreaterThan(0);
        if (parsed.is === 'contribution') {
          const { account, cents } = parsed.contribution;
          expect(account.length).toBeGreaterThan(0);
          expect(cents <= LIMITS.cents && cents >= -LIMITS.cents).toBe(true);
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('takes every whole number in range to the last digit, and no other number', () => {
    const max = LIMITS.cents;
    fc.assert(
      fc.property(fc.bigInt({ min: -max * 2n, max: max * 2n }), (cents) => {
        expect(centsOf(`${cents}`)).toBe(cents <= max && cents >= -max ? cents : null);
        expect(centsOf(`${cents}.000000000000000000000001`)).toBe(null);
        expect(centsOf(`${cents}e0`)).toBe(null);
      }),
    );
  });

  it('is split into the same lines however the chunks fall', async () => {
    const text = fc.array(fc.constantFrom('a', 'é', '\n', '\r', '{}', '  '), { maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(text, fc.array(fc.nat(80)), async (parts, cuts) => {
        const bytes = Buffer.from(parts.join(''));
        const at = [...new Set(cuts.filter((cut) => cut < bytes.length))].sort((a, b) => a - b);
        const chunks = [0, ...at].map((from, index) => bytes.subarray(from, at[index]));
        const expected = bytes.toString().split('\n');
        if (expected.at(-1) === '') expected.pop();
        const lines = await linesOf(chunks);
        expect(lines.map((line) => line.bytes.toString())).toEqual(expected);
        expect(lines.map((line) => line.number)).toEqual(expected.map((_, index) => index + 1));
      }),
    );
  });
});

describe('an overlong line', () => {
  it('is cut where it becomes too long, and the next line is read as if nothing were', async () => {
    const longest = Buffer.alloc(LIMITS.lineBytes, 'x');
    const chunks = [longest, Buffer.from('yy'), longest, Buffer.from('\nnext\n'), longest];
    const lines = await linesOf(chunks);
    expect(lines.map(({ number, bytes, overlong }) => [number, bytes.length, overlong])).toEqual([
      [1, LIMITS.lineBytes, true],
      [2, 4, false],
      [3, LIMITS.lineBytes, false],
    ]);
    expect(parseLine(lines[0] as Line)).toEqual({
      is: 'rejected',
      reason: `longer than ${LIMITS.lineBytes} bytes`,
    });
  });
});

/** Whatever stands on the command line: it is done, or one message says what is wrong. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';

const COMMAND = join(import.meta.dirname, '../../dist/src/cli/main.js');
const SECRET = 'hunter2';

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly error: string;
}

function call(args: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [COMMAND, ...args], (_error, out, error) =>
      resolve({ code: child.exitCode ?? -1, out, error }),
    );
  });
}

const LOGIN = `someone:${SECRET}@`;
const word = fc.oneof(
  fc.constantFrom('locks', 'dead-letters', 'list', 'show', 'break', 'replay', 'help', '-h', '--'),
  fc.constantFrom('--redis', '--amqp', '--queue', '--prefix', '--limit', '--id', '--reason'),
  fc.constantFrom('--cluster', '--json', '--all', '--path', '--no-json', '--redis=', '--json=1'),
  fc.constantFrom(`redis://${LOGIN}127.0.0.1:1`, `redis://${LOGIN}h:99999`, `redis://${LOGIN}%`),
  fc.constantFrom(`amqp://${LOGIN}127.0.0.1:1`, `amqp://${LOGIN}%zz/%`, `http://${LOGIN}h`),
  fc.constantFrom('', '\n', 'x'.repeat(5_000), '\u001b[31m', 'leasehold:', '-1', '0', '1e9'),
  fc.string({ unit: 'binary' }).map((text) => text.replaceAll('\0', '')),
);
const command = fc.oneof(
  fc.constantFrom<readonly string[]>(['locks', 'list'], ['locks', 'show'], ['locks', 'break']),
  fc.constantFrom<readonly string[]>(['dead-letters', 'list'], ['dead-letters', 'replay'], []),
);
const anyLine = fc
  .tuple(command, fc.array(word, { maxLength: 6 }))
  .map(([words, rest]) => [...words, ...rest])
  // A folder would be made where it is missing.
  .filter((args) => !args.some((arg) => arg.startsWith('--path')));

test('any words', { timeout: 240_000 }, async () => {
  const property = fc.asyncProperty(fc.array(anyLine, { minLength: 6, maxLength: 6 }), check);
  await fc.assert(property, { numRuns: 8, endOnFailure: true });
});

async function check(lines: readonly (readonly string[])[]): Promise<void> {
  for (const { code, out, error } of await Promise.all(lines.map(call))) {
    expect([0, 1, 2]).toContain(code);
    // Whoever made a mistake is shown the way; nobody is shown the inside.
    if (code === 0) expect(error).toBe('');
    else expect(error).toMatch(/^leasehold: \S/);
    expect(error).not.toMatch(
      /^ {4}at |TypeError|ReferenceError|RangeError|URIError|node:internal/m,
    );
    expect(out).not.toContain(SECRET);
  }
}

test.each([
  ['locks', 'list', '--redis', `redis://${LOGIN}127.0.0.1:1`],
  ['locks', 'list', '--redis', `redis://${LOGIN}h:99999`],
  ['locks', 'list', '--redis', `redis+sentinel://${LOGIN}127.0.0.1:1/%`],
  ['locks', 'list', '--cluster', '--redis', `redis://${LOGIN}127.0.0.1:1`],
  ['dead-letters', 'list', '--queue', 'q', '--amqp', `amqp://${LOGIN}127.0.0.1:1`],
  ['dead-letters', 'list', '--queue', 'q', '--amqp', `amqp://${LOGIN}%zz`],
  ['dead-letters', 'list', '--queue', 'q', '--amqp', `amqps://${LOGIN}127.0.0.1:1,http://x`],
])('the password of %s %s %s is not repeated', async (...args) => {
  const { code, out, error } = await call(args);
  expect(code).toBeGreaterThan(0);
  expect(out + error).not.toContain(SECRET);
  expect(error).not.toMatch(/^ {4}at |URIError/m);
});

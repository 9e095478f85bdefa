/** What people may give where something else is wanted. */
import fc from 'fast-check';

/** For what the types forbid. */
export type Any = never;

/** Values of every kind, and those at the edges of what is allowed. */
export const anyValue: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(undefined, null, 0, -0, -1, 1, 20, 1.5, Number.NaN, Infinity, 2 ** 53),
  fc.constantFrom<unknown>('', 'shared', 'exclusive', '1', true, false, 1n, Symbol('s')),
  fc.constantFrom<unknown>({}, [], () => {}, new Date(0), new AbortController().signal),
  fc.anything({ withBigInt: true, withNullPrototype: true, withTypedArray: true }),
);

/** One or several that may be wrong: a single one is what the checks of the others do not hide. */
export function optionsOf(...names: readonly string[]): fc.Arbitrary<unknown> {
  return fc.oneof(oneOf(...names), someOf(...names), anyValue);
}

/** The same for options beside others that are right. */
export function fieldsOf(...names: readonly string[]): fc.Arbitrary<object> {
  return fc.oneof(oneOf(...names), someOf(...names));
}

function oneOf(...names: readonly string[]): fc.Arbitrary<object> {
  const pair = fc.tuple(fc.constantFrom(...names), anyValue);
  return pair.map(([name, value]) => ({ [name]: value }));
}

function someOf(...names: readonly string[]): fc.Arbitrary<object> {
  const fields = Object.fromEntries(names.map((name) => [name, anyValue]));
  return fc.record(fields, { requiredKeys: [] });
}

/** Addresses that are nearly right, so that the parsers get to see them. */
export function nearUrls(...schemes: readonly string[]): fc.Arbitrary<unknown> {
  const parts = fc.tuple(
    fc.constantFrom(...schemes, 'http:', ''),
    fc.constantFrom('//', '//', '/', ''),
    fc.constantFrom('', 'user:pass@', ':%@', '%zz:%E0%A4%A@', '%:@', '@', 'a:b:c@', ':@'),
    fc.constantFrom('host', 'host:26379', 'h:1,i:2', '[::1]:6379', '[::1', ':', ',', 'h:99999', ''),
    fc.constantFrom('', '/', '/0', '/name', '/%', '/%zz/1', '/a/../b', '/zookeeper', '?a=1', '#'),
  );
  return fc.oneof(
    parts.map((all) => all.join('')),
    fc.webUrl(),
    fc.string(),
    anyValue,
  );
}

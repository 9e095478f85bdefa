/** The page of what was run says what the command has reported, and nothing else. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { tableOf } from './table.ts';

const PAGE = join(import.meta.dirname, '../../docs/reliability.md');
const RUNS = join(import.meta.dirname, 'runs.ndjson');

test('the table of docs/reliability.md is that of the runs', () => {
  expect(readFileSync(PAGE, 'utf8')).toContain(tableOf(readFileSync(RUNS, 'utf8')));
});

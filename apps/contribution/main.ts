/**
 * The application of the story: as a demonstration, the same contributions worked off without a lock, with a lock in the
 * process, and with Leasehold; and as a service. `npm start -- --help` says what can be chosen.
 */
import { accessSync, constants, realpathSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { constants as osConstants, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HELP, readArguments, type StoryArguments, UsageError } from './arguments.ts';
import { describe } from './engine-names.ts';
import { openInput } from './story/intake.ts';
import { headOf, type Row, sentenceOf, tableOf } from './story/report.ts';
import { exitCodeOf } from './story/verdict.ts';

const SAMPLE = fileURLToPath(new URL('../../../apps/contribution/sample.ndjson', import.meta.url));

class Interrupted extends Error {
  readonly exitCode: number;

  constructor(signal: NodeJS.Signals) {
    super(`ended by ${signal}`);
    // What a shell reports for a process that a signal ended.
    this.exitCode = 128 + osConstants.signals[signal];
  }
}

async function main(args: readonly string[], signal: AbortSignal): Promise<number> {
  const options = readArguments(args);
  if (options === null) {
    console.log(HELP);
    return 0;
  }
  // Engines are loaded when they are needed: mistakes are answered at once.
  if (options.command === 'serve') {
    const { serve } = await import('./service/service.ts');
    await serve(options, signal);
    return 0;
  }
  const input = options.input ?? SAMPLE;
  checkFiles(options, input);
  const folder = await mkdtemp(join(options.data ?? tmpdir(), 'leasehold-story-'));
  try {
    return await tell(options, input, folder, signal);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function tell(
  options: StoryArguments,
  input: string,
  folder: string,
  signal: AbortSignal,
): Promise<number> {
  const { Story } = await import('./story/story.ts');
  const story = new Story(options, folder, signal);
  const intake = await story.takeIn(openInput(input, signal));
  const inputName = input === '-' ? 'standard input' : basename(input);
  console.log(headOf(inputName, intake, options.rejects, describe(options)));
  if (intake.accepted === 0) {
    console.log('\nNothing to work off: no line is a contribution.');
    return 0;
  }
  console.log();
  const rows: Row[] = [];
  for await (const row of story.rows()) rows.push(row);
  console.log(`\n${tableOf(rows)}\n`);
  for (const row of rows) console.log(sentenceOf(row));
  return exitCodeOf(rows);
}

/** Finds the mistakes of the command line before anything is made. */
function checkFiles({ rejects, data }: StoryArguments, input: string): void {
  const inputStat = input === '-' ? null : statSync(input, { throwIfNoEntry: false });
  if (inputStat === undefined) throw new UsageError(`--input ${input}: no such file`);
  if (inputStat?.isDirectory()) throw new UsageError(`--input ${input}: a folder, not a file`);
  if (inputStat !== null && !isReadable(input))
    throw new UsageError(`--input ${input}: not readable`);
  const rejectsStat = statSync(rejects, { throwIfNoEntry: false });
  if (rejectsStat?.isDirectory()) throw new UsageError(`--rejects ${rejects}: a folder`);
  if (inputStat && rejectsStat && realpathSync(input) === realpathSync(rejects)) {
    throw new UsageError(`--rejects ${rejects} would overwrite the input; choose another file`);
  }
  if (data !== null && !statSync(data, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UsageError(`--data ${data}: no such folder`);
  }
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

/** Says what went wrong, as much of it as helps, and gives the exit code. */
function exitCodeFor(error: unknown): number {
  if (error instanceof Interrupted) return error.exitCode;
  if (error instanceof UsageError) {
    console.error(error.message);
    return 2;
  }
  console.error(error);
  return 1;
}

const interruption = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => interruption.abort(new Interrupted(signal)));
}
// Whoever reads the output may stop reading, as `head` does.
process.stdout.on('error', () => interruption.abort(new Interrupted('SIGPIPE')));

try {
  process.exitCode = await main(process.argv.slice(2), interruption.signal);
} catch (error) {
  // What was interrupted fails in its own words; the interruption is the reason.
  const { aborted, reason } = interruption.signal;
  process.exitCode = exitCodeFor(aborted ? reason : error);
}

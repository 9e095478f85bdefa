import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sampleLines } from '../../dist/apps/contribution/story/sample.js';

const MAIN = resolve('dist/apps/contribution/main.js');
const SAMPLE = resolve('apps/contribution/sample.ndjson');
const MAX_TRIES = 5;

interface Run {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Where the run stands, and where it makes its temporary folder. */
let folder: string;
let running: ChildProcess[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'leasehold-story-test-'));
});

afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
  running = [];
  rmSync(folder, { recursive: true });
});

function start(...args: string[]): { child: ChildProcess; end: Promise<Run>; out: () => string } {
  const data = args.includes('--data') ? [] : ['--data', folder];
  const child = spawn(process.execPath, [MAIN, ...args, ...data], { cwd: folder });
  running.push(child);
  let out = '';
  let err = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  const end = once(child, 'close').then(([code]) => ({ code: code as number | null, out, err }));
  return { child, end, out: () => out };
}

function run(...args: string[]): Promise<Run> {
  return start(...args).end;
}

/** Waits for something in the run, which must not end before. */
async function until(condition: () => boolean, child: ChildProcess): Promise<void> {
  while (!condition()) {
    expect(child.exitCode).toBe(null);
    await new Promise((again) => setTimeout(again, 10));
  }
}

function write(name: string, lines: Iterable<string>): string {
  const path = join(folder, name);
  writeFileSync(path, [...lines].map((line) => `${line}\n`).join(''));
  return path;
}

/** Amounts of 1, 2, 3 … over a few accounts, and what they add up to. */
function contributions(count: number, accounts: number): { lines: string[]; cents: string } {
  const lines = Array.from({ length: count }, (_, index) =>
    JSON.stringify({ account: `account-${index % accounts}`, amount: index + 1 }),
  );
  return { lines, cents: ((count * (count + 1)) / 2).toLocaleString('en-US') };
}

/** The cells of the table's only row with this title. */
function rowOf(out: string, title: string): string[] {
  const line = out.split('\n').find((text) => text.startsWith(`${title}  `)) ?? '';
  return line
    .slice(title.length)
    .trim()
    .split(/\s{2,}/);
}

function rejectsIn(path: string): { line: number; reason: string; text: string }[] {
  const text = readFileSync(join(folder, path), 'utf8').trim();
  return text === '' ? [] : text.split('\n').map((line) => JSON.parse(line));
}

/** Nothing but what the test itself made. */
function leftIn(): string[] {
  return readdirSync(folder).filter((name) => !name.endsWith('.ndjson'));
}

describe('the sample', () => {
  it('is what the generator makes', () => {
    const lines = [...sampleLines()];
    expect(readFileSync(SAMPLE, 'utf8') === `${lines.join('\n')}\n`).toBe(true);
    expect(lines.length).toBe(20_003);
  });
});

describe('the leasehold way', () => {
  it.each([0, 40, 85])('is exact with an instance killed at %i percent', async (percent) => {
    const { lines, cents } = contributions(1_500, 7);
    const input = write('input.ndjson', lines);
    const flags = ['--only', 'leasehold', '--kill-at', String(percent)];
    const { code, out, err } = await run('--input', input, ...flags);
    expect(err).toBe('');
    expect(rowOf(out, 'leasehold, 3 instances').slice(0, 2)).toEqual([cents, cents]);
    // Late in a short run, the end can come before the kill, and the story says so.
    expect(out).toMatch(/instance \d was killed \(-9\), and what it had|done before anybody/);
    if (percent === 0) expect(out).toContain('killed (-9)');
    expect(out).not.toContain('WRONG');
    expect(code).toBe(0);
    expect(leftIn()).toEqual([]);
  });

  it('replaces the only instance when that is killed', async () => {
    const { lines, cents } = contributions(3_000, 20);
    const input = write('input.ndjson', lines);
    const flags = ['--only', 'leasehold', '--workers', '1', '--kill-at', '5'];
    const { code, out } = await run('--input', input, ...flags);
    expect(rowOf(out, 'leasehold, 1 instance').slice(0, 2)).toEqual([cents, cents]);
    expect(out).toContain('instance 1 was killed (-9)');
    expect(code).toBe(0);
  });

  it('kills nobody with --no-kill', async () => {
    const { lines, cents } = contributions(300, 5);
    const input = write('input.ndjson', lines);
    const flags = ['--only', 'leasehold', '--workers', '2', '--no-kill'];
    const { code, out } = await run('--input', input, ...flags);
    expect(rowOf(out, 'leasehold, 2 instances').slice(0, 2)).toEqual([cents, cents]);
    expect(out).not.toContain('kill');
    expect(code).toBe(0);
  });
});

/** The processes that a process has started; only Linux says so. */
function childrenOf(pid: number | undefined): number[] {
  const list = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return list === '' ? [] : list.split(' ').map(Number);
}

/** A run with an instance that is stopped. On a machine that stalls, all may be done before one can be: then another run. */
async function startAndStopOne(
  ...args: string[]
): Promise<{ instance: number; end: Promise<Run> }> {
  for (let tries = 0; tries < MAX_TRIES; tries += 1) {
    const { child, end, out } = start(...args);
    await until(() => child.exitCode !== null || out().includes('killed (-9)'), child);
    try {
      const [instance] = childrenOf(child.pid) as [number];
      process.kill(instance, 'SIGSTOP');
      return { instance, end };
    } catch {
      await end;
    }
  }
  throw new Error('all was done before an instance could be stopped');
}

describe.skipIf(process.platform !== 'linux')('an instance that is stopped past its lease', () => {
  it('goes on and harms nothing', async () => {
    const { lines, cents } = contributions(3_000, 20);
    const input = write('input.ndjson', lines);
    const flags = ['--only', 'leasehold', '--kill-at', '5'];
    const { instance, end } = await startAndStopOne('--input', input, ...flags);
    // Longer than the ttl of the leases, so that others get them meanwhile.
    await new Promise((resume) => setTimeout(resume, 1_500));
    process.kill(instance, 'SIGCONT');
    const { code, out } = await end;
    expect(rowOf(out, 'leasehold, 3 instances').slice(0, 2)).toEqual([cents, cents]);
    expect(code).toBe(0);
  });
});

describe('the other ways', () => {
  it('are right where one task or one process works, wrong otherwise, and never fail the run', async () => {
    // All contributions go to one account, so that tasks cannot but meet.
    const { lines, cents } = contributions(1_000, 1);
    const input = write('input.ndjson', lines);
    const only = 'process-locks,no-lock,serial,process-lock';
    const { code, out } = await run('--input', input, '--only', only);
    expect(rowOf(out, 'one at a time').slice(0, 2)).toEqual([cents, cents]);
    expect(rowOf(out, 'lock in process, 1 instance').slice(0, 2)).toEqual([cents, cents]);
    for (const title of ['concurrent, no lock', 'lock in process, 3 instances']) {
      const row = rowOf(out, title);
      expect(row[0]).toBe(cents);
      expect(row[1]).not.toBe(cents);
      expect(row.at(-1)).toBe('WRONG');
      expect(out).toMatch(new RegExp(`${title}: [\\d,]+ of 1,000 updates lost, 1 of 1 account`));
    }
    expect(out).toContain('[1/4] one at a time');
    expect(code).toBe(0);
    expect(leftIn()).toEqual([]);
  });
});

describe('bad lines', () => {
  it('are kept with their numbers and reasons, and never stop the run', async () => {
    const { lines, cents } = contributions(20, 3);
    const long = `{"account":"a","note":"${'x'.repeat(70_000)}","amount":1}`;
    lines.splice(5, 0, '{"account":"a","amount":1.5}', '', 'no json', long);
    lines.push('{"amount":4}');
    const input = write('input.ndjson', lines);
    const { code, out } = await run(
      '--input',
      input,
      '--only',
      'leasehold',
      '--rejects',
      'r.ndjson',
    );
    const rejects = rejectsIn('r.ndjson');
    expect(rejects.map(({ line, reason }) => [line, reason])).toEqual([
      [6, '"amount" 1.5 is not a whole number of cents in plain digits'],
      [8, 'not JSON'],
      [9, 'longer than 65536 bytes'],
      [25, '"account" is missing'],
    ]);
    expect(rejects[1]?.text).toBe('no json');
    expect(out).toContain('20 accepted, 4 rejected -> r.ndjson');
    expect(out).toContain('        line 6: "amount" 1.5 is not a whole number of cents');
    expect(rowOf(out, 'leasehold, 3 instances').slice(0, 2)).toEqual([cents, cents]);
    expect(code).toBe(0);
  });

  it('leave nothing to do when there is nothing else', async () => {
    const input = write('input.ndjson', ['{', '[]', '1', '""', 'x', 'y', 'z']);
    const { code, out } = await run('--input', input);
    expect(out).toContain('0 accepted, 7 rejected -> rejects.ndjson');
    expect(out).toContain('        and 2 more\n');
    expect(out).toContain('Nothing to work off');
    expect(rejectsIn('rejects.ndjson').length).toBe(7);
    expect(code).toBe(0);
    expect(leftIn()).toEqual([]);
  });

  it('of an earlier run are gone from the rejects file when there are none', async () => {
    write('rejects.ndjson', ['{"line":1}']);
    const { code, out } = await run('--input', write('input.ndjson', []));
    expect(out).toContain('0 accepted, 0 rejected\n');
    expect(rejectsIn('rejects.ndjson')).toEqual([]);
    expect(code).toBe(0);
  });
});

describe('standard input', () => {
  it('is read with --input -', async () => {
    const { lines, cents } = contributions(30, 3);
    const { child, end } = start('--input', '-', '--only', 'leasehold', '--no-kill');
    child.stdin?.end(lines.join('\n'));
    const { code, out } = await end;
    expect(out).toContain('input   standard input   30 accepted, 0 rejected');
    expect(rowOf(out, 'leasehold, 3 instances').slice(0, 2)).toEqual([cents, cents]);
    expect(code).toBe(0);
  });
});

describe('the command line', () => {
  it('is explained by --help', async () => {
    const { code, out } = await run('--help');
    for (const flag of [
      '--input',
      '--only',
      '--workers',
      '--kill',
      '--rejects',
      '--data',
      '--amqp',
      '--redis',
      '--locks',
      'serve',
    ]) {
      expect(out).toContain(flag);
    }
    expect(out).toContain('whole number of cents');
    expect(code).toBe(0);
  });

  it.each([
    [['--workers', '0'], '--workers is a whole number from 1 to 16, not "0"'],
    [['--workers', '1.5'], '--workers is a whole number from 1 to 16, not "1.5"'],
    [['--kill-at', '101'], '--kill-at is a whole number from 0 to 100, not "101"'],
    [['--only', 'serial,magic'], '--only "magic" is not a way; there are serial, no-lock,'],
    [['--only', ''], '--only "" is not a way'],
    [['--input', 'nowhere.ndjson'], '--input nowhere.ndjson: no such file'],
    [['--input', '.'], '--input .: a folder, not a file'],
    [['--data', 'nowhere'], '--data nowhere: no such folder'],
    [['--rejects', '.'], '--rejects .: a folder'],
    [['--rejects', 'no/where'], '--rejects no/where: '],
    [['--wrokers', '2'], "Unknown option '--wrokers'"],
    [['stray'], "Unexpected argument 'stray'"],
    [['--amqp', 'http://user:secret@host'], '--amqp is no URL of the kind'],
    [['--redis', '127.0.0.1'], '--redis is no URL of the kind'],
    [['--locks', 'etcd://127.0.0.1'], '--locks is no URL of the kind'],
    [['serve', '--input', 'x'], "Unknown option '--input'"],
    [['serve', '--port', '70000'], '--port is a whole number from 0 to 65535'],
    [['serve', '--queue', 'a b'], '--queue is 1 to 100 letters'],
  ])('%j is refused with the reason and exit code 2', async (args, reason) => {
    const { code, out, err } = await run(...args);
    expect(err).toContain(reason);
    expect(err).not.toContain('    at ');
    expect(err).not.toContain('secret');
    expect(out).toBe('');
    expect(code).toBe(2);
    expect(leftIn()).toEqual([]);
  });

  it('never lets the rejects overwrite the input', async () => {
    const input = write('rejects.ndjson', ['{']);
    const { code, err } = await run('--input', input);
    expect(err).toContain('would overwrite the input');
    expect(readFileSync(input, 'utf8')).toBe('{\n');
    expect(code).toBe(2);
  });
});

describe('an end from outside', () => {
  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s ends the instances and removes the folder', async (signal, expected) => {
    const { child, end, out } = start('--only', 'leasehold', '--kill-at', '0');
    await until(() => out().includes('killed (-9)'), child);
    child.kill(signal);
    // The output is closed by the last process that holds it, so that this waits for the instances as well.
    const { code, err } = await end;
    expect(err).toBe('');
    expect(code).toBe(expected);
    expect(leftIn()).toEqual([]);
  });

  it('SIGTERM ends the wait for an input that never comes', async () => {
    const { child, end } = start('--input', '-');
    await until(() => leftIn().length > 0, child);
    child.kill('SIGTERM');
    const { code, err } = await end;
    expect(err).toBe('');
    expect(code).toBe(143);
    expect(leftIn()).toEqual([]);
  });

  it('comes when nobody reads the output any more', async () => {
    let code: unknown = 0;
    // On a machine that stalls, all may be written before the output is closed: then another run.
    for (let tries = 0; tries < MAX_TRIES && code === 0; tries += 1) {
      const { child, out } = start('--only', 'leasehold', '--kill-at', '0');
      const exited = once(child, 'exit');
      await until(() => out().includes('accepted'), child);
      child.stdout?.destroy();
      [code] = await exited;
      expect(leftIn()).toEqual([]);
    }
    expect(code).toBe(141);
  });

  it('by a kill leaves no instance behind', async () => {
    const { child, end, out } = start('--only', 'leasehold', '--kill-at', '0');
    await until(() => out().includes('killed (-9)'), child);
    child.kill('SIGKILL');
    expect((await end).code).toBe(null);
  });
});

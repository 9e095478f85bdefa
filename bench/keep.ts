/**
 * Results of full runs, and the report that is made of them: `bench/results/*.json`, `docs/benchmarks.md` and its plots.
 */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { cpus, platform, totalmem } from 'node:os';
import { join } from 'node:path';
import { PEERS } from './contenders.ts';
import { figure, type Report, type Table } from './measure.ts';
import { drawPlot } from './plot.ts';
import { BEYOND_ONE_MACHINE, INTRODUCTION, TITLES, WHAT_STANDS_IN_THE_WAY } from './prose.ts';
import { withServer } from './server.ts';

interface Kept extends Report {
  readonly measuredOn: string;
  readonly environment: string;
}

/** The folder of the project: this file runs from `bench/dist/bench`. */
const ROOT = join(import.meta.dirname, '../../..');
const RESULTS = join(ROOT, 'bench/results');
const DOCUMENT = join(ROOT, 'docs/benchmarks.md');
const PLOTS = join(ROOT, 'docs/benchmarks');

export function environment(): string {
  const all = cpus();
  const gigabytes = Math.round(totalmem() / 2 ** 30);
  const model = all[0]?.model.trim() ?? 'unknown';
  return `Node.js ${process.version}, ${platform()}, ${all.length} x ${model}, ${gigabytes} GB`;
}

export async function keepResult(report: Report): Promise<void> {
  const measuredOn = new Date().toISOString().slice(0, 10);
  const kept: Kept = { ...report, measuredOn, environment: environment() };
  await mkdir(RESULTS, { recursive: true });
  await writeFile(
    join(RESULTS, `${report.workload}.json`),
    `${JSON.stringify(kept, roughly, 1)}\n`,
  );
}

/** Six digits are more than any of them is exact to. */
function roughly(_name: string, value: unknown): unknown {
  return typeof value === 'number' ? Number(value.toPrecision(6)) : value;
}

/** Writes the document and its plots anew. */
export async function writeReport(): Promise<void> {
  const kept: Kept[] = [];
  for (const name of Object.keys(TITLES)) {
    const file = join(RESULTS, `${name}.json`);
    const text = await readFile(file, 'utf8').catch(() => null);
    if (text !== null) kept.push(JSON.parse(text) as Kept);
  }
  await rm(PLOTS, { recursive: true, force: true });
  await mkdir(PLOTS, { recursive: true });
  for (const plot of kept.flatMap(({ plots }) => plots)) {
    await writeFile(join(PLOTS, `${plot.file}.svg`), drawPlot(plot));
  }
  await writeFile(DOCUMENT, await documentOf(kept));
  console.log(`docs/benchmarks.md: ${kept.length} workloads of ${(await readdir(RESULTS)).length}`);
}

async function documentOf(kept: readonly Kept[]): Promise<string> {
  const machines = [...new Set(kept.map((one) => one.environment))];
  const days = [...new Set(kept.map((one) => one.measuredOn))].sort();
  const redis = await withServer((server) => server.version());
  const facts = [
    `- Measured on: ${machines.join('; ')}.`,
    `- Servers on the same machine: Redis ${redis}, without persistence.`,
    `- Client: ioredis ${versionOf('ioredis')}, the newest that all peers accept.`,
    `- Peers: ${PEERS.map((name) => `${name.split(' ')[0]} ${versionOfPeer(name)}`).join(', ')}, async-mutex ${versionOf('async-mutex')}.`,
    `- Days: ${days.join(', ')}.`,
  ];
  const sections = kept.flatMap((one) => sectionOf(one, machines.length > 1));
  const ends = [WHAT_STANDS_IN_THE_WAY, BEYOND_ONE_MACHINE];
  const parts = [INTRODUCTION, facts.join('\n'), targetsOf(kept), ...sections, ...ends];
  return `${parts.join('\n\n')}\n`;
}

function targetsOf(kept: readonly Kept[]): string {
  const lines = kept.flatMap(({ workload, checks }) =>
    checks.map(({ what, measured, target, met }) =>
      row([`\`${workload}\``, what, measured, target, met ? 'met' : '**missed**']),
    ),
  );
  const head = [row(['workload', 'figure', 'measured', 'target', '']), row(Array(5).fill('---'))];
  return ['## Targets', '', ...head, ...lines].join('\n');
}

/** Where not all was measured on one machine, each section names its own. */
function sectionOf(
  { workload, tables, notes, plots, environment: machine }: Kept,
  isNamed: boolean,
): string[] {
  const title = TITLES[workload] ?? workload;
  const pictures = plots.map(({ file, title: name }) => `![${name}](benchmarks/${file}.svg)`);
  const list = notes.map((note) => `- ${note}`).join('\n');
  return [
    `## ${title}`,
    `\`npm run bench -- ${workload}\`${isNamed ? `, on ${machine}` : ''}`,
    ...tables.flatMap((table) => [`**${table.title}**`, tableOf(table)]),
    ...(list === '' ? [] : [list]),
    ...pictures,
  ];
}

function tableOf({ columns, rows }: Table): string {
  const used = columns.filter(({ key }) => rows.some(({ figures }) => key in figures));
  const head = row(['', ...used.map(({ label }) => label)]);
  const rule = row(['---', ...used.map(() => '---:')]);
  const body = rows.map(({ name, figures, invalid }) => {
    const cells = used.map(({ key, digits }, index) => {
      if (invalid !== undefined) return index === 0 ? `void: ${invalid}` : '';
      return figures[key] === undefined ? '' : figure(figures[key], digits);
    });
    return row([name, ...cells]);
  });
  return [head, rule, ...body].join('\n');
}

function row(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}

function versionOfPeer(name: string): string {
  return name.split(' ')[1] ?? versionOf(name);
}

function versionOf(name: string): string {
  const manifest = createRequire(join(ROOT, 'bench/package.json'));
  const { dependencies } = manifest('./package.json') as { dependencies: Record<string, string> };
  return dependencies[name] ?? 'unknown';
}

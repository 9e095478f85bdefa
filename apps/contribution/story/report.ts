/** What the story prints: the head, the table, and a sentence for each row. */
import type { Effort } from './crew.ts';
import type { Intake } from './intake.ts';
import type { Verdict } from './verdict.ts';
import type { Way } from './ways.ts';

export interface Row {
  readonly way: Way;
  readonly instances: number;
  readonly verdict: Verdict;
  readonly effort: Effort;
  /** How many messages there were in all; the way may have worked on the first of them only. */
  readonly accepted: number;
  /** A kill was asked for. */
  readonly killWanted: boolean;
}

const NUMBERS = new Intl.NumberFormat('en-US');

export function headOf(
  inputName: string,
  intake: Intake,
  rejectsPath: string,
  engines: string,
): string {
  const { accepted, rejected, accounts, rejects } = intake;
  const counts = `${count(accepted, 'contribution')}, ${count(accounts, 'account')}`;
  const where = rejected === 0 ? '' : ` -> ${rejectsPath}`;
  const lines = [
    `leasehold story   ${counts}, ${engines}`,
    `input   ${inputName}   ${number(accepted)} accepted, ${number(rejected)} rejected${where}`,
    ...rejects.map(({ line, reason }) => `        line ${line}: ${reason}`),
  ];
  const more = rejected - rejects.length;
  if (more > 0) lines.push(`        and ${number(more)} more`);
  return lines.join('\n');
}

/** How many instances there are is the point of the ways that have a lock. */
export function titleOf(way: Way, instances: number): string {
  return way.guard === 'none' ? way.title : `${way.title}, ${count(instances, 'instance')}`;
}

export function tableOf(rows: readonly Row[]): string {
  const cells = rows.map(({ way, instances, verdict, effort }) => [
    titleOf(way, instances),
    number(verdict.expectedCents),
    number(verdict.actualCents),
    number(rateOf(verdict.messages, effort.seconds)),
    way.guard === 'none' ? '0 / 0 ms' : waitsOf(effort),
    verdict.exact ? '' : 'WRONG',
  ]);
  const head = ['way', 'expected', 'actual', 'msg/s', 'wait p50 / p99', ''];
  const widths = head.map((title, column) =>
    Math.max(title.length, ...cells.map((row) => (row[column] as string).length)),
  );
  const lines = [head, ...cells].map((row) =>
    row
      .map((cell, column) => {
        const width = widths[column] as number;
        return column === 0 || column === 5 ? cell.padEnd(width) : cell.padStart(width);
      })
      .join('  ')
      .trimEnd(),
  );
  return lines.join('\n');
}

/** Why the row is as it is, from what was measured. */
export function sentenceOf(row: Row): string {
  const { way, verdict } = row;
  const parts = [verdict.exact ? way.right : `${damageOf(verdict)}: ${way.wrong}`];
  if (verdict.messages < row.accepted) {
    parts.push(`only the first ${number(verdict.messages)} messages, since it is slow`);
  }
  if (way.decisive) parts.push(...mishapsOf(row));
  return `${titleOf(way, row.instances)}: ${parts.join('; ')}.`;
}

function damageOf({ lost, messages, wrongAccounts, accounts }: Verdict): string {
  const where = `${number(wrongAccounts)} of ${count(accounts, 'account')} wrong`;
  if (lost < 0) return `${number(-lost)} of ${number(messages)} counted twice, ${where}`;
  return `${number(lost)} of ${count(messages, 'update')} lost, ${where}`;
}

function mishapsOf({ effort, killWanted }: Row): string[] {
  const { killed, busy } = effort;
  const mishaps: string[] = [];
  if (killed !== null) {
    mishaps.push(
      `instance ${killed} was killed (-9), and what it had not acknowledged went to the others`,
    );
  } else if (killWanted) {
    mishaps.push('it was done before anybody could be killed');
  }
  if (busy > 0) mishaps.push(`${count(busy, 'message')} came back later because a lock was busy`);
  return mishaps;
}

/** Three digits tell enough of a speed. */
function rateOf(messages: number, seconds: number): number {
  return seconds > 0 ? Number((messages / seconds).toPrecision(3)) : 0;
}

function waitsOf({ waits }: Effort): string {
  return `${waitOf(waits.percentile(50))} / ${waitOf(waits.percentile(99))} ms`;
}

function waitOf(microseconds: number): string {
  const ms = microseconds / 1_000;
  return ms < 10 ? ms.toFixed(1) : number(Math.round(ms));
}

function count(value: number, noun: string): string {
  return `${number(value)} ${noun}${value === 1 ? '' : 's'}`;
}

function number(value: number | bigint): string {
  return NUMBERS.format(value);
}

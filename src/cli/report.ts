/**
 * Locks as text: for people, and as JSON for programs.
 */
import type { HolderReport, LockReport } from '../redis/inspector.ts';

/** Columns of the list: two moments, and how many wait; the holder and the name have what they need. */
const MOMENT_WIDTH = 24;
const WAITING_WIDTH = 7;
const HOLDER_WIDTH = 28;

export const LIST_HEAD: string = columns('SINCE', 'UNTIL', 'WAITING', 'HOLDER', 'NAME');

export function lineOf(report: LockReport): string {
  const { name, holders, waiters } = report;
  const [first] = holders;
  const others = holders.length - 1;
  const holder = first === undefined ? '-' : shortOwner(first, report);
  return columns(
    momentOf(first?.since),
    momentOf(lastEnd(holders)),
    String(waiters.length),
    others > 0 ? `${holder} and ${others} more` : holder,
    printable(name),
  );
}

export function pageOf(report: LockReport): string {
  const { name, holders, waiters } = report;
  const lines = [`${printable(name)}: ${stateOf(report)}`];
  for (const holder of holders) {
    lines.push(`  held by ${printable(holder.owner)}`);
    const since = holder.since === null ? '' : `since ${momentOf(holder.since)}, `;
    lines.push(`    ${since}until ${momentOf(holder.until)} unless it is renewed`);
  }
  lines.push(`  ${waiters.length} ${waiters.length === 1 ? 'waits' : 'wait'}`);
  for (const [index, { owner }] of waiters.entries()) {
    lines.push(`    ${index + 1}. ${printable(owner)}`);
  }
  return lines.join('\n');
}

/** The list knows how many wait; `locks show` knows who. */
export function jsonOf(report: LockReport): string {
  return JSON.stringify({ ...report, waiting: report.waiters.length });
}

const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/** Names and owners come from anywhere: nothing in them may steer the terminal. */
export function printable(text: string): string {
  if (text.search(UNPRINTABLE) === -1) return text;
  const escaped = (one: string): string => `\\u{${one.codePointAt(0)?.toString(16)}}`;
  return `"${text.replace(UNPRINTABLE, escaped)}"`;
}

function stateOf({ mode, limit, holders }: LockReport): string {
  switch (mode) {
    case 'exclusive':
      return 'held by one alone';
    case 'shared':
      return `shared by ${holders.length}`;
    case 'permits':
      return `${holders.length} of ${limit} permits are taken`;
    case 'foreign':
      return 'held by a client of another kind';
    case 'free':
      return 'nobody holds it';
    default:
      return mode satisfies never;
  }
}

/** Host and process; the whole owner value is in `locks show`. */
function shortOwner({ owner }: HolderReport, { mode }: LockReport): string {
  if (mode === 'foreign') return '(a client of another kind)';
  return printable(/^(.+?:\d+):/.exec(owner)?.[1] ?? owner);
}

function lastEnd(holders: readonly HolderReport[]): Date | null {
  return holders.reduce<Date | null>(
    (last, { until }) => (last === null || until > last ? until : last),
    null,
  );
}

function momentOf(moment: Date | null | undefined): string {
  return moment?.toISOString() ?? '-';
}

function columns(
  since: string,
  until: string,
  waiting: string,
  holder: string,
  name: string,
): string {
  return [
    since.padEnd(MOMENT_WIDTH),
    until.padEnd(MOMENT_WIDTH),
    waiting.padStart(WAITING_WIDTH),
    holder.padEnd(HOLDER_WIDTH),
    name,
  ].join('  ');
}

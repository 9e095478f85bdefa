/** Runs the command as a person would, for tests. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Report } from './report.ts';

const PROGRAM = join(import.meta.dirname, '../../dist/test/torture/main.js');
/** A schedule may miss every place where a lock without a fence fails: then the next one is tried. */
const MAX_SCHEDULES = 3;

/** Nothing may be wrong in any run, and some run must have caught its controls. */
export async function expectTorture(args: readonly string[], seed: number): Promise<void> {
  for (let next = seed; ; next += 1) {
    const all = [...args, '--json', '--seed', String(next)];
    const { code, stdout, stderr } = await command(all);
    const report = stdout === '' ? null : (JSON.parse(stdout) as Report);
    const how = `npm run torture -- ${all.join(' ')}\n${stderr}`;
    expect(report?.violations, how).toEqual([]);
    expect(Object.keys(report?.injected ?? {}), how).not.toEqual([]);
    if (report?.proves) {
      expect(code, how).toBe(0);
      return;
    }
    expect(code, how).toBe(3);
    expect(next - seed, `no control was caught: ${how}`).toBeLessThan(MAX_SCHEDULES - 1);
  }
}

export function command(
  args: readonly string[],
): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [PROGRAM, ...args], (_, stdout, stderr) => {
      resolve({ code: child.exitCode ?? -1, stdout, stderr });
    });
  });
}

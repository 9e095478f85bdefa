/** Wall clocks of single processes, by libfaketime, set by writing a file. The monotonic clock stays right. */
import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const LIBRARIES = ['x86_64', 'aarch64'].map(
  (cpu) => `/usr/lib/${cpu}-linux-gnu/faketime/libfaketime.so.1`,
);

/** Where libfaketime is, if it is. */
export function findFaketime(): string | null {
  return LIBRARIES.find((path) => existsSync(path)) ?? null;
}

export function clockFileOf(folder: string): string {
  return join(folder, 'clock.conf');
}

/** What a process needs in its environment, so that the file sets its clock. */
export function clockEnvironment(faketime: string, file: string): Record<string, string> {
  return {
    // Redis hangs at its start unless the C library comes right after.
    LD_PRELOAD: `${faketime}:libc.so.6`,
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
  };
}

/** It is read all the time, and must never be seen half written. */
export function setClock(file: string, seconds: number): void {
  writeFileSync(`${file}.new`, `${seconds < 0 ? '' : '+'}${seconds}s\n`);
  renameSync(`${file}.new`, file);
}

/** The probe tries every command that the scripts of locks use, so that a right that is missing is named at once. */
import { expect, test } from 'vitest';
import { BREAK } from '../../dist/src/redis/scripts/break.js';
import { PROBE } from '../../dist/src/redis/scripts/probe.js';
import { STEP } from '../../dist/src/redis/scripts/step.js';
import { INQUIRE } from '../../dist/src/redlock/scripts/inquire.js';
import { READMIT } from '../../dist/src/redlock/scripts/readmit.js';
import { newStep } from '../../dist/src/redlock/scripts/step.js';
import { VOUCH } from '../../dist/src/redlock/scripts/vouch.js';

/** Named in another way: by the question for the run id, and by a node that goes on abstaining. */
const ELSEWHERE = ['INFO', 'HVALS'];

function commandsOf(lua: string, caller: string): string[] {
  const calls = lua.matchAll(new RegExp(`\\b${caller}\\('([A-Z]+)'`, 'g'));
  return [...new Set([...calls].map(([, command]) => command as string))].sort();
}

test.each([STEP, BREAK, newStep('w1'), INQUIRE, READMIT, VOUCH])('of $name', ({ lua }) => {
  const used = commandsOf(lua, 'call').filter((command) => !ELSEWHERE.includes(command));
  expect(used.length).toBeGreaterThan(0);
  const tried = commandsOf(PROBE.lua, 'try');
  expect(used.filter((command) => !tried.includes(command))).toEqual([]);
});

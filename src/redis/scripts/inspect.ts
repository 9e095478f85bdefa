/**
 * Reads everything that is kept for one key, and changes nothing.
 *
 * KEYS  lock, members, order
 * gives {now in ms since 1970, the lock's value or {the name of its type}, ms until it ends, members with their records,
 *        order with its scores}
 */
import { type Script, script } from './script.ts';

export const INSPECT: Script = script(
  'inspect',
  `
local call = redis.call
local time = call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local kind = call('TYPE', KEYS[1]).ok
local value = false
if kind == 'string' then value = call('GET', KEYS[1]) elseif kind ~= 'none' then value = { kind } end
return {
  string.format('%.0f', nowMs), value, call('PTTL', KEYS[1]),
  call('HGETALL', KEYS[2]), call('ZRANGE', KEYS[3], 0, -1, 'WITHSCORES')
}
`,
);

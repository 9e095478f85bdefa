/**
 * A value with a fence: both in one hash, so that they are written, replicated and lost together.
 *
 * | field | holds                                                         |
 * |-------|---------------------------------------------------------------|
 * | `t`   | the highest token that has read or written, as 20 digits      |
 * | `o`   | the process that used it                                      |
 * | `n`   | the version: how often the value was written                  |
 * | `v`   | the value                                                     |
 * | `x`   | when the value expires, in ms since 1970; it may be missing   |
 *
 * KEYS  the value, and whatever keys a custom script was given
 * ARGV  token, process, fence memory in ms, `get`, `set`, `cas` or `run`; then
 *       set  value, ttl in ms or nothing
 *       cas  value, ttl in ms or nothing, expected version
 *       run  the arguments of the custom script
 * gives {'stale', the token at the fence}, or
 *       get  {'ok', version, value}
 *       set  {'ok', version}
 *       cas  {'ok', version} or {'differs', version}
 *       run  {'ok', what the custom script returned}
 *
 * The key outlives the value by the fence memory, counted from the last use: a writer may come late.
 *
 * Reading raises the fence as well: without that, a writer that stalled between its read and its write could overwrite
 * the value under the eyes of a successor that has read but not yet written.
 */
import { type Script, script } from './script.ts';

/** Whether somebody with a higher token was here, for scripts that have `token` and `process`. */
export const STALE_LUA = `
-- Texts of 20 digits compare as the numbers do; as Lua numbers they would lose their last digits.
local function isStale(highest, owner)
  return highest and (token < highest or (token == highest and process ~= owner))
end
`;

const FENCE_LUA = `
local call = redis.call
local token, process, memoryMs = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
${STALE_LUA}
local action = ARGV[4]
local fence = call('HMGET', KEYS[1], 't', 'o', 'n', 'v', 'x')
if isStale(fence[1], fence[2]) then return { 'stale', fence[1] } end
local version = tonumber(fence[3] or '0')
if fence[5] and tonumber(fence[5]) <= nowMs then
  call('HDEL', KEYS[1], 'v', 'x')
  fence[4], fence[5] = false, false
end

local function keep()
  local value = call('HMGET', KEYS[1], 'v', 'x')
  if value[1] and not value[2] then
    call('PERSIST', KEYS[1])
  else
    local leftMs = value[1] and math.max(0, tonumber(value[2]) - nowMs) or 0
    call('PEXPIRE', KEYS[1], string.format('%.0f', leftMs + memoryMs))
  end
end

call('HSET', KEYS[1], 't', token, 'o', process)
if action == 'get' then
  keep()
  return { 'ok', version, fence[4] }
end
`;

export const FENCE: Script = script(
  'fence',
  `${FENCE_LUA}
if action == 'cas' and version ~= tonumber(ARGV[7]) then
  keep()
  return { 'differs', version }
end
call('HSET', KEYS[1], 'v', ARGV[5], 'n', version + 1)
if ARGV[6] == '' then
  call('HDEL', KEYS[1], 'x')
else
  call('HSET', KEYS[1], 'x', string.format('%.0f', nowMs + ARGV[6]))
end
keep()
return { 'ok', version + 1 }
`,
);

/** The fence around a script of the caller's, which runs only when the token is good. */
export function fencedScript(lua: string): Script {
  return script(
    'fenced',
    `${FENCE_LUA}
local function body(KEYS, ARGV)
${lua}
end
local arguments = {}
for index = 5, #ARGV do arguments[index - 4] = ARGV[index] end
-- What fails in there, or deletes the key, must not leave a fence for ever, or none.
keep()
local result = body(KEYS, arguments)
call('HSET', KEYS[1], 't', token, 'o', process)
keep()
return { 'ok', result }
`,
  );
}

/** Forgets the fence and keeps the value. KEYS the value. */
export const RESET: Script = script('reset', "return redis.call('HDEL', KEYS[1], 't', 'o')");
